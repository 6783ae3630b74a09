"""The timelines of the consistency page, one test each: the view ends as their last line says."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fustor_event_model import DeleteEvent, FsItem, FsPath, FsRow, Listed, MessageSource, Moved, UpdateEvent
from fustor_fusion.arbiter import Arbiter
from fustor_fusion.rules import BLIND, PLACEHOLDER, SUSPECT
from fustor_fusion.schema import open_database
from fustor_fusion.tree import Tree

REALTIME, SNAPSHOT, AUDIT = MessageSource.REALTIME, MessageSource.SNAPSHOT, MessageSource.AUDIT
FILE, DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


class Timeline:
    """One view that is told observations and asked what it holds."""

    def __init__(self, folder: Path) -> None:
        self._db, _ = open_database(folder / "view.db")
        self._tree = Tree(self._db)
        self.now_s = 0.0
        self._arbiter = Arbiter(self._tree, clock=lambda: self.now_s)
        self.present = {1: 0, 2: 0}
        """The agents that have a session, and their highest index before it."""
        self.ordered = True
        """Whether the agents have an index of their own."""

    def see(
        self, index: int, path: bytes, lane: MessageSource, *, size: int = 5, mtime_ns: int = 100, inode: int = 1,
        mode: int = FILE, closed: bool = True, agent: int = 1,
    ) -> None:
        row = FsRow(path, size, mtime_ns, 0, mode, 0, 0, 1, inode, 1, None, closed)
        self._apply(
            UpdateEvent(index=index, message_source=lane, event_schema="fs", table="files", rows=[row]), agent
        )

    def miss(self, index: int, path: bytes) -> None:
        event = DeleteEvent(
            index=index, message_source=REALTIME, event_schema="fs", table="files", rows=[FsPath(path)]
        )
        self._apply(event, 1)

    def list(self, index: int, path: bytes) -> None:
        self._apply(Listed(index=index, message_source=SNAPSHOT, path=path), 1)

    def move(self, index: int, before: bytes, path: bytes, *, inode: int) -> None:
        item = Moved(index=index, message_source=REALTIME, path=path, before=before, device=1, inode=inode)
        self._apply(item, 1)

    def get(self, column: str) -> dict[bytes, object]:
        """Return the named files, by their last name."""
        rows = self._db.execute(f"SELECT name, {column} FROM nodes WHERE id IS NULL AND NOT flags & {PLACEHOLDER}")
        return {bytes(name): value for name, value in rows.fetchall()}  # type: ignore[arg-type]  # a BLOB

    def close(self) -> None:
        self._db.close()

    def _apply(self, item: FsItem, owner: int) -> None:
        self._db.execute("BEGIN")
        self._arbiter.apply([item], owner=owner, ordered=self.ordered, present=self.present,
                            peers=self.present if self.ordered else (), takes_moves=lambda: True)
        self._tree.save()
        self._db.execute("COMMIT")


@pytest.fixture
def view(tmp_path: Path) -> Iterator[Timeline]:
    view = Timeline(tmp_path)
    yield view
    view.close()


def test_higher_index_wins(view: Timeline) -> None:
    view.see(10, b"/a", SNAPSHOT, size=5)
    view.see(30, b"/a", REALTIME, size=9, mtime_ns=1)
    view.see(20, b"/a", SNAPSHOT, size=7)
    assert view.get("size") == {b"a": 9}
    view.see(40, b"/a", SNAPSHOT, size=3, mtime_ns=1, agent=2)
    view.see(35, b"/a", REALTIME, size=9, mtime_ns=1)
    assert view.get("size") == {b"a": 3}


def test_realtime_beats_scans(view: Timeline) -> None:
    view.ordered = False
    view.see(1, b"/a", REALTIME, mtime_ns=100, agent=2)
    view.see(2, b"/a", SNAPSHOT, mtime_ns=90)
    assert view.get("mtime_ns") == {b"a": 100}
    view.see(3, b"/a", AUDIT, mtime_ns=120)
    assert view.get("mtime_ns") == {b"a": 120}


def test_outlived(view: Timeline) -> None:
    view.ordered = False
    view.see(1, b"/a", REALTIME, size=5, mtime_ns=100, agent=1)
    view.present = {2: 0}
    view.see(2, b"/a", SNAPSHOT, size=7, mtime_ns=50, agent=2)
    assert view.get("size") == {b"a": 7}


def test_buried(view: Timeline) -> None:
    view.miss(20, b"/a")
    view.see(10, b"/a", SNAPSHOT)
    assert view.get("size") == {}
    view.see(30, b"/a", REALTIME, size=1)
    assert view.get("size") == {b"a": 1}


def test_gone_by_listing(view: Timeline) -> None:
    view.see(10, b"/d/a", SNAPSHOT)
    view.see(10, b"/d/b", SNAPSHOT)
    view.see(50, b"/d/a", SNAPSHOT)
    view.see(60, b"/d/c", REALTIME)
    view.list(50, b"/d")
    assert set(view.get("size")) == {b"a", b"c"}


def test_new_identity(view: Timeline) -> None:
    view.see(10, b"/d", SNAPSHOT, inode=7, mode=DIRECTORY)
    view.see(10, b"/d/old", SNAPSHOT)
    view.see(20, b"/d", REALTIME, inode=9, mode=DIRECTORY)
    view.see(21, b"/d/new", REALTIME)
    assert set(view.get("size")) == {b"new"}


def test_moved(view: Timeline) -> None:
    view.see(10, b"/d", SNAPSHOT, inode=7, mode=DIRECTORY)
    view.see(10, b"/d/a", SNAPSHOT)
    view.see(10, b"/d/b", SNAPSHOT)
    view.miss(15, b"/d/b")
    view.move(20, b"/d", b"/e", inode=7)
    view.see(21, b"/e/c", REALTIME)
    assert set(view.get("size")) == {b"a", b"c"}


def test_suspect(view: Timeline) -> None:
    view.see(10, b"/a", REALTIME, size=4000, closed=False)
    assert view.get(f"flags & {SUSPECT}") == {b"a": SUSPECT}
    view.see(20, b"/a", AUDIT, size=8000)
    assert view.get(f"flags & {SUSPECT}") == {b"a": SUSPECT}
    view.now_s += 29
    view.see(30, b"/a", AUDIT, size=8000)
    assert view.get(f"flags & {SUSPECT}") == {b"a": SUSPECT}
    view.now_s += 1
    view.see(40, b"/a", MessageSource.SENTINEL, size=8000)
    assert view.get("size") == {b"a": 8000}
    assert view.get(f"flags & {SUSPECT}") == {b"a": 0}


def test_blind_spot(view: Timeline) -> None:
    view.see(10, b"/a", SNAPSHOT, size=5)
    view.see(20, b"/a", AUDIT, size=5)
    assert view.get(f"flags & {BLIND}") == {b"a": 0}
    view.see(30, b"/a", AUDIT, size=9)
    view.see(31, b"/b", AUDIT)
    assert view.get(f"flags & {BLIND}") == {b"a": BLIND, b"b": BLIND}
    view.see(40, b"/a", REALTIME, size=9)
    assert view.get(f"flags & {BLIND}") == {b"a": 0, b"b": BLIND}
