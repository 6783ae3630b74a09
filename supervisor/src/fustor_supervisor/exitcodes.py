"""How a process leaves, and what the exit code of a worker says to the supervisor."""

import enum
import os
import sys
from typing import NoReturn


class ExitCode(enum.IntEnum):
    """Exit codes of a worker; any other code counts as `CRASHED`."""

    OK = 0
    """Its main returned. Asked to stop, that is the end; unasked, it is started again."""

    CRASHED = 1
    """An exception left its main, or it called `Runtime.fail`; it is started again."""

    PERMANENT = 78
    """Starting it again is useless (EX_CONFIG of sysexits.h); it waits for a reload."""


def leave(code: int) -> NoReturn:
    """
    Flush the standard streams and end the process at once, without exit hooks.

    Workers end like this, and so should the program after `Supervisor.run`: the exit hook
    of multiprocess would wait for a worker that cannot die.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # a full disk, a closed stream, none at all
            continue
    os._exit(code)
