"""
Tell the receiver which directories came to other places, so that what is below them need not be sent again.

A move changes the paths of all that is below it, also of what is under way to the receiver. So
moves go alone: they are told when nothing else is under way on any lane, and until they are
answered nothing else is sent. The receiver then has below the old path just what was sent of the
directory, and what was not sent yet is work that goes with its nodes. What it cannot follow, or
what is not found at its new place, is listed there like anything new.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Final

from fustor_core.clock import IndexClock
from fustor_core.drivers import Item
from fustor_event_model import Moved
from fustor_source_fs.events import Events
from fustor_source_fs.inflight import Inflight
from fustor_source_fs.places import Places
from fustor_source_fs.translate import Translator
from fustor_source_fs.walk import Walk
from fustor_source_fs.watches import Node, Tree

_AT_ONCE: Final = 1_000
_REFUSED_FOR_S: Final = 60.0
"""A receiver that refused one, since another agent is there, say, refuses the next most likely too."""


class Moves:
    """
    Makes `Moved` of the moves that the translator paired.

    Args:
        tree, translator, places, inflight, events: Shared with the driver, same thread.
        clock: Stamps.
        now: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        translator: Translator,
        places: Places,
        inflight: Inflight,
        events: Events,
        clock: IndexClock,
        now: Callable[[], float],
    ) -> None:
        self._tree = tree
        self._translator = translator
        self._places = places
        self._inflight = inflight
        self._events = events
        self._clock = clock
        self._now = now
        self._unanswered = 0
        self._refused_until_s = 0.0
        self.walks: list[Walk] = []
        """Those that are under way."""
        self.told = 0

    def are_taken(self) -> bool:
        """Tell whether the receiver is not known to refuse them."""
        return self._now() >= self._refused_until_s

    def wait(self) -> Iterator[None]:
        """Yield None while something is to be told or answered."""
        while self._unanswered or self._translator.moves:
            yield None

    def tell(self) -> Iterator[Moved | None]:
        """Yield what moved and was not told yet, and None until it may be told and until it is answered."""
        while self._unanswered or self._translator.moves:
            if self._unanswered or self._inflight:
                yield None
            else:
                yield from self._make_batch()

    def wait_between(self, items: Generator[Item | None, None, None]) -> Iterator[Item | None]:
        """Yield what a walk finds, and None while directories have moved and the receiver does not know."""
        with contextlib.closing(items):
            yield from self.wait()
            for item in items:
                yield item
                if self._unanswered or self._translator.moves:
                    yield from self.wait()

    def tell_between(self, items: Generator[Item, None, None]) -> Iterator[Item | None]:
        """Yield what is found, and whenever directories have moved meanwhile, that before all else."""
        with contextlib.closing(items):
            for item in items:
                yield item
                yield from self.tell()

    def settle(self, node: Node) -> None:
        """The receiver has followed; walks that have passed the new place go there again."""
        self._unanswered -= 1
        for walk in self.walks:
            walk.came(node)

    def recover(self, node: Node) -> None:
        """The receiver has not followed, or not said so: list a directory at its new place with all below it."""
        self._unanswered -= 1
        self._refused_until_s = self._now() + _REFUSED_FOR_S
        self._translator.list_anew(node, age=0)
        self._translator.give_up_moves()

    def _make_batch(self) -> list[Moved]:
        moves = self._translator.moves
        batch: list[Moved] = []
        while moves and len(batch) < _AT_ONCE:
            move = moves[0]
            index = self._clock.stamp()
            if not self._is_there(move.node):
                self._translator.give_up_moves()  # those after it may be about what is below it
                break
            moves.popleft()
            batch.append(self._events.moved(move.node, move.before, move.path, index))
        self._unanswered = len(batch)
        self.told += len(batch)
        return batch

    def _is_there(self, node: Node) -> bool:
        """Tell whether a directory is where its node is, and is at the receiver but for its place."""
        path = self._tree.get_path(node)
        return path is not None and self._tree.is_settled(node) and self._places.stat(node, path) is not None
