"""
The walk that a leader owes: everything, or what a receiver that compares does not hold.

A receiver that compares is told of each directory what its rows amount to, and answers where
it holds something else; only these are sent. What it has nothing of is sent with all below it
without asking. So a tree that the receiver knows costs a look at every name and no rows, and a
snapshot that was cut off goes on where it was.

What is below a directory waits for the answer about it: if it is another one than the receiver
holds there, its row takes all away that was below the old one, whatever was said of that before.
"""

import enum
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fustor_core.clock import IndexClock
from fustor_event_model import FsItem, Listed, MessageSource, RowsDigest, Unchanged, UpdateEvent
from fustor_source_fs.inflight import Inflight
from fustor_source_fs.listing import CHUNK_ROWS, Lister
from fustor_source_fs.watches import Node, Tree

_LANE = MessageSource.SNAPSHOT


class _How(enum.Enum):
    """What is to be done with a directory, and with those below it."""

    COMPARE = enum.auto()
    SEND = enum.auto()  # but compare those below it
    SEND_ALL = enum.auto()


class _Question(NamedTuple):
    """A directory of which the answer is outstanding, and the directories in it, with their generations, which wait."""

    node: Node
    found: list[Node]
    generations: list[int]


class Snapshot:
    """
    One snapshot.

    Args:
        tree, lister, inflight: Shared with the driver, same thread.
        clock: Stamps.
        absorb: Takes in the records that were read meanwhile.
        compares: The receiver does.
    """

    def __init__(
        self,
        tree: Tree,
        lister: Lister,
        inflight: Inflight,
        clock: IndexClock,
        *,
        absorb: Callable[[], None],
        compares: bool,
    ) -> None:
        self._tree = tree
        self._lister = lister
        self._inflight = inflight
        self._absorb = absorb
        self._begun = clock.stamp()
        self._ahead = {tree.root: _How.COMPARE if compares else _How.SEND_ALL}
        self._shares = {tree.root: 1.0}
        self._done = 0.0
        self._differing: dict[Node, _How] = {}
        self._asked: dict[bytes, _Question] = {}
        self.goes_on = False
        """It has yielded None although there is more to do."""

    def run(self) -> Iterator[FsItem | None]:
        """Yield all but the end; None while answers are outstanding, and now and then in a large directory."""
        while self._differing or self._ahead or self._asked:
            self._absorb()
            is_told = False
            if self._differing:  # the oldest first, so that what is above goes before what is below
                node = next(iter(self._differing))
                how = self._differing.pop(node)
            elif self._ahead:
                node, how = self._ahead.popitem()
                is_told = how is _How.SEND_ALL
            else:
                yield None
                continue
            found: list[Node] = []
            if self._tree.get_path(node) is not None:
                if node.listed > self._begun:  # by the message iterator, meanwhile
                    found += node.children.values()
                elif how is _How.COMPARE and not self._must_be_sent(node):
                    yield from self._compare(node)
                    continue
                else:
                    yield from self._lister.list_directory(node, _LANE, found.append, is_told=is_told)
            self._add(node, found, how)

    @property
    def progress(self) -> float:
        """Which part is done, from 0 to 1: each directory's share is divided evenly between it and those in it."""
        return min(1.0, self._done)

    def is_complete(self) -> bool:
        """Tell whether the root was listed."""
        return self._tree.root.listed > self._begun

    def settle(self, position: bytes, *, held: bool) -> None:
        """An item was acknowledged, and the receiver holds what it said, or it goes another way."""
        question = self._asked.pop(position, None)
        if question is not None:
            for child, generation in zip(question.found, question.generations, strict=True):
                if held and child.generation == generation:
                    child.arrived = False
            self._add(question.node, question.found, _How.COMPARE)

    def differs(self, position: bytes, *, known: bool) -> None:
        """The receiver holds something else than was said, or nothing (and then nothing below it) if not `known`."""
        question = self._asked.pop(position, None)
        if question is not None:
            question.node.listed = -abs(question.node.listed)
            self._differing[question.node] = _How.SEND if known else _How.SEND_ALL

    # -- private ---------------------------------------------------------------------------

    def _compare(self, node: Node) -> Iterator[FsItem | None]:
        digest = RowsDigest()
        found: list[Node] = []
        generations: list[int] = []
        for item in self._lister.list_directory(node, _LANE, found.append):
            if isinstance(item, UpdateEvent):
                self._withdraw(item)
                for child in found[len(generations) :]:
                    child.arrived = True  # its row was not sent, and nothing below it goes before
                    generations.append(child.generation)
                digest.add(item.rows)
                if digest.count > CHUNK_ROWS:
                    self.goes_on = True
                    yield None
                    self.goes_on = False
            elif isinstance(item, Listed):
                assert item.position is not None
                self._asked[item.position] = _Question(node, found, generations)
                yield Unchanged(
                    index=item.index,
                    message_source=_LANE,
                    position=item.position,
                    path=item.path,
                    count=digest.count,
                    digest=digest.finish(),
                )
                return
            else:
                yield item
        self._differing[node] = _How.SEND  # it was not listed completely: say at least what was found

    def _must_be_sent(self, node: Node) -> bool:
        """Tell whether rows of directories above, or its own, go before all that is below them."""
        return node.arrived or bool(self._tree.get_arrived(node))

    def _withdraw(self, item: FsItem) -> None:
        if item.position is not None:
            self._inflight.take(item.position)

    def _add(self, node: Node, found: list[Node], how: _How) -> None:
        """Note the directories that were found in another, whose own share of the whole is done."""
        share = self._shares.pop(node, 0.0) / (len(found) + 1)
        self._done += share
        for child in found:
            if how is _How.SEND_ALL:
                self._ahead[child] = how
            else:
                self._ahead.setdefault(child, _How.COMPARE)
            self._shares[child] = self._shares.get(child, 0.0) + share
