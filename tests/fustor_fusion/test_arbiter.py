import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbitration import DIR, FILE, RT, SNAP, View, folder, gone, listed, row, up
from fustor_event_model import FsItem, FsRow, MessageSource, SnapshotEnd
from fustor_fusion.removal import purge
from fustor_fusion.totals import read_sums


@pytest.fixture
def view(tmp_path):
    view = View(tmp_path)
    yield view
    view.check()
    view.db.close()


def test_rows_come_back_as_they_were_sent(view):
    link = FsRow(b"l", 3, -5, 9, stat.S_IFLNK | 0o777, 1000, 1001, 8, 99, 1, b"to\xff")
    view.apply(up(5, b"/", link, folder(b"d", 3), row(b"caf\xe9", 4)))
    columns = ("size", "mtime_ns", "ctime_ns", "mode", "uid", "gid", "device", "inode", "nlink", "target", "idx")
    assert view.dump(*columns)[b"/l"] == (3, -5, 9, stat.S_IFLNK | 0o777, 1000, 1001, 8, 99, 1, b"to\xff", 5)
    assert set(view.dump()) == {b"/l", b"/d", b"/caf\xe9"}


def test_an_older_row_of_any_lane_changes_nothing(view):
    view.apply(up(10, b"/", row(b"a", 2)))
    view.apply(up(9, b"/", row(b"a", 1), source=SNAP))
    assert view.dump() == {b"/a": 2}


def test_a_late_row_stays_buried_below_its_tombstone_and_a_newer_one_digs_it_out(view):
    view.apply(up(5, b"/", row(b"a")))
    view.apply(gone(10, b"/a"), up(9, b"/", row(b"a"), source=SNAP))
    assert view.dump() == {}
    view.apply(up(11, b"/", row(b"a", 3)))
    assert view.dump() == {b"/a": 3}


def test_a_deletion_takes_the_subtree_with_it_but_not_what_was_seen_later(view):
    view.apply(up(5, b"/", folder(b"d")), up(5, b"/d/", row(b"old"), folder(b"s")), up(5, b"/d/s/", row(b"x")),
               up(12, b"/d/s/", row(b"new", 9)))
    view.apply(gone(10, b"/d"))
    assert view.dump() == {b"/d/s/new": 9}
    view.apply(up(9, b"/d/s/", row(b"late")), up(13, b"/", folder(b"d", 4)), up(13, b"/d/", folder(b"s", 5)))
    assert view.dump() == {b"/d": 4, b"/d/s": 5, b"/d/s/new": 9}


def test_the_second_scan_that_contradicts_another_agents_realtime_is_believed(view):
    view.apply(up(5, b"/", row(b"a", 3, mtime_ns=90)), owner=2)
    view.apply(up(10, b"/", row(b"a", 3, mtime_ns=80), source=SNAP))
    assert view.dump("mtime_ns") == {b"/a": 90}
    view.apply(up(20, b"/", row(b"a", 3, mtime_ns=80), source=SNAP))
    assert view.dump("mtime_ns") == {b"/a": 80}


def test_an_absence_below_a_file_leaves_the_file(view):
    view.apply(up(5, b"/", row(b"a", 3)))
    view.apply(gone(10, b"/a/x", b"/a/x/y"))
    assert view.dump() == {b"/a": 3}


def test_later_absences_below_a_directory_do_not_keep_a_file_from_its_place(view):
    view.apply(up(5, b"/", folder(b"c")), up(6, b"/c/", folder(b"b")), up(7, b"/c/b/", row(b"a")))
    view.apply(gone(40, b"/c/b/a", b"/c/x/y", b"/c/z"), owner=2)
    view.apply(up(30, b"/", row(b"c", 9)))
    assert view.dump() == {b"/c": 9}
    view.apply(up(50, b"/c/b/", row(b"a", 3)))
    assert view.dump() == {b"/c/b/a": 3}
    orphans = view.db.execute("SELECT name FROM tombstones WHERE parent NOT IN (SELECT id FROM nodes WHERE id > 0)")
    assert not orphans.fetchall()


def test_what_was_seen_later_below_a_directory_keeps_a_file_from_its_place_and_so_do_later_absences_then(view):
    view.apply(up(5, b"/", folder(b"c")), up(6, b"/c/", folder(b"b")), up(40, b"/c/b/", row(b"a")))
    view.apply(gone(40, b"/c/b/x"), owner=2)
    view.apply(up(30, b"/", row(b"c", 9)), up(35, b"/c/b/", row(b"x")))
    assert view.dump() == {b"/c/b/a": 1}


def test_an_absence_below_unknown_parents_is_remembered(view):
    view.apply(gone(10, b"/a/b/x"))
    view.apply(up(9, b"/a/b/", row(b"x"), row(b"y")))
    assert view.dump() == {b"/a/b/y": 1}


def test_a_directory_seen_after_its_parent_was_gone_survives(view):
    view.apply(up(5, b"/", folder(b"d")), up(12, b"/d/", folder(b"s", 9)))
    view.apply(gone(10, b"/d"))
    assert view.dump() == {b"/d/s": 9}


def test_a_directory_listed_after_its_parent_was_gone_keeps_that_listing(view):
    view.apply(up(5, b"/", folder(b"d")), up(5, b"/d/", folder(b"s")), listed(12, b"/d/s"))
    view.apply(gone(10, b"/d"))
    view.apply(up(11, b"/d/s/", row(b"x")))
    assert view.dump() == {}


def test_a_tombstone_outlives_the_older_deletion_of_its_directory(view):
    view.apply(up(5, b"/", folder(b"d")), gone(15, b"/d/x"), gone(10, b"/d"))
    view.apply(up(12, b"/d/", row(b"x"), row(b"y", 4)))
    assert view.dump() == {b"/d/y": 4}


def test_old_tombstones_are_forgotten_with_the_placeholders_that_lead_nowhere(view):
    view.apply(gone(10, b"/a/b/x"), gone(30, b"/y"), up(40, b"/", row(b"z")))
    view.db.execute("BEGIN")
    while purge(view.tree, 1, 20) or view.db.execute("SELECT 1 FROM nodes WHERE name=x'61'").fetchall():
        pass
    view.tree.save()
    view.db.execute("COMMIT")
    assert view.db.execute("SELECT name FROM tombstones").fetchall() == [(b"y",)]
    assert view.dump() == {b"/z": 1}


def test_an_older_deletion_still_removes_what_is_older_below_a_newer_directory(view):
    view.apply(up(5, b"/d/", row(b"x")), up(20, b"/", folder(b"d", 7)))
    view.apply(gone(10, b"/d"))
    assert view.dump() == {b"/d": 7}
    view.apply(up(9, b"/d/", row(b"late")))
    assert view.dump() == {b"/d": 7}


def test_a_listing_removes_the_children_that_it_did_not_name(view):
    view.apply(up(5, b"/", folder(b"d", 1), row(b"a"), row(b"b")), up(5, b"/d/", row(b"x")))
    view.apply(up(10, b"/", row(b"b", 8), source=SNAP), listed(10, b"/"))
    assert view.dump() == {b"/b": 8}
    view.apply(up(9, b"/d/", row(b"x")), up(9, b"/", row(b"a")))
    assert view.dump() == {b"/b": 8}
    view.apply(up(10, b"/", row(b"a", 2)))
    assert view.dump() == {b"/a": 2, b"/b": 8}


def test_a_listing_of_a_fresh_directory_removes_what_came_before_its_index(view):
    view.apply(up(1, b"/", folder(b"d"), source=SNAP), up(2, b"/d/", row(b"old"), source=SNAP),
               up(7, b"/d/", row(b"new", 6), source=SNAP), listed(5, b"/d"))
    assert view.dump() == {b"/d": 1, b"/d/new": 6}


def test_rows_of_unknown_parents_make_a_way_that_is_no_node_of_its_own(view):
    view.apply(up(5, b"/a/b/c/", row(b"f", 3)))
    assert view.dump() == {b"/a/b/c/f": 3}
    view.apply(up(1, b"/a/", folder(b"b", 9)))
    assert view.dump() == {b"/a/b": 9, b"/a/b/c/f": 3}


def test_rows_below_a_gone_ancestor_are_dropped_unless_they_are_newer(view):
    view.apply(up(5, b"/", folder(b"a")), gone(10, b"/a"))
    view.apply(up(9, b"/a/b/", row(b"x")))
    assert view.dump() == {}
    view.apply(up(11, b"/a/b/", row(b"x")))
    assert view.dump() == {b"/a/b/x": 1}
    view.apply(up(9, b"/a/b/", row(b"y")))
    assert view.dump() == {b"/a/b/x": 1}


def test_a_file_on_the_way_yields_to_a_newer_row_below_it_and_stops_an_older_one(view):
    view.apply(up(10, b"/", row(b"a", 4)))
    view.apply(up(9, b"/a/", row(b"x")))
    assert view.dump() == {b"/a": 4}
    view.apply(up(11, b"/a/", row(b"x")))
    assert view.dump() == {b"/a/x": 1}


def test_a_file_replaces_a_directory_with_its_subtree_and_the_other_way_round(view):
    view.apply(up(5, b"/", folder(b"a")), up(5, b"/a/", row(b"x"), folder(b"s")), up(5, b"/a/s/", row(b"y")))
    view.apply(up(10, b"/", row(b"a", 8)))
    assert view.dump() == {b"/a": 8}
    view.apply(up(15, b"/", folder(b"a", 9)), up(9, b"/a/", row(b"x")))
    assert view.dump() == {b"/a": 9}


def test_another_identity_empties_a_directory_of_what_is_older(view):
    view.apply(up(5, b"/", folder(b"a", 1)), up(5, b"/a/", row(b"x")), up(12, b"/a/", row(b"new", 6)))
    view.apply(up(10, b"/", folder(b"a", 2)))
    assert view.dump() == {b"/a": 2, b"/a/new": 6}
    view.apply(up(8, b"/a/", row(b"x")))
    assert view.dump() == {b"/a": 2, b"/a/new": 6}


def test_the_root_can_be_updated_and_never_deleted(view):
    view.apply(up(5, b"/", row(b"", 77, mode=DIR)), up(5, b"/", row(b"a")), gone(9, b"/"))
    assert view.dump() == {b"/a": 1}
    assert view.db.execute("SELECT inode, flags FROM nodes WHERE parent=0").fetchall() == [(77, 4)]
    view.apply(up(6, b"/", row(b"", 78)))  # a file cannot be the root
    assert view.db.execute("SELECT inode FROM nodes WHERE parent=0").fetchall() == [(77,)]


def test_names_of_a_known_directory_that_come_again_are_merged_not_doubled(view):
    view.apply(up(5, b"/", *[row(b"f%d" % n, n) for n in range(300)], source=SNAP))
    view.apply(up(6, b"/", *[row(b"f%d" % n, 1000 + n, size=6) for n in range(250, 400)], source=SNAP))
    dump = view.dump()
    assert len(dump) == 400
    assert (dump[b"/f249"], dump[b"/f250"], dump[b"/f399"]) == (249, 1250, 1399)


def test_the_same_name_twice_in_one_batch_is_settled_by_the_index(view):
    view.apply(up(6, b"/", row(b"a", 6), row(b"b", 6), source=SNAP), up(5, b"/", row(b"a", 5), row(b"c"), source=SNAP))
    assert view.dump() == {b"/a": 6, b"/b": 6, b"/c": 1}


def test_rows_that_no_tree_can_hold_are_refused_by_themselves(view):
    applied = view.apply(up(5, b"/", row(b".."), row(b"ok"), row(b"x\0y"), row(b"a//b")), up(5, b"rel", row(b"x")),
                         gone(6, b"/../etc"), listed(7, b"no"))
    assert view.dump() == {b"/ok": 1}
    assert [refused.path for refused in applied.refused] == [b"/..", b"/x\0y", b"/a//b", b"relx", b"/../etc", b"no"]
    assert applied.rows == 1


def test_unsigned_inodes_survive_and_numbers_out_of_range_are_refused(view):
    item = up(5, b"/", row(b"a", (1 << 64) - 2), row(b"b", size=1 << 63), row(b"c", mode=1 << 32), row(b"d", mode=-1))
    view.db.execute("BEGIN")
    with pytest.raises(OverflowError):
        view.arbiter.apply([item], owner=1)
    view.db.execute("ROLLBACK")
    view.tree.forget()
    view.arbiter.forget()
    applied = view.apply(item, careful=True)
    assert [refused.path for refused in applied.refused] == [b"/b", b"/c", b"/d"]
    assert view.dump() == {b"/a": -2}


def test_a_file_being_written_is_suspect_until_closed(view):
    view.apply(up(5, b"/", row(b"a", atomic=False)))
    assert view.dump("flags & 1") == {b"/a": 1}
    view.apply(up(6, b"/", row(b"a")))
    assert view.dump("flags & 1") == {b"/a": 0}


def test_without_an_index_a_deletion_and_a_new_row_in_order_leave_the_row(view):
    view.apply(up(1, b"", row(b"/a")), gone(2, b"/a"), up(3, b"", row(b"/a", 5)), ordered=False)
    assert view.dump() == {b"/a": 5}


def test_a_deep_tree_is_removed_without_recursion(view):
    path = b"/" + b"/".join(b"d" for _ in range(3000)) + b"/"
    view.apply(up(5, path, row(b"f")))
    view.apply(gone(6, b"/d"))
    assert view.db.execute("SELECT count(*) FROM nodes").fetchall() == [(1,)]


def test_sizes_may_add_up_to_more_than_63_bits_and_come_down_again(view):
    huge = (1 << 63) - 1
    view.apply(up(5, b"/d/", *[row(b"f%d" % n, n, size=huge) for n in range(3)]))
    view.apply(up(6, b"/d/", *[row(b"g%d" % n, n, size=huge) for n in range(3)], source=SNAP))
    view.check()
    assert read_sums(view.db, 1).bytes == huge
    view.apply(gone(7, b"/d/f0", b"/d/f1", b"/d/f2", b"/d/g0", b"/d/g1"), up(7, b"/d/", row(b"g2", size=10)))
    assert read_sums(view.db, 1).bytes == 10
    view.apply(up(8, b"/d/s/", *[row(b"h%d" % n, n, size=huge) for n in range(3)]), gone(9, b"/d/s"))
    assert read_sums(view.db, 1).bytes == 10


# -- random interleavings against a model ---------------------------------------------------


class Node(NamedTuple):
    inode: int
    directory: bool


class Model:
    """A tree that changes, and an observer that says what it sees, each look with its index."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[bytes, ...], Node] = {}
        self.index = 0
        self.inode = 0
        self.realtime: list[FsItem] = []
        self.snapshot: list[FsItem] = []

    def stamp(self) -> int:
        self.index += 1
        return self.index

    def make(self, way: tuple[bytes, ...], directory: bool) -> None:
        """Create a node, or replace the one of the same name."""
        if way[:-1] and not self.nodes.get(way[:-1], Node(0, False)).directory:
            return
        if way in self.nodes:
            self.remove(way)
        self.inode += 1
        self.nodes[way] = Node(self.inode, directory)
        self.look(way)

    def remove(self, way: tuple[bytes, ...]) -> None:
        for other in [other for other in self.nodes if other[: len(way)] == way]:
            del self.nodes[other]
        self.look(way)

    def move(self, way: tuple[bytes, ...], to: tuple[bytes, ...]) -> None:
        if way not in self.nodes or to[: len(way)] == way or way[: len(to)] == to:
            return
        if to[:-1] and not self.nodes.get(to[:-1], Node(0, False)).directory:
            return
        if to in self.nodes:
            self.remove(to)
        for other in [other for other in self.nodes if other[: len(way)] == way]:
            self.nodes[to + other[len(way):]] = self.nodes.pop(other)
        self.look(way)
        self.look(to)

    def look(self, way: tuple[bytes, ...]) -> None:
        """Observe one name on the realtime lane; a directory that appears is listed to the bottom."""
        node = self.nodes.get(way)
        path = b"/" + b"/".join(way)
        if node is None:
            self.realtime.append(gone(self.stamp(), path))
            return
        self.realtime.append(up(self.stamp(), path[: -len(way[-1])], self.describe(way)))
        if node.directory:
            self.realtime += self.list_below(way, RT)

    def describe(self, way: tuple[bytes, ...]) -> FsRow:
        node = self.nodes[way]
        return row(way[-1], node.inode, mode=DIR if node.directory else FILE, size=node.inode)

    def list_below(self, way: tuple[bytes, ...], source: MessageSource) -> list[FsItem]:
        path = b"/" + b"/".join(way)
        index = self.stamp()
        children = sorted(other for other in self.nodes if other[:-1] == way)
        items: list[FsItem] = []
        if children:
            rows = [self.describe(child) for child in children]
            items.append(up(index, path if path == b"/" else path + b"/", *rows, source=source))
        items.append(listed(index, path, source))
        for child in children:
            if self.nodes[child].directory:
                items += self.list_below(child, source)
        return items

    def expect(self) -> dict[bytes, object]:
        return {b"/" + b"/".join(way): node.inode for way, node in self.nodes.items()}


names = st.sampled_from([b"a", b"b", b"c"])
ways = st.lists(names, min_size=1, max_size=4).map(tuple)
seen_changes = [
    st.tuples(st.just("make"), ways, st.booleans()),
    st.tuples(st.just("remove"), ways),
    st.tuples(st.just("move"), ways, ways),
    st.tuples(st.just("snapshot")),
]
scripts = st.lists(st.one_of(*seen_changes), min_size=1, max_size=25)
# "unseen": what follows happens while nobody looks, until the next snapshot.
scripts_with_gaps = st.lists(st.one_of(*seen_changes, st.tuples(st.just("unseen"))), min_size=1, max_size=25)
cuttings = st.lists(st.integers(1, 8), max_size=10)


def play(script: list[tuple[object, ...]]) -> Model:
    model = Model()
    blind_since: int | None = None
    for verb, *arguments in script:
        if verb == "unseen":
            blind_since = len(model.realtime) if blind_since is None else blind_since
        elif verb == "snapshot":
            model.snapshot += model.list_below((), SNAP)
            blind_since = None
        elif verb != "remove" or arguments[0] in model.nodes:
            getattr(model, str(verb))(*arguments)
            if blind_since is not None:
                del model.realtime[blind_since:]
    return model


def deliver(items: list[FsItem], cuts: list[int]) -> dict[bytes, object]:
    """Apply the items in portions of these sizes, and check counts and changes after each."""
    with tempfile.TemporaryDirectory() as name:
        view = View(Path(name))
        at = 0
        for cut in [*cuts, len(items)]:
            view.apply(*items[at : at + cut])
            at += cut
            view.check()
        dump = view.dump()
        view.db.close()
    return dump


def interleave(data: st.DataObject, *lanes: list[FsItem]) -> list[FsItem]:
    """Mix lanes, keeping the order within each, and repeat some items."""
    left = [list(lane) for lane in lanes if lane]
    delivered: list[FsItem] = []
    while left:
        lane = data.draw(st.sampled_from(left))
        count = data.draw(st.integers(1, 6))
        delivered += lane[:count]
        del lane[:count]
        left = [lane for lane in left if lane]
        if data.draw(st.integers(0, 3)) == 0:
            delivered.append(data.draw(st.sampled_from(delivered)))
    return delivered


@settings(max_examples=150, deadline=None)
@given(scripts, cuttings)
def test_realtime_alone_in_order_converges_to_the_tree(script, cuts):
    model = play(script)
    assert deliver(model.realtime, cuts) == model.expect()


@settings(max_examples=200, deadline=None)
@given(scripts, cuttings, st.data())
def test_lanes_in_any_order_with_duplicates_converge_to_the_tree(script, cuts, data):
    model = play(script)
    assert deliver(interleave(data, model.realtime, model.snapshot), cuts) == model.expect()


@settings(max_examples=200, deadline=None)
@given(scripts_with_gaps, cuttings, st.data())
def test_a_last_complete_listing_mends_what_nobody_saw(script, cuts, data):
    model = play(script)
    model.snapshot += model.list_below((), SNAP)
    assert deliver(interleave(data, model.realtime, model.snapshot), cuts) == model.expect()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("batch", [
    [gone(1, b"/c/a"), up(1, b"/", row(b"c"), source=SNAP), up(1, b"", folder(b"/c/a"))],
    [up(1, b"/c/", row(b"a")), up(2, b"/", row(b"c"), source=SNAP), up(3, b"/c/", row(b"b"), source=SNAP)],
    [up(1, b"/c/", row(b"a")), up(2, b"/", row(b"c"), source=SNAP), listed(3, b"/c")],
    [up(3, b"/", row(b"c"), source=SNAP), up(2, b"/", folder(b"c"), source=SNAP),
     up(2, b"/c/", row(b"a"), source=SNAP)],
], ids=["a tombstone below", "a file below", "a listing below", "older rows below"])
def test_a_file_at_the_place_of_a_directory_keeps_nothing_below_it_in_one_batch(tmp_path, batch, ordered):
    (tmp_path / "apart").mkdir()
    together, apart = View(tmp_path), View(tmp_path / "apart")
    together.apply(*batch, ordered=ordered)
    together.check()
    for item in batch:
        apart.apply(item, ordered=ordered)
        apart.check()
    assert together.dump() == apart.dump()
    together.db.close()
    apart.db.close()


def dump_all(view: View) -> dict[bytes, object]:
    """Return all that is stored of each path, as `find` says it: a directory's floor counts for its names."""
    return view.dump(
        "max(idx, (SELECT ifnull(d.floor, 0) FROM nodes AS d WHERE d.id = nodes.parent))", "owner", "flags",
        "ifnull(floor, 0)", "size", "mtime_ns", "mode", "inode")


paths = st.lists(names, min_size=1, max_size=3).map(lambda way: b"/" + b"/".join(way))
seen_rows = st.builds(
    row, paths, st.integers(1, 3), mode=st.sampled_from([DIR, FILE]), size=st.integers(0, 3), nlink=st.integers(1, 2),
    atomic=st.booleans(), mtime_ns=st.integers(0, 3))
prefixed_rows = st.builds(row, names, st.integers(1, 3), mode=st.sampled_from([DIR, FILE]))
indexes = st.integers(1, 12)
sources = st.sampled_from([RT, SNAP, MessageSource.AUDIT])
prefixes = st.one_of(st.just(b"/"), paths.map(lambda path: path + b"/"))
any_items = st.one_of(
    st.builds(lambda index, source, rows: up(index, b"", *rows, source=source), indexes, sources,
              st.lists(seen_rows, min_size=1, max_size=3)),
    st.builds(lambda index, prefix, source, rows: up(index, prefix, *rows, source=source), indexes, prefixes, sources,
              st.lists(prefixed_rows, min_size=1, max_size=3)),
    st.builds(gone, indexes, paths),
    st.builds(listed, indexes, st.one_of(st.just(b"/"), paths), sources),
    st.just(SnapshotEnd(index=1, message_source=SNAP, complete=True)))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.lists(any_items, max_size=4), st.integers(1, 2), st.booleans()), max_size=10))
def test_counts_and_changes_are_right_whatever_several_agents_say(batches):
    with tempfile.TemporaryDirectory() as name:
        view = View(Path(name))
        for items, owner, ordered in batches:
            view.apply(*items, owner=owner, ordered=ordered)
            view.check()
        view.db.close()


def has_one_name(item: FsItem) -> bool:
    """Tell whether an item says nothing of hard links, which are made equal once a batch."""
    rows = getattr(item, "rows", ())
    return not isinstance(item, SnapshotEnd) and all(getattr(row, "nlink", 1) == 1 for row in rows)


@settings(max_examples=100, deadline=None)
@given(st.lists(any_items.filter(has_one_name), max_size=12), st.booleans())
def test_what_comes_in_one_batch_is_stored_as_if_each_item_came_alone(items, ordered):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        together, apart = View(Path(one)), View(Path(other))
        together.apply(*items, ordered=ordered)
        together.check()
        for item in items:
            apart.apply(item, ordered=ordered)
            apart.tree.forget()  # reads what it needs: nothing may be right only in memory
        assert dump_all(together) == dump_all(apart)
        together.db.close()
        apart.db.close()
