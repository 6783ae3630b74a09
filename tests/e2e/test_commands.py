"""The command line, as a person uses it: the real program, its exit codes and what it says."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from agent import AgentUnderTest
from configfile import write_config
from desk import EMBEDDED, Desk
from fustor_source_fs.recorder import read_recording
from oracle import differences, walk
from processes import is_alive
from replay import Replay
from waiting import until

_DONE, _FAILED, _NOT_RUNNING, _ALREADY, _BAD_CONFIG = 0, 1, 3, 4, 5


# -- start and stop -------------------------------------------------------------------------


def test_start_in_the_background_returns_when_the_workers_are_ready_and_says_where(desk: Desk) -> None:
    desk.configure(desk.tree("a"))
    done = desk.run("start", "-D")
    assert done.stderr == ""
    assert f"pid {desk.pid}" in done.stdout
    assert desk.agent.console_url in done.stdout
    assert is_alive(desk.pid)
    assert {worker["name"]: worker["state"] for worker in desk.status()["workers"]} == dict.fromkeys(
        ("fusion", "p-a.source", "p-a.pusher", "console"), "running"
    )


def test_a_second_start_is_refused_and_disturbs_nothing(desk: Desk) -> None:
    desk.configure(desk.tree("a"))
    desk.run("start", "-D")
    before = desk.pids()
    for arguments in (("start", "-D"), ("start",)):
        done = desk.run(*arguments, code=_ALREADY)
        assert f"pid {desk.pid}" in done.stderr
    assert desk.pids() == before


def test_stop_ends_every_process_and_a_second_stop_says_that_nothing_runs(desk: Desk) -> None:
    desk.configure(desk.tree("a"))
    desk.run("start", "-D")
    desk.wait_ready()
    pid = desk.pid
    assert len(desk.processes()) == 5
    assert f"pid {pid}" in desk.run("stop").stdout
    assert desk.processes() == set()
    assert "not running" in desk.run("stop", code=_NOT_RUNNING).stderr


@pytest.mark.parametrize("content", [b"", b"nonsense", b"999999999\n", b"-1\n", b"0\n"])
def test_a_stale_pid_file_stops_nobody_and_hinders_no_start(desk: Desk, content: bytes) -> None:
    desk.configure(desk.tree("a"))
    (desk.home / "agent.pid").write_bytes(content)
    desk.run("stop", code=_NOT_RUNNING)
    desk.run("status", code=_NOT_RUNNING)
    desk.run("start", "-D")
    assert is_alive(desk.pid)


def test_a_pid_file_that_names_another_program_never_signals_it(desk: Desk) -> None:
    desk.configure(desk.tree("a"))
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as other:
        (desk.home / "agent.pid").write_text(f"{other.pid}\n")
        desk.run("stop", code=_NOT_RUNNING)
        desk.run("reload", code=_NOT_RUNNING)
        desk.run("restart")
        assert desk.pid != other.pid
        assert other.poll() is None
        other.communicate(timeout=20)
    assert other.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_in_the_foreground_a_signal_ends_all_of_it(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "tree").mkdir()
    with AgentUnderTest(tmp_path / "home", watch=tmp_path / "tree") as agent:
        agent.wait_ready()
        assert agent.process is not None
        agent.process.send_signal(number)
        assert agent.process.wait(30) == 0
    assert "Traceback" not in agent.log()


def test_after_a_killed_supervisor_the_next_start_works_at_once(desk: Desk) -> None:
    desk.configure(desk.tree("a"))
    desk.run("start", "-D")
    desk.wait_ready()
    os.kill(desk.pid, signal.SIGKILL)
    desk.run("start", "-D")
    desk.wait_ready()


def test_restart_replaces_every_process_and_keeps_what_it_was_started_on(desk: Desk) -> None:
    tree = desk.tree("a")
    desk.run("start", "-D", "--watch", str(tree))
    before, pid = desk.pids(), desk.pid
    desk.run("restart")
    assert desk.pid != pid
    assert desk.pids().keys() == before.keys()
    assert not set(desk.pids().values()) & set(before.values())
    desk.wait_ready()


# -- what keeps it from starting ------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "variable"), [("console", "FUSTOR_CONSOLE_PORT"), ("fusion", "FUSTOR_FUSION_PORT")]
)
@pytest.mark.parametrize("arguments", [("start",), ("start", "-D")])
def test_a_port_that_is_taken_is_named_with_the_remedy(
    desk: Desk, section: str, variable: str, arguments: tuple[str, ...]
) -> None:
    desk.configure(desk.tree("a"))
    port = int(desk.agent.environment[variable])
    with socket.create_server(("127.0.0.1", port)):
        done = desk.run(*arguments, code=_FAILED)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{section}.port: {port} on 127.0.0.1 is taken; ")
    assert variable in line
    assert desk.processes() == set()


@pytest.mark.parametrize("arguments", [("start",), ("start", "-D"), ("validate",), ("restart",)])
def test_a_broken_configuration_is_reported_with_all_its_errors_at_once(
    desk: Desk, arguments: tuple[str, ...]
) -> None:
    desk.home.mkdir()
    (desk.home / "agent-config.yaml").write_text(
        "console: {port: 99999}\n"
        "sources: [{id: a, type: fs, config: {uri: relative}}]\n"
        "senders: [{id: s, type: carrier-pigeon, config: {}}]\n"
        "pipes: [{id: p, source_id: a, sender_id: nobody}]\n"
        "unknown: 1\n"
    )
    done = desk.run(*arguments, code=_BAD_CONFIG)
    for word in ("99999", "nobody", "relative", "unknown"):
        assert word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert desk.processes() == set()


@pytest.mark.parametrize(
    ("sources", "senders", "words"),
    [
        ({"a": ("teletype", {})}, EMBEDDED, ["teletype", "fs"]),
        ({"a": ("fs", {"uri": "/tmp"})}, {"s": ("pigeon", {})}, ["pigeon", "echo", "fusion"]),
        (
            {"a": ("fs", {"uri": "/tmp", "colour": "red"})},
            {"s": ("fusion", {"endpoint": "ftp://x", "credential": "k"})},
            ["colour", "endpoint"],
        ),
    ],
)
def test_unknown_drivers_and_their_wrong_parameters_are_bad_configuration(
    desk: Desk, sources: dict[str, Any], senders: dict[str, Any], words: list[str]
) -> None:
    desk.home.mkdir()
    write_config(
        desk.home / "agent-config.yaml", sources=sources, senders=senders, pipes={"p": ("a", next(iter(senders)))}
    )
    done = desk.run("start", "-D", code=_BAD_CONFIG)
    for word in words:
        assert word in done.stderr, done.stderr
    assert desk.processes() == set()


@pytest.mark.parametrize("exists", [True, False])
def test_a_home_that_cannot_be_written_is_named(desk: Desk, exists: bool) -> None:
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not there: root may write everywhere")
    above = desk.directory / "read-only"
    (above / "home" if exists else above).mkdir(parents=True)
    (above / "home" if exists else above).chmod(0o500)
    without_capabilities = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    for command in (("start",), ("start", "-D")):
        done = subprocess.run(
            [*(without_capabilities if os.getuid() == 0 else []), desk.agent._program, *command, "--watch", "/tmp"],
            env={**desk.agent.environment, "FUSTOR_HOME": str(above / "home")},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == _FAILED, done
        (line,) = done.stderr.splitlines()
        assert line.startswith(f'FUSTOR_HOME: "{above}')
        assert "set FUSTOR_HOME" in line


def test_a_missing_directory_is_waited_for_and_everything_else_runs(desk: Desk) -> None:
    there, missing = desk.tree("there"), desk.directory / "missing"
    desk.configure(there, missing)
    done = desk.run("start", "-D")
    (line,) = done.stderr.splitlines()
    assert line.startswith('pipe "p-missing": ')
    assert str(missing) in line
    until(lambda: _pipe(desk, "p-there")["current"], within_s=30, what="the other pipe to be current")
    pipe = _pipe(desk, "p-missing")
    assert pipe["state"] in ("backoff", "starting")
    assert str(missing) in (pipe["problem"] or pipe["not_current_because"])
    assert str(missing) in desk.run("status", code=_FAILED).stdout
    missing.mkdir()
    (missing / "file").write_text("1")
    until(lambda: _pipe(desk, "p-missing")["current"], within_s=40, what="the pipe to recover by itself")
    desk.run("status")
    assert not differences(walk(bytes(missing)), desk.agent.export(view="p-missing"))


def _pipe(desk: Desk, name: str) -> dict[str, Any]:
    return next(pipe for pipe in desk.status()["pipes"] if pipe["id"] == name)


# -- status ---------------------------------------------------------------------------------

_SAMPLE_KEYS = {
    "agent": "version pid state started_at uptime_s",
    "workers": "name kind pipe pid state restarts uptime_s rss_bytes cpu_percent last_exit",
    "pipes": "id source_id sender_id state phase role session_id current not_current_because counters lag_s snapshot "
    "audit",
}


def test_status_exits_by_how_things_are_and_prints_what_the_console_answers(desk: Desk) -> None:
    desk.run("status", code=_NOT_RUNNING)
    desk.configure(desk.tree("a"))
    desk.run("start", "-D")
    desk.wait_ready()
    text = desk.run("status").stdout
    assert "p-a" in text
    printed = json.loads(desk.run("status", "--json").stdout)
    with urllib.request.urlopen(f"{desk.agent.console_url}/api/status", timeout=20) as answer:
        answered = json.load(answer)
    assert _shape(printed) == _shape(answered)
    for part, keys in _SAMPLE_KEYS.items():
        found = printed[part] if part == "agent" else printed[part][0]
        assert set(keys.split()) <= found.keys()
    counters = {"captured", "pushed", "acknowledged", "pending", "dirty", "overflows", "lost"}
    assert printed["pipes"][0]["counters"].keys() == counters
    assert printed["pipes"][0]["snapshot"].keys() >= {"state", "rows", "finished_at"}
    desk.run("stop")
    desk.run("status", code=_NOT_RUNNING)


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return {key: _shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shape(each) for each in value]
    return None


def test_a_killed_worker_stands_in_the_status_with_its_signal(desk: Desk) -> None:
    desk.configure(desk.tree("a"))
    desk.run("start", "-D")
    pid = desk.pids()["p-a.pusher"]
    os.kill(pid, signal.SIGKILL)

    def look() -> dict[str, Any] | None:
        found = next(each for each in desk.status()["workers"] if each["name"] == "p-a.pusher")
        return found if found["last_exit"] and found["state"] == "running" else None

    worker = until(look, within_s=30, what="the worker to be replaced")
    assert worker is not None
    assert (worker["last_exit"]["signal"], worker["restarts"]) == ("SIGKILL", 1)


def test_a_directory_and_a_file_may_have_any_name(desk: Desk) -> None:
    odd = Path(os.fsdecode(os.fsencode(desk.directory) + b"/odd\xff"))
    done = desk.run("start", "-D", "--watch", str(odd))
    assert "odd" in done.stderr, "it is missing"
    shutil.copytree(desk.tree("a"), odd)
    desk.wait_ready()
    assert "odd\\udcff" in desk.status()["pipes"][0]["source_uri"]
    assert desk.run("reload").stdout == "nothing changes\n"
    desk.run("stop")
    config = desk.configure(desk.directory / "a").rename(odd / "config.yaml")
    desk.run("start", "-D", "--config", str(config))
    desk.wait_ready()
    config.write_text("broken: yes")
    assert "config.yaml" in desk.run("reload", code=_BAD_CONFIG).stderr


# -- reload ---------------------------------------------------------------------------------


def test_pipe_actions_work_on_the_running_agent(desk: Desk) -> None:
    desk.configure(desk.tree("a"))
    desk.run("start", "-D")
    desk.wait_ready()
    before = desk.pids()
    assert desk.run("pipe", "snapshot", "p-a").stdout == "snapshot started\n"
    recording = Path(desk.run("debug", "record", "p-a").stdout.removeprefix("recorded into ").rstrip("\n"))
    assert Replay(read_recording(recording.read_bytes())).view.rows.keys() >= {b"/"}
    desk.run("pipe", "stop", "p-a")
    until(lambda: _pipe(desk, "p-a")["state"] == "stopped", within_s=30, what="the pipe to stop")
    assert desk.agent.readyz()[0] == 503
    desk.run("pipe", "start", "p-a")
    desk.wait_ready()
    assert desk.pids()["fusion"] == before["fusion"]
    assert "nobody" in desk.run("pipe", "restart", "nobody", code=_FAILED).stderr


# -- logs and secrets -----------------------------------------------------------------------

_LINE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* ")


def test_the_log_has_whole_lines_of_all_processes_and_no_traceback(desk: Desk) -> None:
    desk.configure(desk.tree("a"), desk.tree("b"))
    desk.run("start", "-D")
    desk.wait_ready()
    for _ in range(3):
        pid = desk.pids()["p-a.pusher"]
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: desk.pids()["p-a.pusher"] != pid, within_s=30, what="a new pusher")
    desk.wait_ready()
    desk.run("restart")
    desk.wait_ready()
    desk.run("stop")
    lines = (desk.home / "logs" / "agent.log").read_text().splitlines()
    assert [line for line in lines if not _LINE.match(line)] == []
    for name in ("agent", "p-a.source", "p-b.pusher"):
        assert any(name in line for line in lines), name


def test_secrets_stand_in_no_command_line_log_status_or_output_and_files_are_private(desk: Desk) -> None:
    key = "k3y-of-the-second-sender"
    desk.configure(
        desk.tree("a"),
        desk.tree("b"),
        senders={
            **EMBEDDED,
            "remote": ("fusion", {"endpoint": "http://127.0.0.1:9", "credential": {"env": "REMOTE_KEY"}}),
            "other": ("fusion", {"endpoint": "http://127.0.0.1:9", "credential": key}),
        },
        p=("a", "fusion"), q=("b", "remote"), r=("b", "other"),
    )  # fmt: skip
    desk.agent._env["REMOTE_KEY"] = "k3y-from-the-environment"
    said = desk.run("start", "-D")
    until(lambda: _pipe(desk, "p")["current"], within_s=30, what="the embedded pipe to be current")
    until(lambda: _pipe(desk, "q")["problem"], within_s=30, what="the remote pipe to complain")
    state = desk.home / "state"
    secrets = {
        key,
        "k3y-from-the-environment",
        (desk.home / "token").read_text().strip(),
        (state / "fusion-agent.key").read_text().strip(),
        (state / "fusion-reader.key").read_text().strip(),
        json.loads((state / "session-p.json").read_text())["session"]["id"],
    }
    assert all(len(secret) > 16 for secret in secrets)
    shown = [said.stdout, said.stderr, desk.run("status", code=_FAILED).stdout]
    shown += [desk.run("status", "--json", code=_FAILED).stdout, (state / "status.json").read_text()]
    for path in ("/", "/api/status", "/healthz"):
        with urllib.request.urlopen(desk.agent.console_url + path, timeout=20) as answer:
            shown.append(answer.read().decode())
    shown += [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in desk.processes()]
    shown += [desk.run("pipe", "restart", "p").stdout, desk.run("reload").stdout, desk.run("stop").stdout]
    shown += [path.read_text() for path in (desk.home / "logs").iterdir()]
    for secret in secrets:
        assert [text for text in shown if secret in text] == []
    modes = {
        str(path.relative_to(desk.home)): stat.S_IMODE(path.stat().st_mode)
        for path in desk.home.rglob("*")
        if path.name not in ("agent-config.yaml", "output.log")
    }
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
