"""A view without threads or server, and short words for what agents say to it."""

import stat
from pathlib import Path

from fustor_event_model import DeleteEvent, FsItem, FsPath, FsRow, Listed, MessageSource, UpdateEvent
from fustor_fusion.arbiter import Applied, Arbiter
from fustor_fusion.schema import open_database
from fustor_fusion.tree import Tree
from recount import check_counts
from viewcopy import Copy, read_export

RT, SNAP = MessageSource.REALTIME, MessageSource.SNAPSHOT
DIR, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644


class View:
    """A database with an arbiter, without threads."""

    def __init__(self, folder: Path) -> None:
        self.db, _ = open_database(folder / "view.db")
        self.tree = Tree(self.db)
        self.arbiter = Arbiter(self.tree)
        self.copy = Copy(self.db)

    def apply(self, *items: FsItem, owner: int = 1, ordered: bool = True, careful: bool = False) -> Applied:
        self.db.execute("BEGIN")
        applied = self.arbiter.apply(items, owner=owner, ordered=ordered, careful=careful)
        self.tree.save()
        self.db.execute("COMMIT")
        self.copy.follow(self.db, limit=3)
        return applied

    def dump(self, *columns: str) -> dict[bytes, object]:
        """Return all paths but the root and placeholders, with some columns."""
        found: dict[bytes, object] = {}
        chosen = ", ".join(columns or ("inode",))

        def walk(parent: int, above: bytes) -> None:
            for name, id_, flags, *values in self.db.execute(
                f"SELECT name, id, flags, {chosen} FROM nodes WHERE parent=? ORDER BY name", (parent,)
            ).fetchall():
                if not flags & 2:
                    found[above + name] = values[0] if len(values) == 1 else tuple(values)
                if id_ is not None:
                    walk(id_, above + name + b"/")

        walk(1, b"/")
        return found

    def check(self) -> None:
        """Compare the counts with the nodes, and a copy that followed the changes with the view."""
        check_counts(self.db)
        assert self.copy.rows == read_export(self.db)


def row(name: bytes, inode: int = 1, *, mode: int = FILE, size: int = 5, nlink: int = 1, atomic: bool = True,
        mtime_ns: int = 10) -> FsRow:
    return FsRow(name, size, mtime_ns, 0, mode, 0, 0, 1, inode, nlink, None, atomic)


def folder(name: bytes, inode: int = 1) -> FsRow:
    return row(name, inode, mode=DIR)


def up(index: int, prefix: bytes, *rows: FsRow, source: MessageSource = RT) -> FsItem:
    return UpdateEvent(index=index, message_source=source, event_schema="fs", table="files", rows=list(rows),
                       prefix=prefix)


def gone(index: int, *paths: bytes, source: MessageSource = RT) -> FsItem:
    return DeleteEvent(index=index, message_source=source, event_schema="fs", table="files",
                       rows=[FsPath(path) for path in paths])


def listed(index: int, path: bytes, source: MessageSource = SNAP) -> FsItem:
    return Listed(index=index, message_source=source, path=path)
