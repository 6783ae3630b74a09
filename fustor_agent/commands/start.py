"""`fustor-agent start`: run the agent, in the foreground or in the background."""

import argparse
import contextlib
import logging
import os
import signal
import sys
from typing import Final, NoReturn

from fustor_agent import __version__, logs, pidfile
from fustor_agent.commands.choice import Choice, choose, read_config, remember
from fustor_agent.config import Config
from fustor_agent.daemon import Report, Reporter, daemonize
from fustor_agent.errors import AgentError, AlreadyRunning, explain
from fustor_agent.exitcodes import ExitCode
from fustor_agent.paths import Paths, find_paths
from fustor_agent.ports import check_ports
from fustor_agent.progress import ProgressPrinter
from fustor_agent.secretfile import ensure_secret

_HELD_SIGNALS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def run(args: argparse.Namespace) -> int:
    """Check everything that can be checked, then start."""
    paths = find_paths()
    paths.prepare()
    return start(choose(args), paths, daemon=args.daemon)


def start(choice: Choice, paths: Paths, *, daemon: bool) -> int:
    """
    Start the agent.

    Args:
        choice: Which configuration.
        paths: Prepared.
        daemon: Return once it runs in the background; otherwise never return.

    Returns:
        The exit code of the command (daemon only).

    Raises:
        AgentError: It cannot be started; nothing runs.
    """
    with pidfile.open_holder(paths.pid) as holder:
        if holder is not None:
            raise AlreadyRunning(
                f"the agent is already running, pid {holder.pid}; stop it with `fustor-agent stop`", pid=holder.pid
            )
    config = read_config(choice, paths)
    check_ports(config)
    if not daemon:
        _run_agent(choice, config, paths, reporter=None)
    outcome = daemonize(paths.log)
    if isinstance(outcome, Reporter):
        _run_agent(choice, config, paths, reporter=outcome)
    if outcome.out:
        print(outcome.out)
    if outcome.err:
        print(outcome.err, file=sys.stderr)
    return outcome.code


def _run_agent(choice: Choice, config: Config, paths: Paths, *, reporter: Reporter | None) -> NoReturn:
    """Become the agent. Leaves by `os._exit`: an exit hook would wait for workers that cannot die."""
    code: int = ExitCode.FAILED
    try:
        # What workers and their drivers make is private too.
        os.umask(0o077)
        # They would end it while nobody listens for them; the supervisor takes them when it does.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_SIGNALS)
        code = _hold_and_run(choice, config, paths, reporter)
    except AgentError as err:
        code = err.exit_code
        _tell(reporter, Report(code=code, err=str(err)))
    except OSError as err:
        # At this level, since before the log is open anything higher would go to the terminal as well.
        logging.getLogger(__name__).info("the agent ended by an error of the system", exc_info=True)
        _tell(reporter, Report(code=code, err=explain(err)))
    except KeyboardInterrupt:
        pass  # Before the workers are there, an interrupt simply ends it.
    except BaseException:  # The last stop of whatever goes wrong: it is logged, then the process ends.
        logging.getLogger(__name__).exception("the agent ended by an error that it did not expect")
        _tell(reporter, Report(code=code, err=f"the agent ended by an unexpected error; see {paths.log}"))
    finally:
        for stream in (sys.stdout, sys.stderr):
            # Whoever read it may be gone, or its disk full: that must not keep the process from ending here.
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _hold_and_run(choice: Choice, config: Config, paths: Paths, reporter: Reporter | None) -> int:
    lock = pidfile.acquire(paths.pid)
    try:
        remember(choice, paths)
        foreground = reporter is None
        # A terminal shows what needs attention; whatever collects the output of a service gets all of it.
        level = logging.WARNING if sys.stderr.isatty() else logging.INFO
        logs.configure(paths.log, process="agent", stderr_level=level if foreground else None)
        ensure_secret(paths.token)
        # Only now: this brings in the supervisor and all that workers share.
        from fustor_agent import app

        printer = ProgressPrinter(sys.stdout) if foreground else None

        def on_ready(text: str) -> None:
            _tell(reporter, Report(code=ExitCode.DONE, out=_say_running(config, paths), err=text.strip()))

        if foreground:
            print(_say_running(config, paths), flush=True)
        return app.run(
            config, paths, on_ready=on_ready, foreground=foreground, on_progress=printer.show if printer else None
        )
    finally:
        lock.release()


def _tell(reporter: Reporter | None, report: Report) -> None:
    if reporter is not None:
        reporter.send(report)
    elif report.err:
        print(report.err, file=sys.stderr, flush=True)


def _say_running(config: Config, paths: Paths) -> str:
    console = f"{config.console.url}/" if config.console.url else "off"
    return f"Fustor Agent {__version__}, pid {os.getpid()}\nconsole  {console}\nlog      {paths.log}"
