"""
The errors that end a command, one for each thing a caller does next.

    ProgramError         say the message, exit 1
    ├── NotRunning       there is no running program to talk to, exit 3
    ├── AlreadyRunning   another process holds the PID file, exit 4
    └── BadConfig        a person must correct the configuration, exit 5
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from fustor_core.program.exitcodes import ExitCode

if TYPE_CHECKING:
    from fustor_core.program.problems import Problem


class ProgramError(Exception):
    """Something that ends a command; the message names the thing, the value and the remedy."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class NotRunning(ProgramError):
    """No process holds the PID file."""

    exit_code = ExitCode.NOT_RUNNING


class AlreadyRunning(ProgramError):
    """
    Another process holds the PID file.

    Args:
        message: What to say.
        pid: The holder.
    """

    exit_code = ExitCode.ALREADY_RUNNING

    def __init__(self, message: str, *, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class BadConfig(ProgramError):
    """
    The configuration is wrong.

    Args:
        problems: All of them, in the order of the file.
    """

    exit_code = ExitCode.BAD_CONFIG

    def __init__(self, problems: Sequence["Problem"]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def explain(err: OSError) -> str:
    """Write an error of the system as one line that names the file."""
    name = os.fsdecode(err.filename) if isinstance(err.filename, str | bytes | os.PathLike) else ""
    return f'"{name}": {err.strerror or err}' if name else str(err)
