"""The index clock: one strictly increasing number per pipe."""

import time
from collections.abc import Callable


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class IndexClock:
    """
    Stamps observations: `seed + CLOCK_BOOTTIME` in nanoseconds, never the same number twice.

    The seed is computed once per start of the agent, so that a new process never stamps
    below its predecessor and a stepped wall clock changes nothing. Not shared between
    threads: the thread that looks is the one that stamps.

    Args:
        seed_ns: Added to the clock.
        clock_ns: The clock; injected in tests.
    """

    def __init__(self, seed_ns: int, *, clock_ns: Callable[[], int] = _boottime_ns) -> None:
        self._seed_ns = seed_ns
        self._clock_ns = clock_ns
        self._last = 0

    def read(self) -> int:
        """Return about what the next stamp will be, of this or another process with this seed; any thread."""
        return self._seed_ns + self._clock_ns()

    def stamp(self) -> int:
        """Return a number above all that this clock returned before; take it before you look."""
        now = self.read()
        self._last = now if now > self._last else self._last + 1
        return self._last


def choose_seed(*, wall_ns: int, boottime_ns: int, reserve_ns: int) -> int:
    """
    Choose a seed with which every stamp is above the reserve.

    Args:
        wall_ns: The wall clock now, nanoseconds since the epoch.
        boottime_ns: CLOCK_BOOTTIME now.
        reserve_ns: The number below which earlier runs may have stamped; 0 on the first run.

    Returns:
        The seed for `IndexClock`.
    """
    return max(wall_ns, reserve_ns) - boottime_ns
