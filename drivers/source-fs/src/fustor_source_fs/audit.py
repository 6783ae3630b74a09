"""
An audit: the tree is walked again, to find what happened where no event could come from.

A full audit lists every directory and looks at every name. An incremental one passes over
a directory whose identity, mtime and ctime are what they were when its last acknowledged
listing began: the system changes both times with every name that comes, goes or is
renamed, so its names are those that the receiver has. What was written in place leaves
the directory as it is; only a full audit finds that. Directories that are not watched are
always listed, since nothing else covers them.
"""

from collections.abc import Callable, Generator, Iterator

from fustor_core.clock import IndexClock
from fustor_core.drivers import AuditCoverage, Item
from fustor_event_model import AuditEnd, AuditStart, EventBase, Listed, MessageSource
from fustor_source_fs.listing import Lister
from fustor_source_fs.pace import Pace
from fustor_source_fs.pending import Group
from fustor_source_fs.walk import Walk
from fustor_source_fs.watches import Node, Tree


class Audit:
    """
    One audit.

    Args:
        kind: `full` or `incremental`.
        walk: Its way, nothing ahead yet.
        tree, lister: Shared with the driver, same thread.
        clock: Stamps.
        pace: How fast names may be looked at.
        absorb: Takes in the records that were read meanwhile; yields None while nothing may be sent.
        pause: Told for how many seconds there is nothing to yield, before None is yielded.
    """

    def __init__(
        self,
        kind: str,
        *,
        walk: Walk,
        tree: Tree,
        lister: Lister,
        clock: IndexClock,
        pace: Pace,
        absorb: Callable[[], Iterator[None]],
        pause: Callable[[float], None],
    ) -> None:
        self._kind = kind
        self._tree = tree
        self._walk = walk
        self._lister = lister
        self._clock = clock
        self._pace = pace
        self._absorb = absorb
        self._pause = pause
        self._listed = 0
        self._skipped = 0
        self._unreadable = 0
        self._rows = 0

    @property
    def coverage(self) -> AuditCoverage:
        """What was looked at so far."""
        return AuditCoverage(
            listed=self._listed, skipped=self._skipped, unreadable=self._unreadable, rows=self._rows
        )

    def run(self) -> Generator[Item | None, None, None]:
        """Yield what is found between `AuditStart` and `AuditEnd`, and None whenever a pause is due."""
        yield AuditStart(index=self._clock.stamp(), message_source=MessageSource.AUDIT, kind=self._kind)
        self._walk.begin()
        try:
            while self._walk:
                node, mark = self._walk.take()
                if mark is not None or self._tree.get_path(node) is not None:
                    yield from self._take(node, mark)
                yield from self._absorb()
        finally:
            self._walk.close()
        complete = not self._unreadable
        yield AuditEnd(index=self._clock.stamp(), message_source=MessageSource.AUDIT, complete=complete)

    def _take(self, node: Node, mark: Group | None) -> Iterator[Item | None]:
        if mark is None and self._kind == "incremental" and self._lister.is_unchanged(node):
            self._skipped += 1
            for child in node.children.values():
                self._walk.add(child)
            self._pace.spend(1)
            yield from self._rest()
            return
        listing = self._lister.list_directory(node, MessageSource.AUDIT, self._walk.add, mark=mark)
        listed = False
        while True:
            before = self._lister.looked
            item = next(listing, None)
            self._pace.spend(self._lister.looked - before)
            if item is None:
                break
            listed = listed or isinstance(item, Listed)
            self._rows += len(item.rows) if isinstance(item, EventBase) else 0
            yield item
            if mark is None:
                yield from self._rest()
        self._listed += listed
        self._unreadable += not listed

    def _rest(self) -> Iterator[None]:
        # What nobody watches yet is owed at once.
        while not self._walk.owed and (pause_s := self._pace.get_pause_s()) > 0:
            self._pause(pause_s)
            yield None
