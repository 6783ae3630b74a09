"""`start` and `restart` as real processes, on an agent that has no workers."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fustor_agent.paths import Paths
from fustor_agent.statusmodel import AgentInfo, AgentStatus, encode
from fustor_core.program.pidfile import open_holder
from waiting import until

DEADLINE_S = 30

# Stands in for the graph of workers; everything around it is real.
COMMAND = """
import logging, os, signal, sys, types
from fustor_core.program.errors import ProgramError

def run(config, paths, *, on_ready, foreground, on_progress=None):
    how = os.environ.get("HOW", "")
    if how == "refuses":
        raise ProgramError("the state is in use; stop whoever uses it")
    if how == "crashes":
        raise RuntimeError("unforeseen")
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    logging.getLogger("stand-in").info("runs foreground=%s watch=%s", foreground, config.watch)
    if on_progress is not None:
        from fustor_agent.statusmodel import decode
        on_progress(decode(paths.status.read_bytes()))
    on_ready('pipe "a": "/none" is not there yet' if how == "waits" else "")
    signal.sigwait(signals)
    return 0

app = types.ModuleType("fustor_agent.app")
app.run = run
sys.modules["fustor_agent.app"] = app
from fustor_agent import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    paths = Paths(home=tmp_path / "home")
    paths.prepare()
    paths.config.write_text("console: {port: 0}\n")
    paths.status.write_bytes(encode(AgentStatus(AgentInfo("1.0.0", 1, "running", "", 0.0))))
    yield paths
    with open_holder(paths.pid) as holder:
        if holder is not None:
            holder.signal(signal.SIGKILL)
            assert holder.wait(DEADLINE_S)


def command(
    paths: Paths, *args: str, how: str = "", first: Callable[[], object] | None = None
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *args],
        preexec_fn=first,
        env={**os.environ, "FUSTOR_HOME": str(paths.home), "HOW": how},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def holder_pid(paths: Paths) -> int | None:
    with open_holder(paths.pid) as holder:
        return holder.pid if holder else None


def test_a_foreground_agent_prints_where_it_is_and_its_progress_and_ends_on_a_signal(paths: Paths) -> None:
    agent = command(paths, "start")
    assert agent.stdout is not None
    lines = [agent.stdout.readline() for _ in range(4)]
    assert lines == [
        f"Fustor Agent 1.0.0, pid {agent.pid}\n",
        "console  off\n",
        f"log      {paths.log}\n",
        "no pipe is enabled\n",
    ]
    assert holder_pid(paths) == agent.pid
    assert paths.token.stat().st_mode & 0o777 == 0o600
    agent.send_signal(signal.SIGTERM)
    code, _, err = finish(agent)
    assert code == 0
    # Nobody reads a terminal here, so the log's lines go to standard error as well.
    assert err == paths.log.read_text()
    assert "stand-in: runs foreground=True watch=None" in err
    assert not paths.pid.exists()


def test_a_background_agent_lets_the_command_return_when_it_is_ready(paths: Paths) -> None:
    code, out, err = finish(command(paths, "start", "-D"))
    pid = holder_pid(paths)
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == [f"Fustor Agent 1.0.0, pid {pid}", "console  off"]
    assert "stand-in: runs foreground=False" in paths.log.read_text()
    code, out, _ = finish(command(paths, "stop"))
    assert (code, out) == (0, f"stopped, pid {pid}\n")
    assert holder_pid(paths) is None


def test_a_pipe_that_waits_for_its_directory_is_one_line_and_no_failure(paths: Paths) -> None:
    code, _, err = finish(command(paths, "start", "-D", how="waits"))
    assert (code, err) == (0, 'pipe "a": "/none" is not there yet\n')


@pytest.mark.parametrize(
    ("how", "expected"),
    [("refuses", "the state is in use"), ("crashes", "agent.log"), ("dies", "agent.log")],
)
@pytest.mark.parametrize("options", [(), ("-D",)])
def test_an_agent_that_cannot_start_says_why_and_leaves_nothing(
    paths: Paths, how: str, expected: str, options: tuple[str, ...]
) -> None:
    code, _, err = finish(command(paths, "start", *options, how=how))
    if how == "dies" and not options:
        assert code == -signal.SIGKILL
    else:
        assert code == 1
        assert expected in err
    assert holder_pid(paths) is None
    if how == "crashes":
        assert "RuntimeError: unforeseen" in paths.log.read_text()


@pytest.mark.parametrize("options", [(), ("-D",)])
def test_what_the_agent_makes_is_private_whatever_its_caller_makes(paths: Paths, options: tuple[str, ...]) -> None:
    starter = command(paths, "start", *options, first=lambda: os.umask(0))
    pid = until(lambda: holder_pid(paths), within_s=DEADLINE_S, what="the PID file")
    assert "Umask:\t0077\n" in Path(f"/proc/{pid}/status").read_text()
    assert finish(command(paths, "stop"))[0] == 0
    finish(starter)


def test_of_two_starts_at_the_same_time_one_wins(paths: Paths) -> None:
    both = [command(paths, "start", "-D") for _ in range(2)]
    codes = sorted(finish(one)[0] for one in both)
    assert codes == [0, 4]
    assert holder_pid(paths) is not None


def test_restart_runs_on_what_start_was_given(paths: Paths, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("console: {port: 0}\n")
    assert finish(command(paths, "start", "-D", "--config", str(other)))[0] == 0
    first = holder_pid(paths)
    paths.config.write_text("this is wrong, but not what was started")
    code, out, err = finish(command(paths, "restart"))
    assert (code, err) == (0, "")
    assert out.startswith(f"stopped, pid {first}\n")
    assert holder_pid(paths) not in (None, first)


def test_restart_on_a_configuration_with_errors_leaves_the_agent_alone(paths: Paths) -> None:
    assert finish(command(paths, "start", "-D"))[0] == 0
    first = holder_pid(paths)
    paths.config.write_text("consol: {}\n")
    assert finish(command(paths, "restart"))[0] == 5
    assert holder_pid(paths) == first


def test_restart_on_parameters_that_a_driver_refuses_leaves_the_agent_alone(paths: Paths) -> None:
    assert finish(command(paths, "start", "-D"))[0] == 0
    first = holder_pid(paths)
    paths.config.write_text("console: {port: 0}\nsources: [{id: a, type: fs, config: {nouri: /x}}]\n")
    code, _, err = finish(command(paths, "restart"))
    assert code == 5
    assert "sources[0].config.nouri" in err
    assert holder_pid(paths) == first


@pytest.mark.parametrize("options", [(), ("-D",)])
@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_an_agent_that_is_started_with_closed_streams_runs(
    paths: Paths, options: tuple[str, ...], closed: tuple[int, ...]
) -> None:
    starter = command(paths, "start", *options, first=lambda: [os.close(number) for number in closed])
    pid = until(lambda: holder_pid(paths), within_s=DEADLINE_S, what="the PID file")
    until(lambda: paths.log.exists() and "stand-in: runs" in paths.log.read_text(), within_s=DEADLINE_S, what="the log")
    # Files that the agent opens must not become its standard streams: what is printed would go into them.
    names = [os.readlink(f"/proc/{pid}/fd/{number}") for number in closed]
    assert set(names) <= {os.devnull, str(paths.log)}
    if options:
        assert finish(starter)[0] == 0
    assert finish(command(paths, "stop"))[0] == 0
    assert finish(starter)[0] == 0


@pytest.mark.parametrize("options", [(), ("-D",)])
def test_an_agent_that_cannot_write_its_files_says_which_and_leaves_nothing(
    paths: Paths, options: tuple[str, ...]
) -> None:
    def fill_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    code, _, err = finish(command(paths, "start", *options, first=fill_disk))
    assert code == 1
    assert "Traceback" not in err
    assert str(paths.home) in err
    assert holder_pid(paths) is None


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_before_the_agent_listens_for_it_does_not_end_it(paths: Paths, number: signal.Signals) -> None:
    assert finish(command(paths, "start", "-D"))[0] == 0
    with open_holder(paths.pid) as holder:
        assert holder is not None
        holder.signal(number)
        assert not holder.wait(0.2)


def test_a_hangup_before_the_agent_listens_for_it_does_not_end_it(paths: Paths) -> None:
    assert finish(command(paths, "start", "-D"))[0] == 0
    with open_holder(paths.pid) as holder:
        assert holder is not None
        holder.signal(signal.SIGHUP)
        assert not holder.wait(0.2)


def test_the_lock_is_seen_as_soon_as_it_is_taken(paths: Paths) -> None:
    agent = command(paths, "start")
    assert until(lambda: holder_pid(paths), within_s=DEADLINE_S, what="the PID file") == agent.pid
    with contextlib.suppress(ProcessLookupError):
        agent.send_signal(signal.SIGKILL)
    finish(agent)
    assert holder_pid(paths) is None
