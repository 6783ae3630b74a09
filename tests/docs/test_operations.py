"""The operations page names every code, signal, variable, file, endpoint, state and limit of the code, and no other."""

import fnmatch
import re
from pathlib import Path
from typing import Any, cast

import fustor_core.program.exitcodes
import fustor_supervisor.exitcodes
from agent import AgentUnderTest
from checkout import ROOT, distributions, files
from fustor_agent import lane, outgoing, pump
from fustor_agent.console.board import StatusBoard
from fustor_agent.console.routes import PIPE_ACTIONS, build_app
from fustor_agent.paths import Paths
from fustor_agent.usage import UsageMeter
from fustor_agent.workers import pusher
from fustor_core.clock import IndexClock
from fustor_core.drivers import SourceContext
from fustor_core.program import logs
from fustor_core.program.yamlfile import MAX_BYTES
from fustor_fusion import FusionConfig
from fustor_fusion.app import list_endpoints
from fustor_fusion.context import Context
from fustor_fusion.questions import MAX_SYNC_S
from fustor_pusher_fusion.config import FusionConfig as SenderConfig
from fustor_pusher_fusion.public import DRAIN_TIMEOUT_S
from fustor_source_fs.config import FsParams
from fustor_supervisor import loop
from fustor_supervisor.channel import MAX_FRAME_BYTES
from fustor_supervisor.specs import RestartPolicy, StuckLimits
from fustor_supervisor.states import WorkerState

PAGE = "docs/operations.md"
TEXT = (ROOT / PAGE).read_text()


def test_every_exit_code_of_the_command_line_has_a_row(table) -> None:
    rows = {(int(row[0]), row[1]) for row in table(PAGE, "## Exit codes of `fustor-agent`")}
    assert rows == {(code.value, code.name) for code in fustor_core.program.exitcodes.ExitCode}


def test_every_exit_code_of_a_worker_has_a_row(table) -> None:
    rows = {(int(row[0]), row[1]) for row in table(PAGE, "## Exit codes of a worker")}
    assert rows == {(code.value, code.name) for code in fustor_supervisor.exitcodes.ExitCode}


def test_every_signal_has_a_row(table) -> None:
    assert {row[0] for row in table(PAGE, "## Signals")} == {number.name for number in loop._SIGNALS}


def test_every_environment_variable_has_a_row(table) -> None:
    code = [
        (ROOT / path).read_text() for path in files(untracked=True)
        if path.suffix == ".py" and any(path.is_relative_to(each.package) for each in distributions())
    ]
    read = set(re.findall(r'"(FUSTOR_[A-Z_]+)"', "\n".join(code)))
    assert {row[0] for row in table(PAGE, "## Environment variables")} == {f"`{name}`" for name in read}


def test_every_endpoint_of_the_console_has_a_row(table) -> None:
    app = build_app(StatusBoard(UsageMeter()), act=cast(Any, None), token="", host="")
    served = {f"{method} {route.path}" for route in cast(Any, app.routes) for method in route.methods - {"HEAD"}}
    rows = table(PAGE, "## Console")
    assert {name for row in rows for name in re.findall(r"`([A-Z]+ .*?)`", row[0])} == served
    (actions,) = (row[1] for row in rows if "{action}" in row[0])
    assert tuple(re.findall(r"`(\w+)`", actions)) == PIPE_ACTIONS


def test_every_endpoint_of_fusion_has_a_row(table) -> None:
    served = {f"{endpoint.method} {endpoint.path}" for endpoint in list_endpoints(cast(Context, None))}
    rows = table(PAGE, "## Fusion")
    assert {name for row in rows for name in re.findall(r"`([A-Z]+ .*?)`", row[0])} == served


def test_every_state_has_a_row(table) -> None:
    assert [row[0] for row in table(PAGE, "## States")] == [f"`{state.value}`" for state in WorkerState]


def test_every_file_of_a_running_agent_has_a_row(table, tmp_path: Path, start_agent) -> None:
    (tmp_path / "tree").mkdir()
    agent: AgentUnderTest = start_agent(watch=tmp_path / "tree")
    agent.wait_ready()
    agent.command("reload")
    found = [
        str(path.relative_to(agent.home)) for path in agent.home.rglob("*")
        if path.is_file() and not path.name.startswith(".")  # being written
    ]
    named = [name for row in table(PAGE, "## Files") for name in re.findall(r"`([\w./-]+)`", row[0])]
    patterns = [name.replace("PIPE", "*") + ("*" if name.endswith((".db", "/")) else "") for name in named]
    unnamed = [
        name for name in found if name != "output.log" and not any(fnmatch.fnmatch(name, each) for each in patterns)
    ]
    assert "state/fusion-watch.db-wal" in found
    assert unnamed == []


def test_every_file_that_has_a_name_of_its_own_has_a_row(table) -> None:
    paths = Paths(home=Path("/h"))
    values = {name: getattr(paths, name) for name in vars(Paths) if isinstance(vars(Paths)[name], property)}
    named = {name for row in table(PAGE, "## Files") for name in re.findall(r"`([\w./-]+)`", row[0])}
    assert {str(path.relative_to("/h")) for name, path in values.items() if not name.endswith("_dir")} <= named


def test_the_limits_are_those_of_the_code(table) -> None:
    rows = {row[0]: row[1] for row in table(PAGE, "## Limits")}
    body = FusionConfig(state_dir=Path(), views=(), agent_key="", reader_key="").max_body_bytes
    context = SourceContext(pipe_id="", clock=IndexClock(0), state_dir=Path())
    assert rows["changed names remembered one by one"] == f"{context.max_pending:,} per pipe"
    assert rows["kernel output waiting to be looked at"].startswith(f"{FsParams().max_backlog_bytes:,} bytes")
    assert rows["rows in one batch"].startswith(f"{pump._BATCH_ROWS:,}; {pump._SHARED_BATCH_ROWS:,} ")
    assert rows["bytes in one batch"].startswith(f"{outgoing.BATCH_BYTES:,}, ")
    assert rows["batches under way on a lane"] == str(lane.WINDOW_BATCHES)
    assert rows["one frame of a link"] == f"{MAX_FRAME_BYTES:,} bytes"
    assert rows["one request body at Fusion"] == f"{body:,} bytes"
    assert rows["`sync`"] == f"{MAX_SYNC_S} s"
    assert rows["a configuration file"] == f"{MAX_BYTES:,} bytes"
    assert rows["the log"] == f"{logs.MAX_BYTES:,} bytes, {logs.KEPT} old files are kept"


def test_delays_and_times_are_those_of_the_code() -> None:
    restart, stuck = RestartPolicy(), StuckLimits()
    assert restart.first_s == 0
    delays = f"at once, then after {restart.base_s:g} s, doubling up to {restart.cap_s:g} s"
    assert f"{delays}, each ± {restart.jitter * 100:g} %." in TEXT
    assert f"After {restart.healthy_after_s:g} s of being ready" in TEXT
    assert f"for {stuck.owed_s:g} s (a source in a snapshot or an audit: 14 s)" in TEXT
    assert f"did not answer the supervisor for {stuck.answer_s:g} s after a ping" in TEXT
    assert f"not become ready within {stuck.start_s:g} s; it is pinged every {stuck.ping_s:g} s" in TEXT


def test_the_advice_quotes_messages_that_exist(table) -> None:
    code = "\n".join(
        (ROOT / path).read_text() for path in files(untracked=True)
        if path.suffix in (".py", ".js") and any(path.is_relative_to(each.package) for each in distributions())
    )
    quotes = [
        part
        for row in table(PAGE, "## What to do when")
        for quote in re.findall(r"`([^`]+)`", row[0]) if " " in quote
        for part in (each.strip(' ";:') for each in quote.split("…")) if part
    ]
    assert len(quotes) > 6
    assert [quote for quote in quotes if quote not in code] == []


def test_sources_and_pushers_have_the_limits_that_are_told() -> None:
    from fustor_agent.plan import _SOURCE_LIMITS

    sender = SenderConfig(endpoint="http://host", credential="k")
    assert _SOURCE_LIMITS.phases == dict.fromkeys(("snapshot", "audit"), 14.0)
    assert f"reported after {pusher._SILENCE_S:g} s" in TEXT
    assert f"`read_timeout_s`, {sender.read_timeout_s:g} s;" in TEXT
    assert f"may rightly take {DRAIN_TIMEOUT_S:g} s" in TEXT
    # a blocked push is noticed within 15 s by the sender, a sender that is stuck itself by the supervisor
    assert max(sender.read_timeout_s + sender.connect_timeout_s, StuckLimits().owed_s) <= 15.0
    assert pusher._BEATS_PER_TIMEOUT == 3
    assert "called three times per" in (ROOT / "docs/driver_design.md").read_text()
