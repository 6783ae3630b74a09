"""What `Unchanged` does to a view: nothing that a reader sees, whether it holds or not."""

import stat
from collections.abc import Sequence

import pytest

from fustor_event_model import FsItem, FsRow, Listed, MessageSource, RowsDigest, Unchanged, UpdateEvent
from fustor_fusion.arbiter import Applied, Arbiter
from fustor_fusion.comparison import Differing
from fustor_fusion.schema import open_database
from fustor_fusion.tree import Tree

RT, SNAP, AUDIT = MessageSource.REALTIME, MessageSource.SNAPSHOT, MessageSource.AUDIT
DIR, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644
ROOT = FsRow(b"", 4096, 5, 6, DIR, 0, 0, 1, 2, 3)
D = FsRow(b"d", 4096, 5, 6, DIR, 0, 0, 1, 3, 2)
A = FsRow(b"a", 10, -5, 6, FILE, 1, 2, 1, 4, 1)
LINK = FsRow(b"l\xff", 2, 5, 6, stat.S_IFLNK | 0o777, 0, 0, 1, 5, 1, b"\xfe")
HUGE = FsRow(b"huge", 1, 5, 6, FILE, 0, 0, (1 << 64) - 1, 1 << 63, 1)


class View:
    def __init__(self, folder) -> None:
        self.db, _ = open_database(folder / "view.db")
        self.tree = Tree(self.db)
        self.arbiter = Arbiter(self.tree)

    def apply(self, *items: FsItem, owner: int = 1, careful: bool = False, present=None) -> Applied:
        self.db.execute("BEGIN")
        try:
            applied = self.arbiter.apply(items, owner=owner, careful=careful, present=present)
            self.tree.save()
        except OverflowError:
            self.db.execute("ROLLBACK")
            self.tree.forget()
            self.arbiter.forget()
            return self.apply(*items, owner=owner, careful=True, present=present)
        self.db.execute("COMMIT")
        return applied

    def dump(self) -> list[tuple[object, ...]]:
        return self.db.execute("SELECT * FROM nodes ORDER BY parent, name").fetchall()

    def read(self, name: bytes, column: str) -> object:
        ((value,),) = self.db.execute(f"SELECT {column} FROM nodes WHERE name=?", (name,))
        return value


@pytest.fixture
def view(tmp_path):
    view = View(tmp_path)
    view.apply(up(10, b"/", ROOT, D, A, LINK), listed(10, b"/"), up(11, b"/d/", HUGE), listed(11, b"/d"))
    yield view
    view.db.close()


def up(index: int, prefix: bytes, *rows: FsRow, lane: MessageSource = SNAP) -> FsItem:
    return UpdateEvent(index=index, message_source=lane, event_schema="fs", table="files", rows=list(rows),
                       prefix=prefix)


def listed(index: int, path: bytes, lane: MessageSource = SNAP) -> FsItem:
    return Listed(index=index, message_source=lane, path=path)


def unchanged(index: int, path: bytes, rows: Sequence[FsRow], lane: MessageSource = SNAP) -> FsItem:
    digest = RowsDigest()
    digest.add(rows)
    return Unchanged(index=index, message_source=lane, path=path, position=b"at" + path, count=digest.count,
                     digest=digest.finish())


def test_what_is_stored_is_unchanged_in_whatever_order_it_was_found(view):
    before = view.dump()
    applied = view.apply(unchanged(20, b"/", [LINK, ROOT, A, D]), unchanged(21, b"/d", [D, HUGE]))
    assert (applied.differing, applied.rows, applied.refused) == ([], 0, [])
    floors = [(20, 10), (21, 11)]
    assert [view.db.execute("SELECT max(floor) FROM nodes WHERE name=?", (name,)).fetchall()[0][0]
            for name in (b"", b"d")] == [index for index, _ in floors]
    without_floor = [columns[:-1] for columns in before]
    assert [columns[:-1] for columns in view.dump()] == without_floor


@pytest.mark.parametrize("rows", [
    [ROOT, D, A],
    [ROOT, D, A, LINK, FsRow(b"new", 0, 0, 0, FILE, 0, 0, 1, 9, 1)],
    [D, A, LINK],
    *([ROOT, D, LINK, FsRow(**{field: getattr(A, field) for field in A.__struct_fields__} | change)]
      for change in ({"path": b"b"}, {"size": 11}, {"mtime_ns": -6}, {"ctime_ns": 7}, {"mode": FILE | 0o100},
                     {"uid": 2}, {"gid": 3}, {"device": 2}, {"inode": 5}, {"nlink": 2}, {"target": b""})),
])
def test_what_differs_in_anything_changes_nothing_and_is_said(view, rows):
    before = view.dump()
    assert view.apply(unchanged(20, b"/", rows)).differing == [Differing(b"at/", True)]
    assert view.dump() == before


def test_a_directory_of_which_nothing_is_stored_is_unknown(view):
    view.apply(up(20, b"/", FsRow(b"e", 4096, 5, 6, DIR, 0, 0, 1, 30, 2)))
    items = [unchanged(30, b"/e", [A]), unchanged(31, b"/e/f/g", [A]), unchanged(32, b"no path", [A])]
    before = view.dump()
    assert view.apply(*items).differing == [
        Differing(b"at/e", False), Differing(b"at/e/f/g", False), Differing(b"atno path", False)]
    assert view.dump() == before


def test_a_new_view_knows_nothing_of_the_root(tmp_path):
    view = View(tmp_path)
    assert view.apply(unchanged(1, b"/", [ROOT])).differing == [Differing(b"at/", False)]
    view.db.close()


def test_rows_of_the_same_batch_are_compared_too(view):
    new = FsRow(b"new", 0, 0, 0, FILE, 0, 0, 1, 9, 1)
    assert view.apply(up(20, b"/", new), unchanged(21, b"/", [ROOT, D, A, LINK, new])).differing == []


def test_a_row_that_was_seen_before_an_unchanged_directory_stays_buried(view):
    view.apply(unchanged(20, b"/", [ROOT, D, A, LINK]))
    view.apply(up(15, b"/", FsRow(b"late", 0, 0, 0, FILE, 0, 0, 1, 9, 1)))
    assert (b"late",) not in view.db.execute("SELECT name FROM nodes").fetchall()


def test_what_another_agent_saw_counts_as_seen_by_this_one(view):
    view.apply(unchanged(20, b"/", [ROOT, D, A, LINK]), owner=2)
    assert [view.read(name, "owner") for name in (b"", b"d", b"a", b"l\xff", b"huge")] == [2, 2, 2, 2, 1]
    older = FsRow(b"a", 3, -100, 6, FILE, 1, 2, 1, 4, 1)
    view.apply(up(30, b"/", older, lane=AUDIT), owner=2, present={1: 0, 2: 0})
    assert view.read(b"a", "mtime_ns") == -100  # comparable now: the higher index wins


def test_a_name_that_another_agent_saw_later_stays_its_own(view):
    view.apply(up(50, b"/", A, lane=RT), owner=2)
    view.apply(unchanged(20, b"/", [ROOT, D, A, LINK]), owner=1)
    assert (view.read(b"a", "owner"), view.read(b"a", "idx")) == (2, 50)


def test_an_index_out_of_range_is_not_believed(view):
    assert view.apply(unchanged(1 << 63, b"/", [ROOT, D, A, LINK])).differing == [Differing(b"at/", True)]
