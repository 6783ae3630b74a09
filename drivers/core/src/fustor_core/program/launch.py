"""Become the running program, in the foreground or in the background."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from fustor_core.program import logs, pidfile
from fustor_core.program.daemon import Report, Reporter, daemonize
from fustor_core.program.errors import ProgramError, explain
from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.pidfile import Program

_HELD_SIGNALS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

Tell = Callable[[Report], None]


class Launch(msgspec.Struct, frozen=True):
    """
    What is to run, and as what.

    Args:
        program: What it is called.
        process: What its lines in the log are called.
        pid_file: Held while it runs; its directory exists.
        log: Where its log is; its directory exists.
        run: The program itself: told how to report that it is ready, it returns its exit code.
    """

    program: Program
    process: str
    pid_file: Path
    log: Path
    run: Callable[[Tell], int]


def launch(what: Launch, *, daemon: bool) -> int:
    """
    Run a program.

    In the background the reports of `run` go to the command that called, in the foreground their
    errors go to standard error.

    Args:
        what: The program.
        daemon: Return once it has reported from the background; otherwise never return.

    Returns:
        The exit code of the command (daemon only).
    """
    if not daemon:
        _become(what, None)
    outcome = daemonize(what.log, what.program.name)
    if isinstance(outcome, Reporter):
        _become(what, outcome)
    if outcome.out:
        print(outcome.out)
    if outcome.err:
        print(outcome.err, file=sys.stderr)
    return outcome.code


def _become(what: Launch, reporter: Reporter | None) -> NoReturn:
    """Become the program. Leaves by `os._exit`: an exit hook would wait for workers that cannot die."""
    code: int = ExitCode.FAILED
    try:
        # What workers make is private too.
        os.umask(0o077)
        # They would end it while nobody listens for them; the supervisor takes them when it does.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_SIGNALS)
        code = _hold_and_run(what, reporter)
    except ProgramError as err:
        code = err.exit_code
        _tell(reporter, Report(code=code, err=str(err)))
    except OSError as err:
        # At this level, since before the log is open anything higher would go to the terminal as well.
        logging.getLogger(__name__).info("%s ended by an error of the system", what.program.name, exc_info=True)
        _tell(reporter, Report(code=code, err=explain(err)))
    except KeyboardInterrupt:
        pass  # Before the workers are there, an interrupt simply ends it.
    except BaseException:  # The last stop of whatever goes wrong: it is logged, then the process ends.
        name = what.program.name
        logging.getLogger(__name__).exception("%s ended by an error that it did not expect", name)
        _tell(reporter, Report(code=code, err=f"{name} ended by an unexpected error; see {what.log}"))
    finally:
        for stream in (sys.stdout, sys.stderr):
            # Whoever read it may be gone, or its disk full: that must not keep the process from ending here.
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _hold_and_run(what: Launch, reporter: Reporter | None) -> int:
    lock = pidfile.acquire(what.pid_file, what.program)
    try:
        # A terminal shows what needs attention; whatever collects the output of a service gets all of it.
        level = logging.WARNING if sys.stderr.isatty() else logging.INFO
        logs.configure(what.log, process=what.process, stderr_level=level if reporter is None else None)
        return what.run(lambda report: _tell(reporter, report))
    finally:
        lock.release()


def _tell(reporter: Reporter | None, report: Report) -> None:
    if reporter is not None:
        reporter.send(report)
    elif report.err:
        print(report.err, file=sys.stderr, flush=True)
