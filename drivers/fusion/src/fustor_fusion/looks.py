"""Since when files that may still be written have been seen with the same size and mtime, on Fusion's own clock."""

from collections.abc import Callable
from typing import Final

_MAX_REMEMBERED: Final = 100_000


class Looks:
    """
    Remembers the first look that showed a suspect as it is; a restart only makes suspects wait longer.
    A rollback changes nothing: what was seen, was seen.

    Args:
        clock: Monotonic seconds; agents' clocks decide nothing.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first: dict[tuple[int, bytes], tuple[int, int, float]] = {}

    def note(self, parent: int, name: bytes, *, size: int, mtime_ns: int) -> float:
        """Note a look at a suspect; returns for how many seconds it has been seen as it is now."""
        known = self._first.get((parent, name))
        if known is not None and known[:2] == (size, mtime_ns):
            return self._clock() - known[2]
        if len(self._first) >= _MAX_REMEMBERED:
            del self._first[next(iter(self._first))]
        self._first[parent, name] = (size, mtime_ns, self._clock())
        return 0.0

    def discard(self, parent: int, name: bytes) -> None:
        """Forget a file that is no suspect."""
        self._first.pop((parent, name), None)
