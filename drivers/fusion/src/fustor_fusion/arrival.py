"""Indices for agents that have none of their own: the order of arrival."""

import time
from collections.abc import Callable


class ArrivalClock:
    """
    Nanoseconds since the epoch, as near as a clock can be to them that never goes back.

    It runs with the monotonic clock and follows the wall clock forwards only, so whatever came later has the
    higher index, also when the wall clock is set back, while Fusion runs or between two starts.

    Args:
        newest: The highest index that any agent has sent before.
        wall: Nanoseconds since the epoch.
        monotonic: Nanoseconds since any time.
    """

    def __init__(
        self, newest: int, *, wall: Callable[[], int] = time.time_ns, monotonic: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = newest - monotonic()
        self._last = newest

    def read(self) -> int:
        """Return what the time is; any thread."""
        now = self._monotonic()
        self._offset = max(self._offset, self._wall() - now)
        return self._offset + now

    def stamp(self) -> int:
        """Return an index higher than all before; the writing thread only."""
        self._last = max(self._last + 1, self.read())
        return self._last
