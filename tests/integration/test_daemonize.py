"""A real daemon: what it has, what it tells, and what the command that started it makes of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from waiting import until

DEADLINE_S = 30

START = """
import json, os, signal, sys
from pathlib import Path
from fustor_core.program.daemon import Report, Reporter, daemonize
outcome = daemonize(Path(sys.argv[1]), "the agent")
if not isinstance(outcome, Reporter):
    print(json.dumps([outcome.code, outcome.out, outcome.err]))
    sys.exit()
try:
    exec(sys.argv[2])
finally:
    os._exit(0)
"""


def start(log: Path, code: str) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-c", START, str(log), code], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    return list(json.loads(done.stdout))


def test_the_command_returns_when_the_daemon_has_reported(tmp_path: Path) -> None:
    # The daemon ends only when somebody opens the other end: if the command waited for that, it would never return.
    fifo = tmp_path / "end"
    os.mkfifo(fifo)
    code = f"outcome.send(Report(code=0, out='ready', err='one pipe waits')); open({str(fifo)!r}).read()"
    assert start(tmp_path / "log", code) == [0, "ready", "one pipe waits"]
    fifo.write_text("")


def test_a_daemon_that_dies_before_it_reports_is_a_failure_that_names_the_log(tmp_path: Path) -> None:
    code, out, err = start(tmp_path / "log", "raise RuntimeError")
    assert (code, out) == (1, "")
    assert str(tmp_path / "log") in str(err)


def test_a_daemon_has_no_terminal_no_old_folder_and_writes_to_the_log(tmp_path: Path) -> None:
    facts = (
        "outcome.send(Report(code=0, out=json.dumps([os.getpid(), os.getsid(0), os.getppid(), os.getcwd(), "
        "os.readlink('/proc/self/fd/0'), signal.getsignal(signal.SIGHUP) == signal.SIG_IGN]))); "
        "print('said', flush=True); print('complained', file=sys.stderr, flush=True)"
    )
    log = tmp_path / "log"
    _, out, _ = start(log, facts)
    pid, session, parent, folder, stdin, ignores_hangup = json.loads(str(out))
    assert session != pid
    assert parent != os.getpid()
    assert (folder, stdin, ignores_hangup) == ("/", "/dev/null", True)
    assert until(lambda: log.read_text().count("\n") == 2, within_s=DEADLINE_S, what="two lines in the log")
    assert log.read_text() == "said\ncomplained\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_worker_that_lives_on_does_not_keep_the_command_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "end"
    os.mkfifo(fifo)
    code = (
        f"child = os.fork()\nif child == 0: open({str(fifo)!r}).read()\n"
        "else: outcome.send(Report(code=0, out='ready')); os.waitpid(child, 0)"
    )
    assert start(tmp_path / "log", code) == [0, "ready", ""]
    fifo.write_text("")


def test_a_daemon_keeps_nothing_open_that_the_command_had(tmp_path: Path) -> None:
    opened = open(tmp_path / "opened", "w")  # noqa: SIM115  # stays open over the start, on purpose
    os.set_inheritable(opened.fileno(), True)
    listing = (
        "fds = [f'/proc/self/fd/{n}' for n in os.listdir('/proc/self/fd')]; "
        "outcome.send(Report(code=0, out=json.dumps([os.readlink(fd) for fd in fds if os.path.lexists(fd)])))"
    )
    command = [sys.executable, "-c", START, str(tmp_path / "log"), listing]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, pass_fds=[opened.fileno()])
    opened.close()
    held = json.loads(json.loads(done.stdout)[1])
    assert str(tmp_path / "log") in held
    assert str(tmp_path / "opened") not in held


def test_a_second_report_goes_nowhere(tmp_path: Path) -> None:
    code = "outcome.send(Report(code=0, out='first')); outcome.send(Report(code=1, out='second'))"
    assert start(tmp_path / "log", code) == [0, "first", ""]
