"""Applies items to the tree of one view, by the rules."""

import stat
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from fustor_event_model import (
    AuditEnd,
    DeleteEvent,
    FsItem,
    FsPath,
    FsRow,
    InsertEvent,
    JobDone,
    Listed,
    MessageSource,
    Moved,
    SnapshotEnd,
    Unchanged,
    UpdateEvent,
)
from fustor_fusion.blindspots import BlindDeletions, clear_blind_spots
from fustor_fusion.comparison import Differing, confirm, holds, is_empty
from fustor_fusion.links import HardLinks
from fustor_fusion.looks import Looks
from fustor_fusion.moves import move_directory, refuse
from fustor_fusion.paths import BadPath, are_plain_names, split_path
from fustor_fusion.removal import clear_subtree, remove_node
from fustor_fusion.rules import (
    PLACEHOLDER,
    Seen,
    Stored,
    Verdict,
    deletes,
    disproves_file,
    is_buried,
    is_hot,
    is_way_buried,
    judge_row,
    keep_identity,
    next_flags,
)
from fustor_fusion.tree import ABOVE_ROOT, Directory, Tree

MAX_INDEX = (1 << 63) - 1
"""The highest that the store can hold."""
_MAX_MODE = (1 << 32) - 1  # what `stat.S_ISDIR` takes
_MANY_GONE = 1_000  # from here on it is shorter to read a directory again than to name what is gone
_BLIND_SOURCES = frozenset((MessageSource.AUDIT, MessageSource.ON_DEMAND))


class Refused(msgspec.Struct, frozen=True):
    """A row that can never be taken, and why."""

    path: bytes
    reason: str


class Applied(msgspec.Struct):
    """
    What became of some items.

    Args:
        rows: How many rows were looked at, refused ones not counted.
        refused: The rows that can never be taken.
        snapshot_complete: A complete `SnapshotEnd` was among them.
        audit_complete: A complete `AuditEnd` was among them.
        jobs: What was said of on-demand scans that are over.
        scanned: How many of the rows on-demand scans found.
        realtime_at: When the newest change was seen that was seen as it happened, by Fusion's clock; 0 without.
        look_at: Names that the agent must look at, since another name of the same file is gone.
        differing: The directories that were said to be unchanged and are not.
    """

    rows: int = 0
    refused: list[Refused] = []
    snapshot_complete: bool = False
    audit_complete: bool = False
    jobs: list[JobDone] = []
    scanned: int = 0
    realtime_at: int = 0
    look_at: list[bytes] = []
    differing: list[Differing] = []


class Arbiter:
    """
    Decides what is true, row by row; works inside the writer's transaction.

    Owns the hard links' bookkeeping; the tree is the caller's. After a rollback the caller
    calls `forget`.
    """

    def __init__(self, tree: Tree, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.tree = tree
        self._looks = Looks(clock)
        self._links = HardLinks(tree)
        self.blind_deletions = BlindDeletions(tree.db)
        self._memo: tuple[bytes, int, Directory | None] = (b"", -1, None)

    def forget(self) -> None:
        """Drop what was noted, after a rollback."""
        self._links.forget()
        self.blind_deletions.forget()
        self._memo = (b"", -1, None)

    def apply(self, items: Sequence[FsItem], *, owner: int, ordered: bool = True, careful: bool = False,
              present: Mapping[int, int] | None = None, since: int = 0, skew_ns: int = 0, peers: Collection[int] = (),
              takes_moves: Callable[[], bool] = lambda: False, place: Callable[[int], int] = lambda index: index,
              ) -> Applied:
        """
        Apply items in order.

        Args:
            items: Events and signals of one agent and pipe.
            owner: That agent and pipe.
            ordered: The index is the agent's own.
            careful: Look at every number first; needed only after an `OverflowError`.
            present: As in `Seen`.
            since: As in `Seen`.
            skew_ns: As in `Seen`.
            peers: As in `Seen`.
            takes_moves: Tells whether what is stored is what this agent sent (moved).
            place: Tells the time of an index.

        Raises:
            RequestRefused: 412 a directory is not where it was moved from; roll back.
            OverflowError: A number does not fit the store; roll back and call again, carefully.
        """
        applied = Applied()
        for item in items:
            source = item.message_source
            seen = Seen(place(item.index), owner, source is MessageSource.REALTIME, ordered, source in _BLIND_SOURCES,
                        present, since, skew_ns, peers)
            if isinstance(item, Moved):
                self._apply_move(item, seen, takes_moves=takes_moves())
            elif not 0 <= item.index <= MAX_INDEX or seen.idx > MAX_INDEX:
                self._refuse_item(item, applied)
            elif isinstance(item, (UpdateEvent, InsertEvent)):
                rows = self._check_rows(item, applied) if careful else item.rows
                applied.rows += len(rows)
                self._apply_rows(item.prefix, rows, seen, applied)
            elif isinstance(item, DeleteEvent):
                applied.rows += len(item.rows)
                self._apply_deletions(item.prefix, item.rows, seen, applied)
            elif isinstance(item, Listed):
                self._apply_listing(item, seen, applied)
            elif isinstance(item, Unchanged):
                self._compare(item, seen, applied)
            elif isinstance(item, SnapshotEnd):
                applied.snapshot_complete |= item.complete
            elif isinstance(item, AuditEnd):
                applied.audit_complete |= item.complete
            elif isinstance(item, JobDone):
                applied.jobs.append(item)
            if source is MessageSource.ON_DEMAND and isinstance(item, (UpdateEvent, InsertEvent, DeleteEvent)):
                applied.scanned += len(item.rows)
        self.flush()
        self._links.spread()
        if applied.snapshot_complete or applied.audit_complete:
            self._links.spread_all()
        applied.look_at = self._links.find_left()
        return applied

    def find_file(self, way: Sequence[bytes]) -> Stored | None:
        """Return what is stored of a file by the names that lead to it; None when there is no such file."""
        directory = self._find_directory(way[:-1])
        stored = self.tree.find_one(directory, way[-1]) if directory is not None and way else None
        return None if stored is None or stored.id is not None else stored

    def _find_directory(self, way: Sequence[bytes]) -> Directory | None:
        directory: Directory | None = self.tree.get_root()
        for name in way:
            directory = self.tree.get_directory(directory.id, name) if directory is not None else None
        return directory

    def clear_blind_spots(self) -> None:
        """Forget every blind spot: a session begins."""
        clear_blind_spots(self.tree)
        self.blind_deletions.forget()

    def flush(self) -> None:
        """Carry out every collected write."""
        tree = self.tree
        tree.flush_puts()
        for directory, seen, rows in tree.flush_new():
            self._merge(directory, [row.path for row in rows], rows, seen)
        tree.flush_puts()

    def list_directory(self, directory: Directory, index: int, *, blind: bool = False) -> None:
        """Apply the rule gone-by-listing to one directory; `blind` as in `Seen`."""
        tree = self.tree
        if index > directory.floor and not (directory.fresh and directory.lowest >= index):
            self.flush()
            gone = tree.execute(
                "SELECT name, id, ifnull(floor, 0), flags, size FROM nodes WHERE parent=? AND idx<?",
                (directory.id, index)).fetchall()
            if len(gone) > _MANY_GONE:
                tree.changes.list(directory.id)
            for name, id_, floor, flags, size in gone:
                remove_node(tree, directory.id, name, id_=id_, floor=floor, flags=flags, size=size, limit=index - 1)
                if blind and not flags & PLACEHOLDER:
                    self.blind_deletions.add(directory.id, name, index)
        self._bury_older(directory, index)

    def _bury_older(self, directory: Directory, index: int) -> None:
        """Note that a directory was listed, and that names which are not stored were not there."""
        if directory.buries:
            self.tree.execute("DELETE FROM tombstones WHERE parent=? AND idx<=?", (directory.id, index))
        directory.settle()
        self.tree.raise_floor(directory, index)

    def resolve(self, names: Sequence[bytes], seen: Seen) -> Directory | None:
        """
        Find the directory of these names, making placeholders for what is missing.

        Returns:
            None when it is known to be gone, or to be no directory, with a higher index.
        """
        directory = self.tree.get_root()
        for name in names:
            child = self.tree.get_directory(directory.id, name)
            if child is None:
                child = self._make_way(directory, name, seen)
                if child is None:
                    return None
            directory = child
        return directory

    # -- rows -------------------------------------------------------------------------------

    def _apply_rows(self, prefix: bytes, rows: Sequence[FsRow], seen: Seen, applied: Applied) -> None:
        names = [row.path for row in rows]
        if prefix.endswith(b"/") and are_plain_names(names):
            try:
                directory = self._resolve_prefix(prefix, seen)
            except BadPath as err:
                self._refuse(prefix, names, str(err), applied)
                return
            if directory is not None:
                self._apply_group(directory, names, rows, seen)
            return
        for row in rows:
            try:
                way = split_path(prefix + row.path)
            except BadPath as err:
                self._refuse(prefix, [row.path], str(err), applied)
                continue
            if not way:
                self._apply_root(row, seen)
                continue
            directory = self.resolve(way[:-1], seen)
            if directory is not None:
                self._merge(directory, [way[-1]], [row], seen)

    def _resolve_prefix(self, prefix: bytes, seen: Seen) -> Directory | None:
        known, removals, directory = self._memo
        if known != prefix or removals != self.tree.removals:
            directory = self.resolve(split_path(prefix), seen)
            self._memo = (prefix, self.tree.removals, directory)
            if directory is None:
                self._memo = (b"", -1, None)  # the next row may have a higher index
        return directory

    def _apply_group(self, directory: Directory, names: list[bytes], rows: Sequence[FsRow], seen: Seen) -> None:
        subdirectories = [row for row in rows if stat.S_ISDIR(row.mode)]
        if not _may_insert(directory, names, seen) or (subdirectories and directory.collected):
            self._merge(directory, names, rows, seen)
            return
        if subdirectories:
            rows = [row for row in rows if not stat.S_ISDIR(row.mode)]
        if rows:
            self.tree.insert_later(directory, seen, rows)
        stored = self.tree.find(directory, [row.path for row in subdirectories])
        for row in subdirectories:
            self._apply_one(directory, row.path, row, stored.get(row.path), seen)

    def _merge(self, directory: Directory, names: list[bytes], rows: Sequence[FsRow], seen: Seen) -> None:
        """Look at what is stored, row by row."""
        if directory.collected:
            self.flush()
        stored = self.tree.find(directory, names)
        if seen.realtime:
            self._links.note(rows)
        for name, row in zip(names, rows, strict=True):
            self._apply_one(directory, name, row, stored.get(name), seen)

    def _apply_one(self, directory: Directory, name: bytes, row: FsRow, stored: Stored | None, seen: Seen) -> None:
        if seen.realtime:
            self.blind_deletions.discard(directory.id, name)
        if stored is None:
            self._add(directory, name, row, seen)
            return
        verdict = judge_row(stored, row, seen)
        if verdict is Verdict.UPDATE:
            if stored.id is not None:
                row = keep_identity(stored, row)
            flags = self._make_flags(directory, name, stored, row, seen)
            self.tree.put_later(directory, name, row, stored, seen, flags)
            if stored.nlink > 1 and stored.id is None and (row.inode, row.device) != (stored.inode, stored.device):
                self.tree.note_unlinked(stored.inode, stored.device, seen.idx)
        elif verdict is Verdict.CONFIRM:
            self.tree.confirm(directory.id, name, seen)
        elif verdict is Verdict.NEW_IDENTITY:
            self._replace_directory(directory, name, row, stored, seen)
        elif verdict is Verdict.FILE_OVER_DIRECTORY:
            if self._remove(directory, stored, limit=seen.idx, by_file=True):
                flags = self._make_flags(directory, name, None, row, seen)
                self.tree.put_later(directory, name, row, None, seen, flags)
        elif verdict is Verdict.DIRECTORY_OVER_FILE:
            self._remove(directory, stored, limit=seen.idx)
            floor = max(stored.idx, directory.floor)
            self.tree.add_directory(directory, name, row, seen, idx=seen.idx, floor=floor)

    def _make_flags(self, directory: Directory, name: bytes, stored: Stored | None, row: FsRow, seen: Seen) -> int:
        if not is_hot(stored, row, seen):
            self._looks.discard(directory.id, name)
            return next_flags(stored, row, seen)
        unchanged_s = self._looks.note(directory.id, name, size=row.size, mtime_ns=row.mtime_ns)
        return next_flags(stored, row, seen, unchanged_s=unchanged_s)

    def _add(self, directory: Directory, name: bytes, row: FsRow, seen: Seen) -> None:
        tree = self.tree
        tombstone = tree.get_tombstone(directory, name)
        if is_buried(tombstone, directory.floor, row, seen):
            return
        if tombstone is not None:
            tree.clear_tombstone(directory, name)
        self.blind_deletions.discard(directory.id, name)
        if stat.S_ISDIR(row.mode):
            floor = max(tombstone or 0, directory.floor) if seen.ordered else 0
            tree.add_directory(directory, name, row, seen, idx=seen.idx, floor=floor)
        else:
            tree.put_later(directory, name, row, None, seen, self._make_flags(directory, name, None, row, seen))

    def _replace_directory(self, parent: Directory, name: bytes, row: FsRow, stored: Stored, seen: Seen) -> None:
        assert stored.id is not None
        tree = self.tree
        self.flush()
        clear_subtree(tree, stored.id, stored.floor, seen.idx - 1)
        tree.put_later(parent, name, row, stored, seen, self._make_flags(parent, name, stored, row, seen))
        directory = tree.get_directory(parent.id, name)
        assert directory is not None
        tree.raise_floor(directory, seen.idx)

    def _remove(self, directory: Directory, stored: Stored, *, limit: int, by_file: bool = False) -> bool:
        self.flush()
        return remove_node(self.tree, directory.id, stored.name, id_=stored.id, floor=stored.floor,
                           flags=stored.flags, size=stored.size, limit=limit, by_file=by_file)

    def _apply_root(self, row: FsRow, seen: Seen) -> None:
        tree = self.tree
        stored = tree.find_one(ABOVE_ROOT, b"")
        if stored is None or not stat.S_ISDIR(row.mode):
            return
        verdict = judge_row(stored, row, seen)
        if verdict not in (Verdict.UPDATE, Verdict.NEW_IDENTITY):
            return
        root = tree.get_root()
        self.flush()
        if verdict is Verdict.NEW_IDENTITY:
            clear_subtree(tree, root.id, root.floor, seen.idx - 1)
        row = keep_identity(stored, row)
        tree.put_later(ABOVE_ROOT, b"", row, stored, seen, self._make_flags(ABOVE_ROOT, b"", stored, row, seen))
        if verdict is Verdict.NEW_IDENTITY:
            tree.raise_floor(tree.get_root(), seen.idx)

    def _make_way(self, directory: Directory, name: bytes, seen: Seen) -> Directory | None:
        """Make a placeholder directory for a row below it, unless it is known to be gone."""
        tree = self.tree
        self.flush()
        stored = tree.find_one(directory, name)
        if stored is not None:
            if not disproves_file(stored, seen):
                return None
            limit = stored.idx
            self._remove(directory, stored, limit=seen.idx)
        else:
            tombstone = tree.get_tombstone(directory, name)
            if is_way_buried(tombstone, directory.floor, seen):
                return None
            limit = max(tombstone or 0, directory.floor)
            if tombstone is not None:
                tree.clear_tombstone(directory, name)
        return tree.add_directory(directory, name, None, seen, idx=limit, floor=limit)

    # -- deletions and listings -------------------------------------------------------------

    def _apply_deletions(self, prefix: bytes, rows: Sequence[FsPath], seen: Seen, applied: Applied) -> None:
        self.flush()
        for row in rows:
            try:
                way = split_path(prefix + row.path)
            except BadPath as err:
                self._refuse(prefix, [row.path], str(err), applied)
                continue
            if way:  # the root is never deleted
                self._delete(way, seen)

    def _delete(self, way: list[bytes], seen: Seen) -> None:
        tree = self.tree
        directory = tree.get_root()
        for at, name in enumerate(way):
            child = tree.get_directory(directory.id, name)
            if child is None or at == len(way) - 1:
                # A missing parent: remember it of the topmost missing name only if that is
                # the one that was looked for; a placeholder would claim that the parent exists.
                if at == len(way) - 1:
                    self._delete_name(directory, name, seen)
                else:
                    self._delete_below_missing(directory, way[at:], seen)
                return
            directory = child

    def _delete_below_missing(self, directory: Directory, way: list[bytes], seen: Seen) -> None:
        """Remember an absence whose parents are not known yet, for rows that come late."""
        for name in way[:-1]:
            child = self.tree.get_directory(directory.id, name)
            if child is None and self.tree.find_one(directory, name) is not None:
                return  # a file is there: that nothing is below it says nothing about it
            child = child or self._make_way(directory, name, seen)
            if child is None:
                return
            directory = child
        self.tree.set_tombstone(directory, way[-1], seen)

    def _delete_name(self, directory: Directory, name: bytes, seen: Seen) -> None:
        if seen.realtime:
            self.blind_deletions.discard(directory.id, name)
        stored = self.tree.find_one(directory, name)
        if stored is None:
            if seen.idx >= directory.floor:
                self.tree.set_tombstone(directory, name, seen)
            return
        if not deletes(stored, seen):
            if stored.id is not None and seen.ordered:
                self._clear_old(directory, stored, seen)
            return
        if self._remove(directory, stored, limit=max(seen.idx, stored.idx)):
            self.tree.set_tombstone(directory, name, seen)
        if seen.blind and not stored.flags & PLACEHOLDER:
            self.blind_deletions.add(directory.id, name, seen.idx)

    def _clear_old(self, parent: Directory, stored: Stored, seen: Seen) -> None:
        """A directory that is there now was gone before: what is below and older went with it."""
        assert stored.id is not None
        self.flush()
        clear_subtree(self.tree, stored.id, stored.floor, seen.idx)
        directory = self.tree.get_directory(parent.id, stored.name)
        if directory is not None:
            self.tree.raise_floor(directory, seen.idx)

    def _apply_listing(self, item: Listed, seen: Seen, applied: Applied) -> None:
        try:
            way = split_path(item.path)
        except BadPath as err:
            applied.refused.append(Refused(item.path, str(err)))
            return
        directory = self.resolve(way, seen)
        if directory is not None:
            self.list_directory(directory, seen.idx, blind=seen.blind)

    def _compare(self, item: Unchanged, seen: Seen, applied: Applied) -> None:
        self.flush()
        try:
            directory = self._find_directory(split_path(item.path))
        except BadPath:
            directory = None  # its rows are refused one by one
        if directory is None or not holds(self.tree, directory, item):
            known = directory is not None and not is_empty(self.tree, directory)
            applied.differing.append(Differing(item.position or b"", known))
            return
        if seen.idx > directory.floor:
            confirm(self.tree, directory, seen)
            self._bury_older(directory, seen.idx)

    def _apply_move(self, item: Moved, seen: Seen, *, takes_moves: bool) -> None:
        if not takes_moves:
            raise refuse(item, "only the leader's, and only while it is alone and its snapshot is complete")
        self.flush()
        parent, name = move_directory(self.tree, item, seen)
        self.blind_deletions.discard(parent.id, name)

    # -- refusals ---------------------------------------------------------------------------

    def _refuse(self, prefix: bytes, names: Sequence[bytes], reason: str, applied: Applied) -> None:
        applied.rows -= len(names)
        applied.refused += [Refused(prefix + name, reason) for name in names]

    def _refuse_item(self, item: FsItem, applied: Applied) -> None:
        if isinstance(item, Unchanged):
            applied.differing.append(Differing(item.position or b"", True))
        rows: Sequence[FsRow | FsPath] = item.rows if isinstance(item, (UpdateEvent, InsertEvent, DeleteEvent)) else []
        prefix = item.prefix if isinstance(item, (UpdateEvent, InsertEvent, DeleteEvent)) else b""
        applied.refused += [Refused(prefix + row.path, f"index {item.index} is out of range") for row in rows]

    def _check_rows(self, item: UpdateEvent[FsRow] | InsertEvent[FsRow], applied: Applied) -> list[FsRow]:
        """Bring numbers into the store's range where that loses nothing, and refuse the other rows."""
        good: list[FsRow] = []
        for row in item.rows:
            wrapped = msgspec.structs.replace(row, inode=_wrap(row.inode), device=_wrap(row.device))
            numbers = msgspec.structs.astuple(wrapped)[1:10]
            if not all(-MAX_INDEX - 1 <= number <= MAX_INDEX for number in numbers):
                applied.refused.append(Refused(item.prefix + row.path, "a number does not fit 64 bits"))
            elif not 0 <= row.mode <= _MAX_MODE:
                applied.refused.append(Refused(item.prefix + row.path, f"mode {row.mode} does not fit 32 bits"))
            else:
                good.append(wrapped)
        return good


def _may_insert(directory: Directory, names: list[bytes], seen: Seen) -> bool:
    """Tell whether names are most likely new, none of them a directory's, and nothing says that they are gone."""
    return (
        directory.fresh and not seen.realtime and not directory.buries and seen.idx >= directory.floor
        and (directory.subdirectories is None or directory.subdirectories.isdisjoint(names))
    )


def _wrap(number: int) -> int:
    """Inodes and devices are unsigned; the store's numbers are signed."""
    return number - (1 << 64) if MAX_INDEX < number < 1 << 64 else number
