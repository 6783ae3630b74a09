"""Hard links: an observation of one name is one of all names of the same inode."""

import stat

from fustor_event_model import FsRow
from fustor_fusion.tree import Tree

_MAX_SEARCHED = 10_000


class HardLinks:
    """
    Spreads size, times and link count over the names of an inode.

    Only names with a link count above one are indexed. When fewer of them are known than the
    inode has, the missing name may be stored from the time when it was the only one: then all
    nodes are searched, once per identity and link count.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._seen: dict[tuple[int, int], tuple[FsRow, int]] = {}
        self._searched: set[tuple[int, int, int]] = set()

    def note(self, row: FsRow, idx: int) -> None:
        """Remember a realtime row of a name with a link count above one, until `spread`."""
        if not stat.S_ISDIR(row.mode):
            self._seen[row.inode, row.device] = (row, idx)

    def forget(self) -> None:
        """Drop what was noted, after a rollback."""
        self._seen.clear()

    def spread(self) -> None:
        """Write what was noted to the other names. Collected writes must have been flushed."""
        if not self._seen:
            return
        seen, self._seen = self._seen, {}
        missing: list[int] = []
        for (inode, device), (row, _) in seen.items():
            (known,), = self._tree.execute(
                "SELECT count(*) FROM nodes WHERE nlink>1 AND id IS NULL AND inode=? AND device=?", (inode, device))
            key = (inode, device, row.nlink)
            if known < row.nlink and key not in self._searched:
                if len(self._searched) >= _MAX_SEARCHED:
                    self._searched.clear()
                self._searched.add(key)
                missing.append(inode)
        names = self._search(missing)
        for identity, (row, idx) in seen.items():
            self._spread_one(identity, row, idx, names.get(identity, []))

    def _search(self, inodes: list[int]) -> dict[tuple[int, int], list[tuple[int, bytes]]]:
        """Find the names of these inodes that are stored as their only one."""
        found: dict[tuple[int, int], list[tuple[int, bytes]]] = {}
        for at in range(0, len(inodes), 500):
            part = inodes[at : at + 500]
            marks = ",".join("?" * len(part))
            where = f"nlink=1 AND id IS NULL AND inode IN ({marks})"
            for inode, device, parent, name in self._tree.execute(
                f"SELECT inode, device, parent, name FROM nodes WHERE {where}", part
            ):
                found.setdefault((inode, device), []).append((parent, name))
        return found

    def _spread_one(self, identity: tuple[int, int], row: FsRow, idx: int, names: list[tuple[int, bytes]]) -> None:
        execute = self._tree.execute
        for parent, name in names:
            execute("UPDATE nodes SET nlink=? WHERE parent=? AND name=? AND idx<?", (row.nlink, parent, name, idx))
        where = "nlink>1 AND id IS NULL AND inode=? AND device=? AND idx<?"
        (count, size), = execute(f"SELECT count(*), ifnull(sum(size), 0) FROM nodes WHERE {where}", (*identity, idx))
        if count:
            execute(f"UPDATE nodes SET size=?, mtime_ns=?, ctime_ns=?, mode=?, uid=?, gid=?, nlink=? WHERE {where}",
                    (row.size, row.mtime_ns, row.ctime_ns, row.mode, row.uid, row.gid, row.nlink, *identity, idx))
            self._tree.counts.bytes += count * row.size - size
