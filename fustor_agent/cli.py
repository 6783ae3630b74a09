"""The command line: what can be asked for. The commands themselves are imported only when they run."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, cast

from fustor_agent import __version__
from fustor_agent.errors import AgentError, explain
from fustor_agent.exitcodes import ExitCode

Command = Callable[[argparse.Namespace], int]

MODULES: Final = {
    "start": "start",
    "stop": "stop",
    "restart": "restart",
    "reload": "reload",
    "status": "status",
    "pipe": "pipe",
    "validate": "validate",
    "init": "init",
    "drivers": "drivers",
}
_DEFAULT_STOP_S: Final = 15.0


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Args:
        argv: Arguments without the program's name; default those of the process.

    Returns:
        The exit code.
    """
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        # File names and messages may hold any bytes; a terminal that cannot show them must not end a command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    command = cast(Command, importlib.import_module(f"fustor_agent.commands.{MODULES[args.command]}").run)
    try:
        return command(args)
    except AgentError as err:
        print(err, file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        return ExitCode.FAILED
    except BrokenPipeError:
        # The reader of a pipe has seen enough; the interpreter must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except OSError as err:  # The edge of the command line: a full disk, a forbidden file, no more processes.
        print(explain(err), file=sys.stderr)
        return ExitCode.FAILED


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="fustor-agent",
        description="Watches file trees and pushes every change to Fusion.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 not running, 4 already running, 5 bad config.",
    )
    parser.add_argument("--version", action="version", version=f"fustor-agent {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    start = commands.add_parser("start", help="run the agent")
    start.add_argument("-D", "--daemon", action="store_true", help="run in the background")
    _add_config(start)

    stop = commands.add_parser("stop", help="stop the running agent")
    _add_timeout(stop)

    restart = commands.add_parser("restart", help="stop the agent and start it in the background, as it was started")
    _add_timeout(restart)
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

    validate = commands.add_parser("validate", help="check the configuration")
    validate.add_argument("--probe", action="store_true", help="also read the sources and ask the receivers")
    _add_config(validate)

    init = commands.add_parser("init", help="write a commented starter configuration")
    init.add_argument("--config", metavar="FILE", help="where (default: agent-config.yaml in FUSTOR_HOME)")

    drivers = commands.add_parser("drivers", help="the installed drivers")
    drivers.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser("list", help="list them")
    return parser


def _open_missing_streams() -> None:
    """Open the null device where a standard stream is closed; the next file opened would get its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115 - it stays open


def _add_config(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--watch", metavar="DIR", help="watch one directory, with no configuration file")
    group.add_argument("--config", metavar="FILE", help="default: agent-config.yaml in FUSTOR_HOME")


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=_parse_timeout,
        default=_DEFAULT_STOP_S,
        help=f"kill it after so many seconds (default {_DEFAULT_STOP_S:g})",
    )


def _parse_timeout(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # Not `value < 0`: that would let "nan" pass.
    if not 0 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number of seconds')
    return value


if __name__ == "__main__":
    sys.exit(main())
