"""A view as plain as can be: what a receiver holds if it applies events by the higher index."""

import stat
from collections import Counter
from collections.abc import Iterable

import msgspec

from fustor_event_model import (
    DeleteEvent,
    FsItem,
    FsRow,
    InsertEvent,
    Listed,
    Moved,
    RowsDigest,
    Unchanged,
    UpdateEvent,
)
from oracle import DIRECTORY, FILE, OTHER, SYMLINK, Entry


class ModelView:
    """Rows by path, in one dictionary; the slow and obvious receiver."""

    def __init__(self) -> None:
        self.compares = False
        """It also takes rows below what it holds as a file: that is none any more."""
        self.rows: dict[bytes, tuple[int, FsRow]] = {}
        self._below: Counter[bytes] = Counter()
        """How many rows there are below a path, whether or not it has one itself."""

    def apply(self, items: Iterable[FsItem]) -> None:
        """Apply items of one pipe in the order in which they left the source."""
        for item in items:
            match item:
                case InsertEvent() | UpdateEvent():
                    for row in item.rows:
                        self._put(item.prefix + row.path, row, item.index)
                case DeleteEvent():
                    for key in item.rows:
                        self._remove(item.prefix + key.path, item.index)
                case Listed():
                    self._keep_only_newer(item.path, item.index)
                case Moved():
                    self._move(item)

    def compare(self, item: Unchanged) -> bool | None:
        """Tell whether the view holds just what an item says of a directory; None if it holds nothing in it."""
        digest = RowsDigest()
        prefix = item.path.rstrip(b"/") + b"/"
        held = [path for path in self.rows if path.startswith(prefix) and path != prefix and
                b"/" not in path[len(prefix) :]]
        own = [item.path] if item.path in self.rows else []
        digest.add(msgspec.structs.replace(self.rows[path][1], is_atomic_write=True) for path in own + held)
        if (digest.count, digest.finish()) == (item.count, item.digest):
            return True
        return False if held else None

    def get_entries(self) -> dict[bytes, Entry]:
        """Return the view in the oracle's terms, the root excluded."""
        return {path: _make_entry(row) for path, (_, row) in self.rows.items() if path != b"/"}

    def _put(self, path: bytes, row: FsRow, index: int) -> None:
        known = self.rows.get(path)
        if known is not None and known[0] > index:
            raise AssertionError(f"{path!r}: index {index} left the source after {known[0]}")
        for above in _ancestors(path):
            if above in self.rows and not self.rows[above][1].is_directory:
                if self.compares and self.rows[above][0] <= index:
                    self._remove(above, index)
                    continue
                raise AssertionError(f"{path!r} left the source while {above!r} was no directory yet")
        if self._below[path] and not (row.is_directory and known is not None and _is_same(known[1], row)):
            self._remove_below(path, index)
        if path not in self.rows:
            self._below.update(_ancestors(path))
        self.rows[path] = (index, row)
        if row.nlink > 1 and not row.is_directory:
            for other, (seen, each) in self.rows.items():
                if (each.device, each.inode) == (row.device, row.inode):
                    self.rows[other] = (seen, msgspec.structs.replace(row, path=each.path))

    def can_move(self, item: Moved) -> bool:
        """Tell whether a directory is where it was moved from, and whether there is one in which it came."""
        _, row = self.rows.get(item.before, (0, None))
        parent = item.path.rpartition(b"/")[0]
        _, above = self.rows.get(parent, (0, None))
        return (
            row is not None
            and (row.device, row.inode) == (item.device, item.inode)
            and (not parent or (above is not None and above.is_directory))
        )

    def move_all(self, items: list[Moved]) -> bool:
        """Make moves in order; False if one of them cannot be, and then none is."""
        rows, below = dict(self.rows), self._below.copy()
        for item in items:
            if not self.can_move(item):
                self.rows, self._below = rows, below
                return False
            self._move(item)
        return True

    def _move(self, item: Moved) -> None:
        assert self.can_move(item), item
        self._remove(item.path, item.index)
        if self._below[item.path]:
            raise AssertionError(f"{item.path!r}: something was seen there after a directory moved there")
        for path in [path for path in self.rows if path == item.before or path.startswith(item.before + b"/")]:
            self._below.subtract(_ancestors(path))
            index, row = self.rows.pop(path)
            path = item.path + path[len(item.before) :]
            self._below.update(_ancestors(path))
            self.rows[path] = (item.index if path == item.path else index, row)

    def _remove(self, path: bytes, index: int) -> None:
        self._remove_below(path, index)
        self._remove_one(path, index)

    def _remove_below(self, path: bytes, index: int) -> None:
        for each in [each for each in self.rows if each.startswith(path + b"/")] if self._below[path] else []:
            self._remove_one(each, index)

    def _remove_one(self, path: bytes, index: int) -> None:
        if path in self.rows and self.rows[path][0] <= index:
            del self.rows[path]
            self._below.subtract(_ancestors(path))

    def _keep_only_newer(self, directory: bytes, index: int) -> None:
        prefix = directory.rstrip(b"/") + b"/"
        for path in [path for path in self.rows if path.startswith(prefix) and path != prefix]:
            child = prefix + path[len(prefix) :].partition(b"/")[0]
            # A child that never had a row of its own, only rows below it, was not named either.
            if self.rows.get(child, (0, None))[0] < index:
                self._remove(child, index)


def _is_same(known: FsRow, row: FsRow) -> bool:
    return (known.device, known.inode) == (row.device, row.inode)


def _ancestors(path: bytes) -> list[bytes]:
    names = path.split(b"/")
    return [b"/".join(names[:length]) for length in range(2, len(names))]


def _make_entry(row: FsRow) -> Entry:
    kinds = {stat.S_IFDIR: DIRECTORY, stat.S_IFREG: FILE, stat.S_IFLNK: SYMLINK}
    return Entry(
        type=kinds.get(stat.S_IFMT(row.mode), OTHER), size=row.size, mtime_ns=row.mtime_ns, ctime_ns=row.ctime_ns,
        mode=row.mode, uid=row.uid, gid=row.gid, inode=row.inode, nlink=row.nlink, target=row.target,
    )  # fmt: skip
