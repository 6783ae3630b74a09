"""The command line: what can be asked for. The commands themselves are imported only when they run."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Final, cast

from fustor_agent import __version__
from fustor_core.program.commandline import EXIT_CODES, add_timeout, make_streams_safe, run_command

Command = Callable[[argparse.Namespace], int]

MODULES: Final = {
    "start": "start",
    "stop": "stop",
    "restart": "restart",
    "reload": "reload",
    "status": "status",
    "pipe": "pipe",
    "debug": "pipe",
    "rescan": "rescan",
    "tree": "tree",
    "find": "find",
    "du": "du",
    "validate": "validate",
    "init": "init",
    "service": "service",
    "drivers": "drivers",
}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Args:
        argv: Arguments without the program's name; default those of the process.

    Returns:
        The exit code.
    """
    make_streams_safe()
    args = build_parser().parse_args(argv)
    command = cast(Command, importlib.import_module(f"fustor_agent.commands.{MODULES[args.command]}").run)
    return run_command(lambda: command(args))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="fustor-agent",
        description="Watches file trees and pushes every change to Fusion.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"fustor-agent {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    start = commands.add_parser("start", help="run the agent")
    start.add_argument("-D", "--daemon", action="store_true", help="run in the background")
    _add_config(start)

    stop = commands.add_parser("stop", help="stop the running agent")
    add_timeout(stop)

    restart = commands.add_parser("restart", help="stop the agent and start it in the background, as it was started")
    add_timeout(restart)
    _add_config(restart)

    commands.add_parser("reload", help="read the configuration again and restart what it changes")

    status = commands.add_parser("status", help="show workers and pipes; exit 1 if something is wrong")
    status.add_argument("--json", action="store_true", help="the same JSON as /api/status")
    status.add_argument("--watch", action="store_true", help="show it again every second")

    pipe = commands.add_parser("pipe", help="start, stop or restart a pipe, or ask it for a snapshot or an audit")
    pipe.add_argument("action", choices=("start", "stop", "restart", "snapshot", "audit"))
    pipe.add_argument("pipe", metavar="PIPE", help="its id")
    pipe.add_argument(
        "--kind",
        choices=("full", "incremental"),
        default="full",
        help="of the audit: look at everything (default), or list only the directories that have changed",
    )

    rescan = commands.add_parser("rescan", help="look at a path of a pipe again, and say what came of it")
    rescan.add_argument("pipe", metavar="PIPE", help="its id")
    rescan.add_argument("path", metavar="PATH", nargs="?", default="/", help="below the source's root (default: /)")

    tree = commands.add_parser("tree", help="what the embedded Fusion has below a path")
    tree.add_argument("path", metavar="PATH", nargs="?", default="/", help="a directory of the view (default: /)")
    tree.add_argument("--depth", metavar="N", type=int, help="no more than N levels (default: all)")
    _add_reading(tree)

    find = commands.add_parser("find", help="the files that match a pattern, as the embedded Fusion has them")
    find.add_argument("glob", metavar="GLOB", help="fits a name, or with `**` between slashes a whole path")
    _add_reading(find)

    usage = commands.add_parser("du", help="how much the embedded Fusion has below a path")
    usage.add_argument("path", metavar="PATH", nargs="?", default="/", help="in the view (default: /)")
    _add_reading(usage)

    debug = commands.add_parser("debug", help="for finding out what went wrong")
    record = debug.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser(
        "record", help="write down what a pipe's source saw last: records and looks, no contents"
    )
    record.add_argument("pipe", metavar="PIPE", help="its id")

    validate = commands.add_parser("validate", help="check the configuration")
    validate.add_argument("--probe", action="store_true", help="also read the sources and ask the receivers")
    _add_config(validate)

    init = commands.add_parser("init", help="write a commented starter configuration")
    init.add_argument("--config", metavar="FILE", help="where (default: agent-config.yaml in FUSTOR_HOME)")

    service = commands.add_parser("service", help="run the agent as a service of systemd")
    actions = service.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, does in (("print", "print the unit"), ("install", "write the unit and enable it")):
        unit = actions.add_parser(action, help=does)
        _add_system(unit)
        unit.add_argument("--user", metavar="NAME", help="whom the system runs it as (default: who runs this command)")
        unit.add_argument("--read-all", action="store_true", help="let it read what that user may not")
        _add_config(unit)
    _add_system(actions.add_parser("uninstall", help="stop and disable it, and remove the unit"))

    drivers = commands.add_parser("drivers", help="the installed drivers")
    drivers.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser("list", help="list them")
    return parser


def _add_system(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", action="store_true", help="of the system; default: of the user's own systemd")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--view", metavar="VIEW", help="the pipe whose view to ask (default: the only one)")
    parser.add_argument("--sync", metavar="S", type=float, help="wait up to S seconds until the view holds all changes")
    parser.add_argument("--json", action="store_true", help="print the answer as Fusion gives it")


def _add_config(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--watch", metavar="DIR", help="watch one directory, with no configuration file")
    group.add_argument("--config", metavar="FILE", help="default: agent-config.yaml in FUSTOR_HOME")


if __name__ == "__main__":
    sys.exit(main())
