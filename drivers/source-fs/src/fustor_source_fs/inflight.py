"""What was yielded and is not acknowledged yet, by position."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from fustor_source_fs.watches import Node

_POSITION_BYTES: Final = 8


class Sent(msgspec.Struct, frozen=True, gc=False):
    """
    What one item covers.

    Args:
        node: The directory; None for the end of a snapshot.
        names: The names in it that were looked at; empty means all, by a listing.
        since_s: When the oldest change in it was noted, monotonic seconds.
        times: Of the word that a listing is complete: what the node is to remember once it is acknowledged.
        generation: The node's, when it was sent.
        moved: It is the word that the directory moved.
    """

    node: Node | None
    names: tuple[bytes, ...]
    since_s: float
    times: tuple[int, int] | None = None
    generation: int = 0
    moved: bool = False

    def settle(self) -> None:
        """It was acknowledged: remember the listing, if it still stands."""
        if self.node is not None and self.times is not None and self.node.generation == self.generation:
            self.node.times = self.times


class Inflight:
    """Gives out positions, and remembers what each covers until it is acknowledged or recovered."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._next = 1
        self._sent: dict[bytes, Sent] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def add(
        self,
        node: Node | None,
        names: Iterable[bytes] = (),
        since_s: float | None = None,
        times: tuple[int, int] | None = None,
        *,
        moved: bool = False,
    ) -> bytes:
        """Remember what an item covers; returns its position."""
        position = self._next.to_bytes(_POSITION_BYTES, "big")
        self._next += 1
        generation = 0 if node is None else node.generation
        since_s = self._now() if since_s is None else since_s
        self._sent[position] = Sent(node, tuple(names), since_s, times, generation, moved)
        return position

    def take(self, position: bytes) -> Sent | None:
        """Forget a position; returns what it covered, or None if that is settled already."""
        return self._sent.pop(position, None)

    def get_oldest_s(self) -> float | None:
        """Return since when the oldest change waits, monotonic seconds; None if nothing does."""
        return min((sent.since_s for sent in self._sent.values()), default=None)
