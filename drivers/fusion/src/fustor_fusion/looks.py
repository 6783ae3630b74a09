"""Since when files that may still be written have been seen with the same size and mtime, on Fusion's own clock."""

from collections.abc import Callable
from typing import Final

_MAX_REMEMBERED: Final = 100_000
_LONG_S: Final = 86_400.0


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
        now_s = self._clock()
        known = self._first.get((parent, name))
        if known is not None and known[:2] == (size, mtime_ns):
            return now_s - known[2]
        self.discard(parent, name)
        if len(self._first) >= _MAX_REMEMBERED and not self._forget_oldest(now_s):
            return 0.0
        self._first[parent, name] = (size, mtime_ns, now_s)
        return 0.0

    def _forget_oldest(self, now_s: float) -> bool:
        """
        Forget the oldest look, but only when no second one followed for long; tells whether it did.

        Otherwise none of more suspects than are remembered would ever be remembered at its second look.
        """
        oldest = next(iter(self._first))
        if now_s - self._first[oldest][2] < _LONG_S:
            return False
        del self._first[oldest]
        return True

    def discard(self, parent: int, name: bytes) -> None:
        """Forget a file that is no suspect."""
        self._first.pop((parent, name), None)
