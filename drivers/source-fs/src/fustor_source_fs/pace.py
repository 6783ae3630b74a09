"""How fast work may go on: so much a second, in short bursts."""

from collections.abc import Callable
from typing import Final

BURST_S: Final = 0.1
"""What is done in one go before a pause: so that pauses are few, and batches are not tiny."""


class Pace:
    """
    Lets work go on at a bounded rate, which the worker asks for and keeps by itself.

    Args:
        per_s: How many pieces of work a second; 0 is as many as there are.
        now: Monotonic seconds.
        get_share: Returns which part of the rate may be used at present, above 0 to 1.
    """

    def __init__(
        self, per_s: float, now: Callable[[], float], *, get_share: Callable[[], float] = lambda: 1.0
    ) -> None:
        self._per_s = per_s
        self._now = now
        self._get_share = get_share
        self._paid_s = now()
        self._pauses = False

    def spend(self, count: int) -> None:
        """Note that so many pieces were done."""
        if self._per_s:
            self._paid_s = max(self._paid_s, self._now()) + count / (self._per_s * self._get_share())
            self._pauses = self._pauses or self._paid_s - self._now() > BURST_S

    def get_pause_s(self) -> float:
        """Return for how long no more may be done, in seconds; 0 when it may go on."""
        left_s = self._paid_s - self._now() if self._pauses else 0.0
        self._pauses = left_s > 0
        return max(0.0, left_s)
