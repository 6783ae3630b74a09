"""The way of an audit or a scan through the tree, which may end at any directory."""

from fustor_source_fs.pending import Group, Work
from fustor_source_fs.places import Places
from fustor_source_fs.retries import Retries
from fustor_source_fs.watches import Node, Tree


class Walk:
    """
    The directories that a walk has before it, the newest first.

    A directory that was not listed or watched so far is open work until the walk has listed
    it: its parent is listed already, so nobody else will, and what happens in it is not seen
    yet. Barriers wait for it, and if the walk ends before, it is marked dirty.

    A directory that moves meanwhile may come to where the walk has passed, so the walk goes there again.

    Args:
        top: Where it begins.
        tree, places, retries, work: Shared with the driver, same thread.
        walks: Those that are under way.
    """

    def __init__(
        self,
        top: Node,
        *,
        tree: Tree,
        places: Places,
        retries: Retries,
        work: Work,
        walks: "list[Walk]",
    ) -> None:
        self._top = top
        self._tree = tree
        self._places = places
        self._retries = retries
        self._work = work
        self._walks = walks
        self._ahead: list[tuple[Node, Group | None]] = []
        self.owed = 0
        """How many of the directories ahead are open work."""

    def __bool__(self) -> bool:
        return bool(self._ahead)

    def begin(self) -> None:
        """Put the top before all; until `close`."""
        self._walks.append(self)
        self.add(self._top)

    def came(self, node: Node) -> None:
        """A directory came to another place, with all below it, of which the receiver was told."""
        if self._tree.is_below(node, self._top):
            self.add(node)

    def add(self, node: Node) -> None:
        """Put a directory before all others."""
        mark = None
        if self._places.needs_listing(node):
            mark = self._work.open_group(self._work.get_oldest_age())
            self.owed += 1
        self._ahead.append((node, mark))

    def take(self) -> tuple[Node, Group | None]:
        """Take the next directory, and the work that its listing fulfils, if it is work."""
        node, mark = self._ahead.pop()
        self.owed -= mark is not None
        if self._tree.is_detached(node):
            self._tree.doubt(node)  # nothing below it is seen by this walk
        return node, mark

    def close(self) -> None:
        """End the walk; what is still open goes to the message iterator."""
        if self in self._walks:
            self._walks.remove(self)
        while self._ahead:
            node, mark = self.take()
            if mark is not None:
                self._retries.mark_later(node, mark)
