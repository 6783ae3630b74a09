"""The edge of a command line: what its errors become, and the options that programs share."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Final

from fustor_core.program.errors import ProgramError, explain
from fustor_core.program.exitcodes import ExitCode

EXIT_CODES: Final = "Exit codes: 0 done, 1 failed, 2 usage, 3 not running, 4 already running, 5 bad config."
_DEFAULT_STOP_S: Final = 15.0


def make_streams_safe() -> None:
    """Have every standard stream open, and let file names and messages hold any bytes: neither must end a command."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def run_command(command: Callable[[], int]) -> int:
    """Run a command; what ends it before its time is said, and becomes its exit code."""
    try:
        return command()
    except ProgramError as err:
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


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Add `--timeout S`, of a stop."""
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=_parse_timeout,
        default=_DEFAULT_STOP_S,
        help=f"kill it after so many seconds (default {_DEFAULT_STOP_S:g})",
    )


def _open_missing_streams() -> None:
    """Open the null device where a standard stream is closed; the next file opened would get its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115 - it stays open


def _parse_timeout(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # Not `value < 0`: that would let "nan" pass.
    if not 0 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number of seconds')
    return value
