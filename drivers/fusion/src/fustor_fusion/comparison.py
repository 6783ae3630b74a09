"""Is what is stored of a directory just what an agent found there, and what follows if it is."""

from collections.abc import Iterator
from itertools import chain, starmap

import msgspec

from fustor_event_model import FsRow, RowsDigest, Unchanged
from fustor_fusion.rules import Seen
from fustor_fusion.tree import Directory, Tree

_ROW = "name, size, mtime_ns, ctime_ns, mode, uid, gid, device, inode, nlink, target"
_OWN = f"SELECT {_ROW} FROM nodes WHERE parent=? AND name=?"
_CHILDREN = f"SELECT {_ROW} FROM nodes WHERE parent=?"
_FOREIGN = "SELECT name FROM nodes WHERE parent=? AND owner<>? AND idx<?"
_UINT64 = (1 << 64) - 1


class Differing(msgspec.Struct, frozen=True):
    """
    A directory of which not just that is stored which an agent found there.

    Args:
        position: Of its `Unchanged`.
        known: Something is stored in it; otherwise nothing can be below it either.
    """

    position: bytes
    known: bool


def holds(tree: Tree, directory: Directory, item: Unchanged) -> bool:
    """Tell whether exactly what the item speaks of is stored. Collected writes must have been flushed."""
    if _digest(_read(tree, directory)) == (item.count, item.digest):
        return True
    # Inodes and devices are unsigned; the store's numbers are signed. On most file systems none is that large.
    large = any(row.inode < 0 or row.device < 0 for row in _read(tree, directory))
    return large and _digest(map(_unwrap, _read(tree, directory))) == (item.count, item.digest)


def confirm(tree: Tree, directory: Directory, seen: Seen) -> None:
    """
    Note that an agent saw a directory and its names as they are stored, later than its last listing.

    Those that another agent saw last count as seen by this one from here on, as if it had sent them.
    Its own need no write each: they count as seen at the floor that the directory gets.
    """
    for (name,) in tree.execute(_FOREIGN, (directory.id, seen.owner, seen.idx)).fetchall():
        tree.confirm(directory.id, name, seen)
    if max(directory.idx, tree.get_floor(directory.parent)) < seen.idx:
        tree.confirm(directory.parent, directory.name, seen)


def is_empty(tree: Tree, directory: Directory) -> bool:
    """Tell whether nothing is stored in a directory."""
    return not tree.execute("SELECT 1 FROM nodes WHERE parent=? LIMIT 1", (directory.id,)).fetchall()


def _read(tree: Tree, directory: Directory) -> Iterator[FsRow]:
    own = tree.execute(_OWN, (directory.parent, directory.name))
    return starmap(FsRow, chain(own, tree.execute(_CHILDREN, (directory.id,))))


def _digest(rows: Iterator[FsRow]) -> tuple[int, bytes]:
    digest = RowsDigest()
    digest.add(rows)
    return digest.count, digest.finish()


def _unwrap(row: FsRow) -> FsRow:
    return msgspec.structs.replace(row, inode=row.inode & _UINT64, device=row.device & _UINT64)
