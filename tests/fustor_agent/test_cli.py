import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from fustor_agent import cli
from fustor_agent.commands.init import STARTER
from fustor_agent.config import load
from fustor_agent.paths import Paths
from fustor_agent.statusmodel import AgentInfo, AgentStatus, WorkerInfo, encode
from fustor_core.program.exitcodes import ExitCode

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Holds the PID file as the agent does, and ends, or does not, as it is told to.
AGENT = """
import os, signal, sys
from pathlib import Path
from fustor_agent import reload
from fustor_core.program import pidfile
home, how = Path(sys.argv[1]), sys.argv[2]
def stop(number, frame):
    if how != "deaf":
        os._exit(0)
def again(number, frame):
    if how == "dies":
        os._exit(1)
    problems = ("b: wrong",) if how == "bad" else ()
    differences, code = () if problems else ("pipes[b] is new",), 5 if problems else 0
    outcome = reload.ReloadOutcome(id=1, ok=not problems, differences=differences, problems=problems, code=code)
    reload.write_outcome(home / "state" / "reload.json", outcome)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, again)
lock = pidfile.acquire(home / "agent.pid", pidfile.Program("the agent", "fustor-agent"))
print(flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(home=tmp_path / "home")
    paths.prepare()
    return paths


@pytest.fixture
def run(paths: Paths) -> Run:
    def run(*args: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "fustor_agent.cli", *args],
            env={**os.environ, "FUSTOR_HOME": str(paths.home), **environ},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@contextmanager
def running_agent(paths: Paths, how: str = "well") -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", AGENT, str(paths.home), how]
    agent = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"\n"
        yield agent
    finally:
        agent.kill()
        agent.communicate()


def publish(paths: Paths, pid: int, *workers: WorkerInfo, ago_s: float = 0.0) -> None:
    agent = AgentInfo("1.0.0", pid, "running", "2026-01-01T00:00:00Z", 1.0, published_s=time.monotonic() - ago_s)
    paths.status.write_bytes(encode(AgentStatus(agent, list(workers))))


def test_every_command_has_help_and_a_module(capsys: pytest.CaptureFixture[str]) -> None:
    for command in cli.MODULES:
        with pytest.raises(SystemExit) as caught:
            cli.build_parser().parse_args([command, "--help"])
        assert caught.value.code == 0
        assert command in capsys.readouterr().out


@pytest.mark.parametrize(
    "args",
    [(), ("unknown",), ("stop", "--timeout", "nan"), ("start", "--watch", "a", "--config", "b"), ("pipe", "x", "y")],
)
def test_a_wrong_command_line_is_exit_2(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(args))
    assert caught.value.code == ExitCode.USAGE


def test_status_is_quick_because_it_imports_little(paths: Paths) -> None:
    code = (
        "import sys; from fustor_agent import cli; code = cli.main(['status', '--json']); "
        "print(code, *sys.modules, file=sys.stderr)"
    )
    with running_agent(paths) as agent:
        publish(paths, agent.pid)
        environ = {**os.environ, "FUSTOR_HOME": str(paths.home)}
        shown = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    exit_code, *modules = shown.stderr.split()
    assert exit_code == "0"
    heavy = {"requests", "multiprocess", "dill", "starlette", "uvicorn", "apsw", "rich", "asyncio", "http.client"}
    assert heavy.isdisjoint(modules)
    ours = {name for name in modules if name.startswith("fustor_") and not name.startswith("fustor_agent")}
    assert [name for name in ours - {"fustor_core"} if not name.startswith("fustor_core.program")] == []


def test_status_of_no_agent_is_exit_3(run: Run, paths: Paths) -> None:
    publish(paths, 1)
    shown = run("status")
    assert (shown.returncode, shown.stderr) == (3, "the agent is not running\n")
    assert json.loads(run("status", "--json").stdout)["agent"]["state"] == "stopped"


def test_status_of_an_agent_that_has_not_published_yet_says_that_it_starts(run: Run, paths: Paths) -> None:
    publish(paths, 1)
    with running_agent(paths) as agent:
        shown = run("status")
    assert (shown.returncode, shown.stdout) == (0, f"the agent is starting, pid {agent.pid}\n")


def test_status_is_exit_0_when_all_is_well_and_1_when_something_is_wrong(run: Run, paths: Paths) -> None:
    with running_agent(paths) as agent:
        publish(paths, agent.pid, WorkerInfo("console", "console", None, agent.pid, "running", 0, 1.0))
        shown = run("status", "--json")
        assert shown.returncode == 0
        (worker,) = json.loads(shown.stdout)["workers"]
        assert worker["rss_bytes"] > 0
        broken = WorkerInfo("console", "console", None, None, "backoff", 3, 0.0, last_error="port taken")
        publish(paths, agent.pid, broken)
        shown = run("status")
    assert shown.returncode == 1
    assert "! console: backoff: port taken" in shown.stdout


def test_status_that_is_old_says_so_whatever_the_file_times_are(run: Run, paths: Paths) -> None:
    with running_agent(paths) as agent:
        publish(paths, agent.pid)
        os.utime(paths.status, (0, 0))
        assert run("status").returncode == 0
        publish(paths, agent.pid, ago_s=60)
        shown = run("status")
    assert shown.returncode == 1
    assert "! the agent has not published its status for" in shown.stdout


def test_stop_ends_the_agent(run: Run, paths: Paths) -> None:
    with running_agent(paths) as agent:
        stopped = run("stop")
        assert (stopped.returncode, stopped.stdout) == (0, f"stopped, pid {agent.pid}\n")
        assert agent.wait(10) == 0
    assert run("stop").returncode == 3


def test_stop_kills_an_agent_that_does_not_listen(run: Run, paths: Paths) -> None:
    with running_agent(paths, "deaf") as agent:
        stopped = run("stop", "--timeout", "0.1")
        assert (stopped.returncode, stopped.stdout) == (0, f"killed, pid {agent.pid}\n")
        assert agent.wait(10) == -signal.SIGKILL


def test_stop_never_signals_the_program_that_got_the_number(run: Run, paths: Paths) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        paths.pid.write_text(f"{other.pid}\n")
        assert run("stop").returncode == 3
        assert other.poll() is None
    finally:
        other.communicate(b"\n")


def test_reload_prints_what_changes(run: Run, paths: Paths) -> None:
    with running_agent(paths):
        done = run("reload")
    assert (done.returncode, done.stdout) == (0, "pipes[b] is new\n")


def test_a_reload_with_problems_is_exit_5_and_changes_nothing(run: Run, paths: Paths) -> None:
    with running_agent(paths, "bad"):
        done = run("reload")
    assert done.returncode == 5
    assert done.stderr == "b: wrong\neverything stays as it was\n"


def test_a_reload_that_nobody_answers_is_exit_1(run: Run, paths: Paths) -> None:
    with running_agent(paths, "dies"):
        assert run("reload").returncode == 1
    assert run("reload").returncode == 3


def test_start_beside_a_running_agent_is_exit_4(run: Run, paths: Paths, tmp_path: Path) -> None:
    with running_agent(paths) as agent:
        for options in ((), ("-D",)):
            started = run("start", *options, "--watch", str(tmp_path))
            assert started.returncode == 4
            assert f"already running, pid {agent.pid}" in started.stderr


def test_start_on_a_bad_configuration_is_exit_5_with_all_errors(run: Run, paths: Paths) -> None:
    paths.config.write_text("sources: [{id: a}]\npipe: []\n")
    started = run("start", "-D")
    assert started.returncode == 5
    assert len(started.stderr.splitlines()) == 2
    assert run("start", "--config", str(paths.home / "none.yaml")).returncode == 5
    assert not paths.pid.exists()


def test_start_on_driver_parameters_that_are_wrong_is_exit_5(run: Run, paths: Paths) -> None:
    paths.config.write_text("senders:\n  - {id: a, type: echo, config: {no_such_key: 1}}\n")
    started = run("start", "-D")
    assert started.returncode == 5
    assert f"{paths.config}:2: senders[0].config.no_such_key = 1: there is no such key" in started.stderr


def test_start_on_a_taken_port_is_exit_1_and_names_it(run: Run, paths: Paths) -> None:
    paths.config.write_text("pipes: []\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for options in ((), ("-D",)):
            started = run("start", *options, FUSTOR_CONSOLE_PORT=str(port))
            assert started.returncode == 1
            assert f"console.port: {port} on 127.0.0.1 is taken" in started.stderr


def test_a_home_that_cannot_be_written_is_exit_1(run: Run) -> None:
    started = run("start", FUSTOR_HOME="/proc/nowhere")
    assert started.returncode == 1
    assert started.stderr.startswith("FUSTOR_HOME: ")


def test_init_writes_a_configuration_that_is_correct_and_never_over_another(run: Run, paths: Paths) -> None:
    assert run("init").returncode == 0
    assert paths.config.read_text() == STARTER
    assert load(paths.config, {}).pipes[0].id == "my-files"
    paths.config.write_text("mine")
    again = run("init")
    assert again.returncode == 1
    assert paths.config.read_text() == "mine"


def test_validate_says_that_all_is_correct_or_what_is_not(run: Run, paths: Paths) -> None:
    paths.config.write_text("senders: [{id: a, type: echo}]\n")
    checked = run("validate")
    assert (checked.returncode, checked.stdout) == (0, "the configuration is correct: 0 sources, 1 senders, 0 pipes\n")
    paths.config.write_text("senders: [{id: a, type: eco}]\n")
    assert run("validate").returncode == 5


def test_validate_with_a_probe_reads_the_sources(run: Run, paths: Paths) -> None:
    uri = paths.home / "none"
    paths.config.write_text(f"sources: [{{id: a, type: fs, config: {{uri: {uri}}}}}]\n")
    probed = run("validate", "--probe")
    assert probed.returncode == 1
    assert str(uri) in probed.stderr
    uri.mkdir()
    assert run("validate", "--probe").returncode in (0, 1)


def test_drivers_are_listed(run: Run) -> None:
    listed = run("drivers", "list").stdout
    assert [line.split()[:3] for line in listed.splitlines()] == [
        ["pusher", "echo", "fustor-pusher-echo"],
        ["pusher", "fusion", "fustor-pusher-fusion"],
        ["source", "fs", "fustor-source-fs"],
    ]


def test_pipe_needs_a_running_agent_with_a_console(run: Run, paths: Paths) -> None:
    assert run("pipe", "stop", "a").returncode == 3
    (paths.token).write_text("t\n")
    paths.token.chmod(0o600)
    with running_agent(paths) as agent:
        assert "not published its status yet" in run("pipe", "stop", "a").stderr
        publish(paths, agent.pid)
        off = run("pipe", "stop", "a")
        assert off.returncode == 1
        assert "the console is off" in off.stderr


def test_a_path_that_is_not_text_does_not_end_a_command(run: Run, paths: Paths) -> None:
    command = [sys.executable, "-m", "fustor_agent.cli", "start", "--config", b"/no/\xff"]
    environ = {**os.environ, "FUSTOR_HOME": str(paths.home), "PYTHONIOENCODING": "utf-8"}
    started = subprocess.run(command, env=environ, capture_output=True, timeout=60)
    assert started.returncode == 5
    assert b"/no/\\udcff" in started.stderr


def test_a_pipe_that_its_reader_closed_ends_quietly(paths: Paths) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "fustor_agent.cli", "drivers", "list"]
    listed = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert listed.stderr == b""


def test_the_json_of_status_is_one_line(run: Run, paths: Paths) -> None:
    with running_agent(paths) as agent:
        publish(paths, agent.pid)
        shown = run("status", "--json").stdout
    assert shown.count("\n") == 1
    assert msgspec.json.decode(shown, type=AgentStatus).agent.pid == agent.pid
