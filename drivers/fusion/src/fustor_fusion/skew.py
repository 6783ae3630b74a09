"""By how much the times of files differ from Fusion's clock, where agents tell no clock of their own."""

from collections import Counter, deque
from typing import Final

_BUCKET_NS: Final = 1_000_000_000
_SAMPLES: Final = 1_000
_ENOUGH: Final = 3
_LONGEST_NS: Final = 86_400 * 10**9


class Skew:
    """
    The difference of Fusion's clock and the one that stamps the files of an agent: the smallest that comes repeatedly.

    A file that is written is reported soon after, so the right difference, and somewhat larger ones, come again and
    again. A file that was copied or restored with an old time has a larger one, mostly beyond a day, which no clock
    is wrong by; one with a time in the future has a smaller one, but they are few.

    Args:
        ns: What was found before, in nanoseconds; it is to be added to a file's time.
    """

    __slots__ = ("_buckets", "_counts", "ns")

    def __init__(self, ns: int = 0) -> None:
        self.ns = ns
        self._buckets: deque[int] = deque()
        self._counts: Counter[int] = Counter()

    def note(self, difference_ns: int) -> None:
        """Take what the arrival of a change, seen as it happened, is later than its file's time; call `settle` then."""
        if abs(difference_ns) > _LONGEST_NS:
            return
        bucket = difference_ns // _BUCKET_NS
        self._buckets.append(bucket)
        self._counts[bucket] += 1
        if len(self._buckets) > _SAMPLES:
            oldest = self._buckets.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]

    def settle(self) -> None:
        """Find the difference anew."""
        smallest = min((bucket for bucket, count in self._counts.items() if count >= _ENOUGH), default=None)
        if smallest is not None:
            self.ns = smallest * _BUCKET_NS
