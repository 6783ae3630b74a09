"""Run in the background, and let the command that started it say how that went."""

import os
import signal
from pathlib import Path

import msgspec

from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.problems import make_encodable


class Report(msgspec.Struct, frozen=True):
    """
    What the daemon tells the command that started it.

    Args:
        code: What the command exits with.
        out: Lines for its standard output.
        err: Lines for its standard error.
    """

    code: int
    out: str = ""
    err: str = ""


class Reporter:
    """
    The daemon's end of the pipe to the command that started it.

    Args:
        descriptor: The pipe; closed by the first report.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        # The command waits for the pipe's end: a worker that kept it open would keep it waiting.
        os.register_at_fork(after_in_child=self._close)

    def send(self, report: Report) -> None:
        """Tell how the start went; only the first report counts, the command has gone then."""
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, msgspec.json.encode(_make_encodable(report)))
        except BrokenPipeError:
            pass  # The command was interrupted; the daemon was asked for and goes on.
        finally:
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _make_encodable(report: Report) -> Report:
    return Report(code=report.code, out=make_encodable(report.out), err=make_encodable(report.err))


def daemonize(log: Path, name: str) -> Reporter | Report:
    """
    Fork into the background.

    Args:
        log: Becomes standard output and error of the daemon.
        name: What the daemon is called in the report that it is gone, `the agent`.

    Returns:
        In the daemon a Reporter; in the process that called, once the daemon has reported or
        ended, its Report.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return _await_report(reading, child, f"{name} ended while it was starting; see {log}")
    os.close(reading)
    # A session of its own: no terminal whose end would send it a signal. The second fork gives
    # up the lead of that session, so that it can never get a terminal again (`man 7 daemon`).
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    # Until the program says what SIGHUP means, an early one must not end it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _redirect(log)
    # What else the command had open, and the shell before it, is not the daemon's to keep.
    os.closerange(3, writing)
    os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))
    return Reporter(writing)


def _await_report(reading: int, child: int, if_none: str) -> Report:
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    try:
        return msgspec.json.decode(data, type=Report)
    except msgspec.DecodeError:
        return Report(code=ExitCode.FAILED, err=if_none)


def _redirect(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    lines = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(nothing, 0)
    os.dup2(lines, 1)
    os.dup2(lines, 2)
    for descriptor in (nothing, lines):
        if descriptor > 2:
            os.close(descriptor)
