"""The nodes of one view as the writer sees them: lookups, buffered writes, sums."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apsw
import msgspec

from fustor_event_model import FsRow
from fustor_fusion.changes import Changes
from fustor_fusion.rules import PLACEHOLDER, REALTIME, Seen, Stored, first_flags
from fustor_fusion.schema import ROOT_ID, read_meta
from fustor_fusion.totals import Totals

_MAX_CACHED = 20_000
_MAX_UNLINKED = 10_000
_MAX_SUBDIRECTORIES = 10_000
_NEVER = 1 << 63
_ROW_COLUMNS = 11  # the leading fields of FsRow, `path` to `target`, are columns in this order
_COLUMNS = (
    "parent, idx, owner, flags, name, size, mtime_ns, ctime_ns, mode, uid, gid, device, inode, nlink, target"
)
_STORED = (
    "name, max(idx, ?), owner, flags, id, ifnull(floor, 0), size, mtime_ns, ctime_ns, mode, uid, gid, device, inode,"
    " nlink, target"
)
_FLOOR = 16  # where it is in a row of `_PUT`
_INSERT_WIDTHS = (128, 64, 32, 16, 8, 4, 2, 1)
_SELECT_WIDTHS = (64, 8, 1)
_INSERT = {
    width: f"INSERT INTO nodes({_COLUMNS}) VALUES " + ",".join(["(" + ",".join("?" * 15) + ")"] * width)
    for width in _INSERT_WIDTHS
}
_PUT = {
    width: f"INSERT OR REPLACE INTO nodes({_COLUMNS}, id, floor) VALUES "
    + ",".join(["(" + ",".join("?" * 17) + ")"] * width)
    for width in _INSERT_WIDTHS
}
_SELECT = {
    width: f"SELECT {_STORED} FROM nodes WHERE parent=? AND name IN (" + ",".join("?" * width) + ")"
    for width in _SELECT_WIDTHS
}
_astuple = msgspec.structs.astuple


class Directory(msgspec.Struct, gc=False, eq=False):
    """
    A directory as the writer remembers it; always what the database says.

    Args:
        id: Its number, never used again.
        parent: The number of the directory it is in.
        name: Its name there.
        idx: Index of its last observation.
        floor: Index of its last listing; see the rule `buried`.
        flags: As in `rules`.
        fresh: It was made by this process and not listed since, so that its names are
            most likely new: insert first, look only when that fails.
        lowest: While fresh, the lowest index of its children.
        subdirectories: While fresh, the names of its children that are directories.
        collected: Rows of it are collected to be inserted.
        buries: It may hold tombstones.
    """

    id: int
    parent: int
    name: bytes
    idx: int
    floor: int
    flags: int
    fresh: bool = False
    lowest: int = _NEVER
    buries: bool = True
    subdirectories: set[bytes] | None = None
    collected: bool = False

    def settle(self) -> None:
        """Note that some of its names may be stored already, from here on."""
        self.fresh, self.subdirectories = False, None


ABOVE_ROOT = Directory(0, 0, b"", 0, 0, 0)
"""What the root is in."""


class Tree:
    """
    Reads and writes nodes through the one writing connection, inside its transaction.

    Writes are collected, so that a row is written once, and many by one statement: insertions until they are
    flushed, replacing writes seen by all methods here. Whoever asks the database otherwise flushes first.
    Keeps directories by (parent, name): numbers are never used again, so the entries below a
    removed directory can never be met again and need no search.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self.db = connection
        self.execute: Callable[..., Any] = connection.execute
        self.next_id: int = read_meta(connection)["next_id"]
        self.totals = Totals(connection)
        self.changes = Changes(connection, self.totals)
        self.removals = 0
        self.unlinked: dict[tuple[int, int], int] = {}
        """Of files with several names (inode, device): up to which index one of the names was seen to be gone."""
        self._cache: dict[tuple[int, bytes], Directory] = {}
        self._new: list[tuple[Directory, Seen, Sequence[FsRow]]] = []
        self._puts: dict[tuple[int, bytes], list[Any]] = {}

    # -- transaction edges ---------------------------------------------------------------

    def forget(self) -> None:
        """Drop all that is remembered or collected, after a rollback."""
        self._cache.clear()
        self._new.clear()
        self._puts.clear()
        self.unlinked.clear()
        self.totals.forget()
        self.changes.forget()
        self.removals += 1

    def save(self) -> None:
        """Write what belongs into the transaction besides the rows; call right before its end."""
        self.changes.save()
        self.totals.save()
        self.execute("INSERT OR REPLACE INTO meta VALUES('next_id',?)", (self.next_id,))
        if len(self._cache) > _MAX_CACHED:
            for key in list(self._cache)[: _MAX_CACHED // 2]:
                del self._cache[key]

    # -- lookups --------------------------------------------------------------------------

    def get_root(self) -> Directory:
        """Return the root, which is always there."""
        root = self.get_directory(0, b"")
        assert root is not None
        return root

    def get_directory(self, parent: int, name: bytes) -> Directory | None:
        """Return a child that is a directory; None when there is none, or it is something else."""
        found = self._cache.get((parent, name))
        if found is not None:
            return found
        if (parent, name) in self._puts:
            self.flush_puts()
        rows = self.execute(
            "SELECT id, idx, ifnull(floor, 0), flags FROM nodes WHERE parent=? AND name=? AND id IS NOT NULL",
            (parent, name),
        ).fetchall()
        if not rows:
            return None
        directory = Directory(rows[0][0], parent, name, *rows[0][1:])
        directory.buries = self._has_tombstones(directory.id)
        if directory.id == ROOT_ID and directory.flags & PLACEHOLDER and not directory.floor:
            directory.fresh = not self.execute("SELECT 1 FROM nodes WHERE parent=? LIMIT 1", (ROOT_ID,)).fetchall()
        self._cache[parent, name] = directory
        return directory

    def find(self, directory: Directory, names: list[bytes]) -> dict[bytes, Stored]:
        """Return those of the names that are stored, as `Stored` has it. Insertions must have been flushed."""
        found: dict[bytes, Stored] = {}
        at = 0
        while at < len(names):
            left = len(names) - at
            width = 64 if left > 8 else 8 if left > 1 else 1
            part = names[at : at + width]
            part += part[:1] * (width - len(part))
            for columns in self.execute(_SELECT[width], (directory.floor, directory.id, *part)):
                found[columns[0]] = Stored(*columns)
            at += width
        if self._puts:
            for name in names:
                put = self._puts.get((directory.id, name))
                if put is not None:
                    found[name] = _store(put, directory.floor)
        return found

    def find_one(self, directory: Directory, name: bytes) -> Stored | None:
        """Return one stored node."""
        put = self._puts.get((directory.id, name))
        if put is not None:
            return _store(put, directory.floor)
        rows = self.execute(_SELECT[1], (directory.floor, directory.id, name)).fetchall()
        return Stored(*rows[0]) if rows else None

    def get_floor(self, id_: int) -> int:
        """Return the index of a directory's last listing, by its number; 0 above the root."""
        directory = self.get_directory(*self.totals.get_place(id_)) if id_ else None
        return directory.floor if directory is not None else 0

    # -- tombstones -------------------------------------------------------------------------

    def _has_tombstones(self, parent: int) -> bool:
        return bool(self.execute("SELECT 1 FROM tombstones WHERE parent=? LIMIT 1", (parent,)).fetchall())

    def get_tombstone(self, directory: Directory, name: bytes) -> int | None:
        """Return the index at which a name was seen to be gone, if that is remembered."""
        if not directory.buries:
            return None
        rows: list[tuple[int]] = self.execute(
            "SELECT idx FROM tombstones WHERE parent=? AND name=?", (directory.id, name)).fetchall()
        return rows[0][0] if rows else None

    def set_tombstone(self, directory: Directory, name: bytes, seen: Seen) -> None:
        """Remember that a name was gone; a higher index that is remembered already stays."""
        self.execute(
            "INSERT INTO tombstones VALUES(?,?,?,?) ON CONFLICT DO UPDATE"
            " SET idx=excluded.idx, owner=excluded.owner WHERE excluded.idx > idx",
            (directory.id, name, seen.idx, seen.owner),
        )
        directory.buries = True

    def clear_tombstone(self, directory: Directory, name: bytes) -> None:
        """Forget that a name was gone."""
        self.execute("DELETE FROM tombstones WHERE parent=? AND name=?", (directory.id, name))

    # -- writes -----------------------------------------------------------------------------

    def insert_later(self, directory: Directory, seen: Seen, rows: Sequence[FsRow]) -> None:
        """
        Collect rows of non-directories, named by their `path`, that are most likely new.

        None of the names may be a stored directory's: what comes for it meanwhile would be below a file.
        """
        directory.collected = True
        if seen.idx < directory.lowest:
            directory.lowest = seen.idx
        self._new.append((directory, seen, rows))

    def put_later(self, directory: Directory, name: bytes, row: FsRow, stored: Stored | None,
                  seen: Seen, flags: int) -> None:
        """Collect the row of a non-directory or of a stored directory, replacing what is there."""
        if seen.idx < directory.lowest:
            directory.lowest = seen.idx
        id_, floor = (stored.id, stored.floor) if stored is not None else (None, None)
        self._puts[directory.id, name] = [directory.id, seen.idx, seen.owner, flags, name,
                                          *_astuple(row)[1:_ROW_COLUMNS], id_, floor if id_ is not None else None]
        if stored is None or _shows(stored, row, flags):
            self.changes.put(directory.id, name)
        if id_ is None:
            if stored is None:
                self.totals.add(directory.id, files=1, size=row.size)
            elif row.size != stored.size:
                self.totals.add(directory.id, size=row.size - stored.size)
        else:
            cached = self._cache.get((directory.id, name))
            if cached is not None:
                cached.idx, cached.flags = seen.idx, flags
            if stored is not None and stored.flags & PLACEHOLDER and id_ != ROOT_ID:
                self.totals.add(directory.id, directories=1)

    def add_directory(self, directory: Directory, name: bytes, row: FsRow | None, seen: Seen, *,
                      idx: int, floor: int) -> Directory:
        """Make a directory, whose row is collected; without one it is a placeholder."""
        flags = first_flags(seen) if row is not None else PLACEHOLDER
        columns = _astuple(row)[1:_ROW_COLUMNS] if row is not None else (0, 0, 0, 0o040000, 0, 0, 0, 0, 1, None)
        made = Directory(self.next_id, directory.id, name, idx, floor, flags, True, _NEVER, False)
        self.next_id += 1
        self._puts[directory.id, name] = [directory.id, idx, seen.owner, flags, name, *columns, made.id, floor]
        self._cache[directory.id, name] = made
        if directory.fresh:
            directory.subdirectories = directory.subdirectories or set()
            directory.subdirectories.add(name)
            if len(directory.subdirectories) > _MAX_SUBDIRECTORIES:
                directory.settle()
        if idx < directory.lowest:
            directory.lowest = idx
        self.totals.make(made.id, directory.id, name)
        if row is not None:
            self.totals.add(directory.id, directories=1)
            self.changes.put(directory.id, name)
        return made

    def confirm(self, parent: int, name: bytes, seen: Seen) -> None:
        """
        Note that a node was seen to exist, without taking the row's values.

        From here on it counts as seen by that agent: what the same one sees later, wins.
        """
        if (parent, name) in self._puts:
            self.flush_puts()
        self.execute("UPDATE nodes SET idx=?, owner=? WHERE parent=? AND name=?", (seen.idx, seen.owner, parent, name))
        cached = self._cache.get((parent, name))
        if cached is not None:
            cached.idx = seen.idx

    def move(self, directory: Directory, parent: Directory, name: bytes, seen: Seen) -> None:
        """
        Put a directory to a free place in another, or the same, directory, with all below it.

        Collected writes must have been flushed. It counts as seen there.
        """
        self.changes.save()
        self.totals.save()
        before = directory.parent, directory.name
        self.execute("UPDATE nodes SET parent=?, name=?, idx=? WHERE parent=? AND name=?",
                     (parent.id, name, seen.idx, *before))
        self.changes.move(directory.id, parent.id, name, before=before)
        self.totals.move(directory.id, parent.id, name)
        self.uncache(*before)
        directory.parent, directory.name, directory.idx = parent.id, name, seen.idx
        self._cache[parent.id, name] = directory
        parent.settle()

    def raise_floor(self, directory: Directory, floor: int) -> None:
        """Note that a directory was listed."""
        if floor > directory.floor:
            directory.floor = floor
            put = self._puts.get((directory.parent, directory.name))
            if put is not None:
                put[_FLOOR] = floor
                return
            self.execute("UPDATE nodes SET floor=? WHERE parent=? AND name=?",
                         (floor, directory.parent, directory.name))

    def note_unlinked(self, inode: int, device: int, limit: int) -> None:
        """Note that a name of a file with several names is gone; so many files at once are left to audits."""
        if len(self.unlinked) < _MAX_UNLINKED:
            self.unlinked[inode, device] = max(limit, self.unlinked.get((inode, device), limit))

    def uncache(self, parent: int, name: bytes) -> None:
        """Forget a directory that was changed or removed behind the cache."""
        self._cache.pop((parent, name), None)
        self.removals += 1

    def flush_puts(self) -> None:
        """Carry out the collected replacing writes."""
        puts = [*self._puts.values()]
        self._puts.clear()
        at = 0
        while at < len(puts):
            width = _pick_width(len(puts) - at)
            self.execute(_PUT[width], [value for put in puts[at : at + width] for value in put])
            at += width

    def flush_new(self) -> list[tuple[Directory, Seen, Sequence[FsRow]]]:
        """
        Carry out the collected insertions.

        Returns:
            The groups of rows that were not inserted because at least one of their names is
            stored already (some of their other rows may have been inserted); empty mostly.
        """
        # In the order of the table, whose pages are filled that way instead of split.
        groups, self._new = sorted(self._new, key=lambda group: group[0].id), []
        rows = [row for group in groups for row in group[2]]
        heads: list[tuple[int, int, int, int]] = []
        for directory, seen, members in groups:
            directory.collected = False
            heads += [(directory.id, seen.idx, seen.owner, first_flags(seen))] * len(members)
        at = 0
        while at < len(rows):
            width = _pick_width(len(rows) - at)
            part = rows[at : at + width]
            values: list[object] = []
            for head, row in zip(heads[at : at + width], part, strict=True):
                values += head
                values += _astuple(row)[:_ROW_COLUMNS]
            try:
                self.execute(_INSERT[width], values)
            except apsw.ConstraintError:
                self._note_first(groups, at)
                return list(_drop_first(groups, at))
            at += width
        self._note_first(groups, at)
        return []

    def _note_first(self, groups: list[tuple[Directory, Seen, Sequence[FsRow]]], count: int) -> None:
        """Note the first `count` rows of the groups as inserted."""
        for directory, _, rows in groups:
            inserted = rows if len(rows) <= count else rows[:count]
            if not inserted:
                return
            self.totals.add(directory.id, files=len(inserted), size=sum([row.size for row in inserted]))
            self.changes.list(directory.id)
            count -= len(inserted)


def _store(put: list[Any], above: int) -> Stored:
    """Return a collected row as `find` will when it is written; `above` is the floor of its directory."""
    _, idx, owner, flags, name, *columns, id_, floor = put
    stored = (name, max(idx, above), owner, flags, id_, floor or 0, *columns)
    return Stored(*stored)


def _shows(stored: Stored, row: FsRow, flags: int) -> bool:
    """Tell whether readers see a difference between what is stored and a row that replaces it."""
    return (
        stored.size, stored.mtime_ns, stored.ctime_ns, stored.mode, stored.uid, stored.gid, stored.inode,
        stored.nlink, stored.target, stored.flags & ~REALTIME,
    ) != (
        row.size, row.mtime_ns, row.ctime_ns, row.mode, row.uid, row.gid, row.inode, row.nlink, row.target,
        flags & ~REALTIME,
    )


def _pick_width(left: int) -> int:
    return 128 if left >= 128 else 1 << (left.bit_length() - 1)


def _drop_first(
    groups: list[tuple[Directory, Seen, Sequence[FsRow]]], count: int
) -> Iterator[tuple[Directory, Seen, Sequence[FsRow]]]:
    """Yield the groups without their first `count` rows."""
    for directory, seen, rows in groups:
        directory.settle()
        if count < len(rows):
            yield directory, seen, rows[count:]
        count = max(0, count - len(rows))
