"""Read a configuration and check it, drivers included, in a child: for a process that must not wait."""

import contextlib
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Final

import msgspec

from fustor_agent.child import Child
from fustor_agent.config import Config, Draft
from fustor_agent.drivercheck import check
from fustor_core.program.errors import BadConfig, ProgramError, explain
from fustor_core.program.problems import Problem

_STDERR: Final = 2  # the log, in the background; the handlers of the log are closed in a child
LIMIT_S: Final = 50.0  # `fustor-agent reload` waits a little longer


class _Found(msgspec.Struct, frozen=True):
    """What came of it: a configuration, what is wrong with it, or why nobody knows."""

    config: Config | None = None
    problems: tuple[Problem, ...] = ()
    error: str = ""


class BackgroundCheck:
    """
    The reading and checking of a configuration; whoever made it closes it.

    A file that takes long to read or to parse, or a driver that hangs, holds up the child only.

    Args:
        read: Reads the configuration; runs in the child.
        limit_s: For all of it.

    Raises:
        OSError: No process, memory or descriptors are left.
    """

    def __init__(self, read: Callable[[], Draft], *, limit_s: float = LIMIT_S) -> None:
        self._data = b""
        self._limit_s = limit_s
        # By pickle, since a driver's configuration may hold anything that YAML can. Nothing in this
        # child is a driver's: each of those is asked in a child of its own.
        self._child = Child(lambda: pickle.dumps(_find(read)), limit_s=limit_s)

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to take."""
        return self._child.reading

    def take(self) -> bool:
        """Take what is there; tells whether the check is over. Blocks unless `fileno` is readable."""
        piece = self._child.take()
        self._data += piece
        return not piece

    def finish(self) -> Config:
        """
        Return the configuration; call it when the check is over.

        Raises:
            ProgramError: It could not be read, or the check was ended.
            BadConfig: As `check`.
        """
        how = self._child.end()
        try:
            found: _Found = pickle.loads(self._data)
        except (EOFError, pickle.UnpicklingError) as err:  # it did not get to the end of its writing
            if how == "signal SIGALRM":
                how = f"it took more than {self._limit_s:g} s"
            raise ProgramError(f"the check of the configuration was ended ({how}); try again") from err
        if found.error:
            raise ProgramError(found.error)
        if found.config is None:
            raise BadConfig(found.problems)
        return found.config

    def close(self) -> None:
        """End the check, finished or not."""
        self._child.end()

    def close_in_child(self) -> None:
        """Close the descriptor in a process that was forked meanwhile."""
        self._child.close_in_child()


def _find(read: Callable[[], Draft]) -> _Found:
    try:
        return _Found(config=check(read()))
    except BadConfig as err:
        return _Found(problems=tuple(err.problems))
    except ProgramError as err:
        return _Found(error=str(err))
    except OSError as err:
        return _Found(error=explain(err))
    except Exception as err:  # the edge of the child: whoever asked must hear of what nobody foresaw
        with contextlib.suppress(OSError):
            os.write(_STDERR, traceback.format_exc().encode("utf-8", "backslashreplace"))
        return _Found(error=f"{type(err).__name__}: {err}; see the log")
