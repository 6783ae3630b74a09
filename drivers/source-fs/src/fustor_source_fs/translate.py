"""
Records into work: which names to look at, and how the tree of nodes follows renames.

Makes no system call. A record is never applied to rows, it only says where to look; the
looks at both names of a rename, which compare inodes, put right whatever the pairing
here got wrong. Pairing is what keeps the watches of a moved directory useful.

The kernel's order within one instance is FROM, TO, MOVE_SELF. So a MOVE_SELF of a
directory whose TO has not come means that it left the tree. Where the three come from several
instances the TO may be read after the MOVE_SELF, so the next read is waited for; what is
dropped too early is found anew by the look at its new name, and what is waited for in vain is
dropped a little later. RENAME_EXCHANGE comes as two
pairs (a to b, then b to a): the directory that the first pair displaces stays detached
until the read batch ends, to be what the second pair moves.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from fustor_source_fs import bindings as b
from fustor_source_fs.pending import Work
from fustor_source_fs.records import Record
from fustor_source_fs.shards import get_shard
from fustor_source_fs.watches import Node, Tree

_NAMES_CHANGE: Final = b.IN_CREATE | b.IN_DELETE | b.IN_MOVED_FROM | b.IN_MOVED_TO
_BEING_WRITTEN: Final = b.IN_MODIFY
_UNDER_WAY_S: Final = 1.0


class Place(NamedTuple):
    """A name in a directory."""

    parent: Node
    name: bytes


class Moving(NamedTuple):
    """
    A directory that has left its place.

    Args:
        node: The directory.
        since_s: When its record was read, monotonic seconds.
        place: Where the receiver has it; its `arrived` says that it may not have all of it there.
    """

    node: Node
    since_s: float
    place: Place


class Move(NamedTuple):
    """
    A directory that came to another place, of which the receiver has not been told.

    Args:
        node: The directory.
        place: Where the receiver has it.
        before: The path of that place, once the receiver was told of the moves before this one.
        path: The path of the new place, then.
    """

    node: Node
    place: Place
    before: bytes
    path: bytes


class Translator:
    """
    Applies records to the tree and to the work.

    Args:
        tree: The nodes.
        work: What must be looked at.
        forget: Called with nodes that are gone, and the watches that nobody holds any more.
        now: Monotonic clock.
        takes: Tells which names of non-directories are looked at; None takes all.
        tells_moves: Tells whether the receiver, which was sent the whole tree, may be told of moves now.
    """

    def __init__(
        self,
        tree: Tree,
        work: Work,
        forget: Callable[[list[Node], list[int]], None],
        now: Callable[[], float],
        takes: Callable[[bytes], bool] | None = None,
        tells_moves: Callable[[], bool] = lambda: False,
    ) -> None:
        self._tree = tree
        self._work = work
        self._forget = forget
        self._now = now
        self._takes = takes
        self._tells_moves = tells_moves
        self.moves: deque[Move] = deque()
        """In the order in which the tree of nodes followed them; to be told before anything else."""
        self._moving: dict[int, Moving] = {}
        self._leaving: list[Node] = []
        self._displaced: dict[Place, list[Node]] = {}
        self.captured = 0
        self.overflows = 0
        self.relisted = 0
        """Directories that overflows had listed again."""
        self.relisted_shards: set[int] = set()
        """The shards that these are of; a directory of another shard was never listed for an overflow."""

    def feed(self, records: Sequence[Record]) -> None:
        """Take in the records of one read, or of all that were read at one time."""
        moved_selves: list[Record] = []
        leaving, self._leaving = self._leaving, []
        heat = int(time.time())
        for record in records:
            if record.mask & b.IN_Q_OVERFLOW:
                self.overflow(get_shard(record.watch))
            elif record.mask & b.IN_IGNORED:
                for node in self._tree.forget_watch(record.watch):
                    if not self._move_out(node):
                        self._work.look_self(node)
                        self._work.mark_dirty(node)
            else:
                for node in self._tree.get_holders(record.watch):
                    node.heat = heat
                    self._feed_node(node, record)
            if record.mask & b.IN_MOVE_SELF:
                moved_selves.append(record)  # behind the TO, which may be of another instance
        for record in moved_selves:
            for node in self._tree.get_holders(record.watch):
                self._moved_self(node)
        for node in leaving:
            self._move_out(node)
        for nodes in self._displaced.values():
            for node in nodes:
                self.drop(node)
        self._displaced.clear()

    def overflow(self, shard: int) -> None:
        """Records of a shard were lost, nobody knows which: every directory of it may have changed."""
        self.overflows += 1
        self.relisted_shards.add(shard)
        for moving in self._moving.values():
            self.drop(moving.node)
        self._moving.clear()
        for node in self._tree.get_shard(shard):
            self._work.mark_dirty(node)
            self.relisted += 1

    def mark_subtree_dirty(self, node: Node, *, age: int | None = None) -> None:
        """Note that a directory and all below it must be listed again, as work of an age."""
        self._work.look_self(node, age=age)
        for each in self._tree.walk(node):
            self._work.mark_dirty(each, age=age)

    def list_anew(self, node: Node, *, age: int | None = None) -> None:
        """Note that the receiver has nothing of a directory and all below it at their place, as work of an age."""
        if self._tree.is_detached(node):
            self._tree.doubt(node)
        elif self._tree.get_path(node) is not None:
            self._tree.unsettle(node)
            self.mark_subtree_dirty(node, age=age)

    def give_up_moves(self) -> None:
        """Have all listed of which the receiver was not told, now or when it comes to its place."""
        for moving in self._moving.values():
            self._tree.doubt(moving.node)
        while self.moves:
            self.list_anew(self.moves.popleft().node, age=0)

    def doubt_leaving(self, parent: Node, name: bytes | None = None) -> None:
        """Note that the receiver learns what is at a name, or all in a directory: not what left it and is under way."""
        for moving in self._moving.values():
            if moving.place.parent is parent and name in (None, moving.place.name):
                self._tree.doubt(moving.node)

    def take_moving(self, device: int, inode: int) -> Node | None:
        """
        Take a directory that is under way from one place to another, since it was found.

        So a look may be ahead of the records, and puts right a record that was about another
        directory of the same name.

        Returns:
            The directory's node, detached; None if it is not under way.
        """
        for cookie, moving in self._moving.items():
            if moving.node.is_same(device, inode):
                del self._moving[cookie]
                return moving.node
        return None

    def expire(self) -> None:
        """
        Drop what has been under way for longer than any rename takes.

        Only what a record named wrongly stays that long: its own second record was taken
        for, or came with, a directory of the same name. Dropping is always right, since
        whoever finds the directory lists it anew.
        """
        if self._moving:
            latest = self._now() - _UNDER_WAY_S
            for cookie in [cookie for cookie, moving in self._moving.items() if moving.since_s < latest]:
                self.drop(self._moving.pop(cookie).node)

    def drop(self, node: Node) -> None:
        """Remove a node and all below it, with the watches that become useless."""
        self._forget(*self._tree.drop(node))

    def _feed_node(self, node: Node, record: Record) -> None:
        mask, name = record.mask, record.name
        if not name:
            if mask & b.IN_ATTRIB:
                self._work.look_self(node)
            return
        if mask & _NAMES_CHANGE:
            self._work.look_self(node)
        if self._takes is not None and not mask & b.IN_ISDIR and not self._takes(name):
            return  # a directory that had this name has gone from it by a record of its own
        self.captured += 1
        self._work.look(node, name, closed=not mask & _BEING_WRITTEN)
        if mask & b.IN_ISDIR:
            if mask & b.IN_MOVED_FROM:
                self._moved_from(node, name, record.cookie)
            elif mask & b.IN_MOVED_TO:
                self._moved_to(node, name, record.cookie)
            elif mask & b.IN_CREATE:
                self._list_unsent(node, name)

    def _moved_from(self, parent: Node, name: bytes, cookie: int) -> None:
        place = Place(parent, name)
        displaced = self._displaced.get(place)
        node = displaced.pop() if displaced else parent.children.get(name)
        if node is None:
            return
        if node.parent is not None:
            if self.moves and self.moves[-1].node is node:
                place = self.moves.pop().place  # it goes on before anybody was told
            elif not (self._tells_moves() and node.listed > 0 and self._tree.is_settled(node)):
                node.arrived = True
            self._tree.detach(node)
        if node.watch is None or len(self._tree.get_holders(node.watch)) > 1 or cookie in self._moving:
            # No MOVE_SELF will come for it, or another node stands for the same directory,
            # at its new place already or through a second mount: that one keeps the watch.
            self.drop(node)
        else:
            self._moving[cookie] = Moving(node, self._now(), place)

    def _moved_to(self, parent: Node, name: bytes, cookie: int) -> None:
        moving = self._moving.pop(cookie, None)
        if moving is None:
            # Came from outside, or from a place without a node: the look finds it.
            self._list_unsent(parent, name)
            return
        node = moving.node
        if self._tree.is_below(parent, node):
            self.drop(node)  # the tree was ahead of the records
            return
        displaced = parent.children.get(name)
        if displaced is not None:
            displaced.arrived = True
            self._tree.detach(displaced)
            self._displaced.setdefault(Place(parent, name), []).append(displaced)
        before = self._find_receivers_path(moving) if displaced is None else None
        self._tree.attach(node, parent, name)
        path = self._tree.get_path(node)
        if before is None or path is None or not self._tree.is_settled(node):
            self._tree.unsettle(node)
            self.mark_subtree_dirty(node)
        elif path != before:  # else it is back before anybody was told
            self.moves.append(Move(node, moving.place, before, path))

    def _find_receivers_path(self, moving: Moving) -> bytes | None:
        """Return where the receiver has a directory that is under way, if it has all of it; None if that is unsure."""
        parent, name = moving.place
        if name in parent.children or not self._tree.is_settled(parent):
            return None
        path = self._tree.get_path(parent)
        return path if path is None else path.rstrip(b"/") + b"/" + name

    def _list_unsent(self, parent: Node, name: bytes) -> None:
        """A walk that sends nothing may have listed a new directory before its record came."""
        child = parent.children.get(name)
        if child is not None and child.listed < 0:
            self.mark_subtree_dirty(child)

    def _moved_self(self, node: Node) -> None:
        if any(moving.node is node for moving in self._moving.values()):
            self._leaving.append(node)
        elif node is self._tree.root:
            self.mark_subtree_dirty(node)
        elif node.watch is not None and len(self._tree.get_holders(node.watch)) > 1:
            self._work.look_self(node)  # it is at another place too, and moving that one has changed its ctime here

    def _move_out(self, node: Node) -> bool:
        """Drop a directory that has left its place and will come to no other; False if it has not left."""
        for cookie, moving in self._moving.items():
            if moving.node is node:
                del self._moving[cookie]
                self.drop(node)
                return True
        return False
