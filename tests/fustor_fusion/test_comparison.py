"""What `Unchanged` does to a view: nothing that a reader sees, whether it holds or not."""

import stat
from collections.abc import Sequence

import pytest

from fustor_event_model import (
    DeleteEvent,
    FsItem,
    FsPath,
    FsRow,
    Listed,
    MessageSource,
    RowsDigest,
    Unchanged,
    UpdateEvent,
)
from fustor_fusion.arbiter import Applied, Arbiter
from fustor_fusion.comparison import Differing
from fustor_fusion.schema import open_database
from fustor_fusion.tree import Tree
from recount import check_counts

RT, SNAP, AUDIT = MessageSource.REALTIME, MessageSource.SNAPSHOT, MessageSource.AUDIT
DIR, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644
ROOT = FsRow(b"", 4096, 5, 6, DIR, 0, 0, 1, 2, 3)
D = FsRow(b"d", 4096, 5, 6, DIR, 0, 0, 1, 3, 2)
A = FsRow(b"a", 10, -5, 6, FILE, 1, 2, 1, 4, 1)
LINK = FsRow(b"l\xff", 2, 5, 6, stat.S_IFLNK | 0o777, 0, 0, 1, 5, 1, b"\xfe")
IDX = 12  # the columns before it are what was seen
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


def gone(index: int, *paths: bytes) -> FsItem:
    return DeleteEvent(index=index, message_source=RT, event_schema="fs", table="files",
                       rows=[FsPath(path) for path in paths])


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
    assert [(view.read(name, "idx"), view.read(name, "floor")) for name in (b"", b"d")] == [(20, 20), (21, 21)]
    assert [columns[:IDX] for columns in view.dump()] == [columns[:IDX] for columns in before]


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


@pytest.mark.parametrize("late", [
    lambda: [up(15, b"/", FsRow(b"a", 99, 99, 99, FILE, 0, 0, 1, 40, 1), lane=RT)],
    lambda: [up(15, b"/", FsRow(b"d", 4096, 99, 99, DIR, 0, 0, 1, 41, 2), lane=RT)],
    lambda: [up(15, b"", FsRow(b"/", 4096, 99, 99, DIR, 0, 0, 1, 42, 2))],
    lambda: [up(15, b"/", FsRow(b"d", 0, 0, 0, FILE, 0, 0, 1, 43, 1), lane=RT)],
    lambda: [up(15, b"/a/", FsRow(b"below", 0, 0, 0, FILE, 0, 0, 1, 44, 1), lane=RT)],
    lambda: [gone(15, b"/a", b"/d", b"/d/huge")],
    lambda: [gone(15, b"/d")],
    lambda: [listed(15, b"/"), listed(15, b"/d")],
    lambda: [unchanged(15, b"/", [LINK, ROOT, A, D])],
], ids=["file", "directory", "root", "file for a directory", "below a file", "names", "subtree", "listed", "unchanged"])
@pytest.mark.parametrize("owner", [1, 2])
def test_names_that_were_seen_unchanged_are_not_overtaken_by_what_was_seen_before(view, late, owner):
    view.apply(unchanged(20, b"/", [ROOT, D, A, LINK]), unchanged(21, b"/d", [D, HUGE]), owner=owner)
    before = view.dump()
    assert view.apply(*late(), owner=owner).differing == []
    assert view.dump() == before


def test_what_is_below_an_unchanged_directory_survives_that_the_way_to_it_was_gone_before(view):
    view.apply(up(12, b"/d/", FsRow(b"e", 4096, 5, 6, DIR, 0, 0, 1, 50, 2)),
               up(12, b"/d/e/", FsRow(b"f", 7, 5, 6, FILE, 0, 0, 1, 51, 1)))
    e, f = FsRow(b"e", 4096, 5, 6, DIR, 0, 0, 1, 50, 2), FsRow(b"f", 7, 5, 6, FILE, 0, 0, 1, 51, 1)
    view.apply(unchanged(20, b"/d/e", [e, f]))
    view.apply(gone(15, b"/d"))
    assert (view.read(b"f", "size"), view.read(b"e", "inode")) == (7, 50)
    assert not view.db.execute("SELECT 1 FROM nodes WHERE name=?", (b"huge",)).fetchall()
    check_counts(view.db)


def test_the_name_of_a_file_that_was_seen_unchanged_speaks_for_its_other_names(view):
    first, second = (FsRow(name, 10, 5, 6, FILE, 0, 0, 1, 60, 2) for name in (b"first", b"second"))
    view.apply(up(12, b"/d/", first), up(13, b"/", second))
    view.apply(unchanged(20, b"/d", [D, HUGE, first]))
    view.apply(up(15, b"/", FsRow(b"second", 8, 4, 5, FILE, 0, 0, 1, 60, 2), lane=RT))
    assert (view.read(b"first", "size"), view.read(b"second", "size")) == (10, 10)


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
