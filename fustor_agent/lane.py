"""One lane of a data link, as the source sees it: its sequence and its window."""

from collections import deque
from typing import Final

WINDOW_BATCHES: Final = 2
"""Batches under way on one lane; each lane has its own, so none can fill another's."""

LARGE_ROWS: Final = 500
"""
A second batch is sent only behind a large one, to keep the receiver busy.

Behind a small one it would only wait in a queue: what waits at the source instead is
looked at late, and once.
"""


class Lane:
    """
    Counts batches and remembers the positions in those that are not acknowledged.

    Args:
        window: How many may be under way.
    """

    def __init__(self, window: int = WINDOW_BATCHES) -> None:
        self._window = window
        self._seq = 0
        self._sent: deque[tuple[int, list[bytes]]] = deque()
        self._last_rows = 0

    @property
    def is_open(self) -> bool:
        """Tell whether another batch may be sent."""
        return not self._sent or (len(self._sent) < self._window and self._last_rows >= LARGE_ROWS)

    @property
    def unacknowledged(self) -> int:
        """Number of batches under way."""
        return len(self._sent)

    def send(self, positions: list[bytes], rows: int) -> int:
        """Note a batch of that many rows and return its sequence number."""
        self._seq += 1
        self._last_rows = rows
        self._sent.append((self._seq, positions))
        return self._seq

    def acknowledge(self, seq: int) -> list[bytes]:
        """Return the positions of the batch and all before it, which are settled now."""
        settled: list[bytes] = []
        while self._sent and self._sent[0][0] <= seq:
            settled += self._sent.popleft()[1]
        return settled

    def take_one(self, seq: int) -> list[bytes]:
        """Return the positions of one batch that will not be delivered."""
        for entry in self._sent:
            if entry[0] == seq:
                self._sent.remove(entry)
                return entry[1]
        return []

    def reset(self) -> list[bytes]:
        """Begin a new epoch; returns the positions of all batches that were under way."""
        left = [position for _, positions in self._sent for position in positions]
        self._sent.clear()
        self._seq = 0
        return left
