"""Hard links: an observation of one name is one of all names of the same inode."""

import stat
from collections.abc import Iterable, Sequence
from typing import Any

from fustor_event_model import FsRow
from fustor_fusion.schema import ROOT_ID
from fustor_fusion.totals import find_path
from fustor_fusion.tree import Tree

_MAX_SEARCHED = 10_000
_MAX_VARIABLES = 30_000
_SPREAD = "size, mtime_ns, ctime_ns, mode, uid, gid, nlink"
_NAME = f"parent, name, idx, {_SPREAD}"
_OF_INODE = f"SELECT {_NAME} FROM nodes WHERE nlink>1 AND id IS NULL AND inode=? AND device=?"
_GROUPED = "SELECT inode, device FROM nodes WHERE nlink>1 AND id IS NULL GROUP BY inode, device HAVING"
_CHANGING = ("size", "mtime_ns", "ctime_ns", "nlink")
_UNEQUAL = f"{_GROUPED} " + " OR ".join(f"min({each})<max({each})" for each in _CHANGING)
_UNMET = f"{_GROUPED} count(*)<max(nlink) LIMIT 1"
_STALE = (
    "SELECT inode, device FROM nodes AS n WHERE nlink=1 AND id IS NULL AND EXISTS (SELECT 1 FROM nodes AS l"
    " WHERE l.nlink>1 AND l.id IS NULL AND l.inode=n.inode AND l.device=n.device AND l.idx>n.idx)"
)

_Identity = tuple[int, int]
_Name = tuple[Any, ...]  # the columns of `_NAME`; once it is raised, the index is at least the directory's floor


class HardLinks:
    """
    Spreads size, times, mode, owner and link count over the names of an inode: of the names that
    are stored, the one that was seen last speaks for all.

    After each realtime row, and for all inodes at the end of a snapshot or audit: a name may have
    been listed before, and another after, what nobody watched yet.

    Only names with a link count above one are indexed. When fewer of them are known than the
    inode has, the missing name may be stored from the time when it was the only one: then all
    nodes are searched, after realtime rows once per identity and link count, until the inode is
    seen with a single name again.

    That a name is gone causes no event at the others, nor does what was written through it just
    before: one of them must be looked at.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._seen: set[_Identity] = set()
        self._searched: dict[_Identity, int] = {}

    def note(self, rows: Iterable[FsRow]) -> None:
        """Remember of which inodes `spread` must take care, and which have a single name now."""
        for row in rows:
            if row.nlink > 1:
                if not stat.S_ISDIR(row.mode):
                    self._seen.add((row.inode, row.device))
            elif self._searched:
                self._searched.pop((row.inode, row.device), None)

    def forget(self) -> None:
        """Drop what was noted, after a rollback."""
        self._seen.clear()
        self._searched.clear()

    def spread(self) -> None:
        """Let each noted inode's names be equal. Collected writes must have been flushed."""
        if not self._seen:
            return
        seen, self._seen = self._seen, set()
        missing: list[_Identity] = []
        for identity in seen:
            names = self._spread_one(identity, [])
            if names and len(names) < names[0][-1] and self._searched.get(identity) != names[0][-1]:
                if len(self._searched) >= _MAX_SEARCHED:
                    self._searched.clear()
                self._searched[identity] = names[0][-1]
                missing.append(identity)
        self._search(missing)

    def find_left(self) -> list[bytes]:
        """Return, for each file of which a name is gone, the path of another one, if none was seen since."""
        tree = self._tree
        unlinked, tree.unlinked = tree.unlinked, {}
        above: dict[int, bytes] = {0: b"", ROOT_ID: b""}
        left: list[bytes] = []
        for identity, limit in unlinked.items():
            for parent, name, idx, *_ in self._find_names(identity)[:1]:
                if idx <= limit:
                    left.append(find_path(parent, above, tree.totals.get_place) + b"/" + name)
        return left

    def spread_all(self) -> None:
        """Let every inode's names be equal; looks at every node if some inode has names that are not known."""
        execute = self._tree.execute
        self._searched.clear()
        for identity in execute(_UNEQUAL).fetchall():
            self._spread_one(identity, [])
        if execute(_UNMET).fetchall():
            self._search(execute(_STALE).fetchall())

    def _search(self, identities: list[_Identity]) -> None:
        """Look among all names that are stored as their inode's only one."""
        for at in range(0, len(identities), _MAX_VARIABLES):
            part = identities[at : at + _MAX_VARIABLES]
            found: dict[_Identity, list[_Name]] = {identity: [] for identity in part}
            marks = ",".join("?" * len(part))
            for inode, device, *name in self._tree.execute(
                f"SELECT inode, device, {_NAME} FROM nodes"
                f" WHERE nlink=1 AND id IS NULL AND inode IN ({marks})", [inode for inode, _ in part]
            ).fetchall():
                if (inode, device) in found:
                    found[inode, device].append(self._raise(name))
            for identity, names in found.items():
                if names:
                    self._spread_one(identity, names)

    def _spread_one(self, identity: _Identity, others: list[_Name]) -> list[_Name]:
        """Let the name that was seen last speak for the indexed names and some others; returns the indexed ones."""
        names = self._find_names(identity)
        if names:
            _, _, latest, *state = names[0]
            for parent, name, idx, *old in names[1:] + others:
                if idx < latest and old != state:
                    self._tree.execute(
                        "UPDATE nodes SET size=?, mtime_ns=?, ctime_ns=?, mode=?, uid=?, gid=?, nlink=?"
                        " WHERE parent=? AND name=?", (*state, parent, name))
                    self._tree.totals.add(parent, size=state[0] - old[0])
                    self._tree.changes.put(parent, name)
        return names

    def _find_names(self, identity: _Identity) -> list[_Name]:
        """Return the indexed names, the one that was seen last first."""
        return sorted(map(self._raise, self._tree.execute(_OF_INODE, identity)), key=_get_index, reverse=True)

    def _raise(self, name: Sequence[Any]) -> _Name:
        parent, text, idx, *state = name
        return parent, text, max(idx, self._tree.get_floor(parent)), *state


def _get_index(name: _Name) -> int:
    index: int = name[2]
    return index
