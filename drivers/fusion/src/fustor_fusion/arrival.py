"""Fusion's own clock, by which whatever agents saw is put in order."""

import time
from collections.abc import Callable


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class ArrivalClock:
    """
    Nanoseconds since the epoch as they were when Fusion started, and from there on as time passes.

    It begins with the wall clock, or with what came before where that is later, and never looks at it again: whatever
    came later has the higher time, and steps of the wall clock, to and fro, change nothing.

    Args:
        newest: The highest time of anything that came before.
        wall: Nanoseconds since the epoch.
        boottime: Nanoseconds since any time, those in which the machine slept counted.
    """

    def __init__(
        self, newest: int, *, wall: Callable[[], int] = time.time_ns, boottime: Callable[[], int] = _boottime_ns
    ) -> None:
        self._boottime = boottime
        self._offset = max(wall(), newest) - boottime()
        self._last = newest

    def read(self) -> int:
        """Return what the time is; any thread."""
        return self._offset + self._boottime()

    def stamp(self) -> int:
        """Return a time higher than all before; the writing thread only."""
        self._last = max(self._last + 1, self.read())
        return self._last
