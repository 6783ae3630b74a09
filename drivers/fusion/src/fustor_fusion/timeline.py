"""Where the indices of one agent lie in Fusion's time, so that those of different agents can be compared."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from math import gcd
from typing import Final

import msgspec

_SAMPLES: Final = 64
_NEAR_NS: Final = 5_000_000
_SHORT_NS: Final = 200_000_000
_SLEW: Final = 8
_MAX_MARKS: Final = 64


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """An index, and the time that it is taken for."""

    index: int
    time: int


class Timeline:
    """
    Tells of each index of an agent and pipe what time it was by Fusion's clock, in nanoseconds.

    What the agent's clock says when it sends, and Fusion's when that arrives, differ by the error of the former and
    by the time in between, which is never negative: of several such differences the smallest is the nearest. A clock
    that is behind by less than a request may take is taken to be right. What is found holds for indices that are
    still to come, so a higher index always has a higher time, give or take one nanosecond, and the same index the same.

    Args:
        marks: What was found so far, in order: straight lines lead from one to the next, and behind the last and
            before the first one an index advances as time does. Without any, an index is a time.
        newest: The highest index that came.
        goes_on: Fusion's clock is still the one by which that was found: what comes late at first shows no error.
    """

    __slots__ = ("_differences", "marks", "newest")

    def __init__(self, marks: Sequence[Mark] = (), newest: int = 0, *, goes_on: bool = False) -> None:
        self.marks = list(marks)
        self.newest = newest
        self._differences: deque[int] = deque([self._get_difference()] * (goes_on and newest > 0), maxlen=_SAMPLES)

    def place(self, index: int) -> int:
        """Return the time of an index; never negative."""
        marks = self.marks
        if not marks:
            return index
        at = bisect_right(marks, index, key=lambda mark: mark.index)
        if 0 < at < len(marks):
            before, after = marks[at - 1], marks[at]
            slope = after.time - before.time, after.index - before.index
            return before.time + (index - before.index) * slope[0] // slope[1]
        mark = marks[max(0, at - 1)]
        return max(0, mark.time + index - mark.index)

    def begin(self) -> None:
        """Trust no difference that was found before: another process of the agent sends, perhaps by another clock."""
        self._differences.clear()

    def compare(self, clock: int, arrived: int, first: int) -> bool:
        """
        Compare the clocks.

        Args:
            clock: What the agent's said when it sent something, as an index.
            arrived: What Fusion's said when that arrived.
            first: The lowest index that comes with it.

        Returns:
            Whether `marks` changed.
        """
        is_first = not self._differences
        self._differences.append(arrived - clock)
        difference = min(self._differences)
        error = difference - self._get_difference()
        if abs(error) <= _NEAR_NS or (not self.marks and 0 < error < _SHORT_NS):
            return False
        if error > 0 and not is_first and len(self._differences) < _SAMPLES:
            return False  # the next may come faster
        self._begin_at(min(first, clock), difference)
        return True

    def _get_difference(self) -> int:
        """Return by how much the times of indices that are still to come are taken to be higher."""
        return self.marks[-1].time - self.marks[-1].index if self.marks else 0

    def _begin_at(self, start: int, difference: int) -> None:
        """Have the time differ so much from an index, from one on that has not come; slowly, if it would go back."""
        reached = -1
        if self.newest:
            kept = self._find_exact(self.newest)
            reached = self.place(kept)
            self._mark(Mark(kept, reached))
            start = max(start, kept + 1)
        else:
            self.marks.clear()
        time = max(start + difference, reached + 1)
        self._mark(Mark(start, time))
        ahead = time - start - difference
        if ahead:
            self._mark(Mark(start + ahead * _SLEW, time + ahead * (_SLEW - 1)))

    def _find_exact(self, index: int) -> int:
        """Find the next index from one on at which a line can end, its time being whole, and still be the same."""
        at = bisect_left(self.marks, index, key=lambda mark: mark.index)
        if not 0 < at < len(self.marks):
            return index
        before, after = self.marks[at - 1], self.marks[at]
        run = after.index - before.index
        step = run // gcd(run, after.time - before.time)
        return index + (before.index - index) % step

    def _mark(self, mark: Mark) -> None:
        """Set the newest mark; those that lay ahead of it were meant for what did not come."""
        while self.marks and self.marks[-1].index >= mark.index:
            self.marks.pop()
        self.marks.append(mark)
        del self.marks[:-_MAX_MARKS]
