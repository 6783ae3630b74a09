"""Blind spots: what only an audit or an on-demand scan saw, since no change of it was reported."""

from collections.abc import Callable
from typing import Any

import apsw

from fustor_fusion.schema import ROOT_ID
from fustor_fusion.tree import Tree

MAX_DELETIONS = 10_000
_MANY = 1_000  # from here on it is shorter to read the view again than to name what has changed


class BlindDeletions:
    """
    The names that an audit or a scan found gone, as far as nothing was reported of them since: the newest of them.

    Works inside the writer's transaction, and remembers them, since every realtime row asks.

    Args:
        connection: The writing connection.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute: Callable[..., Any] = connection.execute
        self._known: set[tuple[int, bytes]] | None = None

    def add(self, parent: int, name: bytes, index: int) -> None:
        """Note that a name of a directory was found gone."""
        known = self._get_known()
        known.add((parent, name))
        self._execute("INSERT OR REPLACE INTO blind_deletions VALUES(?,?,?)", (parent, name, index))
        if len(known) > MAX_DELETIONS:
            (*oldest,), = self._execute("SELECT parent, name FROM blind_deletions ORDER BY idx LIMIT 1")
            self.discard(*oldest)

    def discard(self, parent: int, name: bytes) -> None:
        """Forget a name: something was reported of it, or it is there again."""
        known = self._get_known()
        if (parent, name) in known:
            known.remove((parent, name))
            self._execute("DELETE FROM blind_deletions WHERE parent=? AND name=?", (parent, name))

    def forget(self) -> None:
        """Drop what is remembered, after a rollback or a change behind it."""
        self._known = None

    def _get_known(self) -> set[tuple[int, bytes]]:
        if self._known is None:
            self._known = set(self._execute("SELECT parent, name FROM blind_deletions").fetchall())
        return self._known


def clear_blind_spots(tree: Tree) -> None:
    """Forget every blind spot: a session begins. Collected writes must have been flushed; forget `BlindDeletions`."""
    marked: list[tuple[int, bytes]] = tree.execute("SELECT parent, name FROM nodes WHERE flags & 8").fetchall()
    if len(marked) > _MANY:
        tree.changes.list(ROOT_ID)
    else:
        for parent, name in marked:
            tree.changes.put(parent, name)
    tree.execute("UPDATE nodes SET flags=flags & ~8 WHERE flags & 8")
    tree.execute("DELETE FROM blind_deletions")
