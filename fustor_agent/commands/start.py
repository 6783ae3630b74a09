"""`fustor-agent start`: run the agent, in the foreground or in the background."""

import argparse
import functools
import os
import sys

from fustor_agent import __version__
from fustor_agent.commands.choice import Choice, choose, read_config, remember
from fustor_agent.config import Config
from fustor_agent.paths import AGENT, Paths, find_paths
from fustor_agent.ports import check_ports
from fustor_agent.progress import ProgressPrinter
from fustor_core.program.daemon import Report
from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.launch import Launch, Tell, launch
from fustor_core.program.pidfile import refuse_second
from fustor_core.program.secretfile import ensure_secret


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
        ProgramError: It cannot be started; nothing runs.
    """
    refuse_second(paths.pid, AGENT)
    config = read_config(choice, paths)
    check_ports(config)
    run_agent = functools.partial(_run_agent, choice, config, paths, foreground=not daemon)
    return launch(Launch(AGENT, "agent", paths.pid, paths.log, run_agent), daemon=daemon)


def _run_agent(choice: Choice, config: Config, paths: Paths, tell: Tell, *, foreground: bool) -> int:
    remember(choice, paths)
    ensure_secret(paths.token)
    # Only now: this brings in the supervisor and all that workers share.
    from fustor_agent import app

    printer = ProgressPrinter(sys.stdout) if foreground else None

    def on_ready(text: str) -> None:
        tell(Report(code=ExitCode.DONE, out=_say_running(config, paths), err=text.strip()))

    if foreground:
        print(_say_running(config, paths), flush=True)
    return app.run(
        config, paths, on_ready=on_ready, foreground=foreground, on_progress=printer.show if printer else None
    )


def _say_running(config: Config, paths: Paths) -> str:
    console = f"{config.console.url}/" if config.console.url else "off"
    return f"Fustor Agent {__version__}, pid {os.getpid()}\nconsole  {console}\nlog      {paths.log}"
