"""Records become looks, dirty marks and moves in the tree; no system call is made."""

import pytest

from fustor_source_fs import bindings as b
from fustor_source_fs.pending import Work
from fustor_source_fs.records import Record
from fustor_source_fs.translate import Translator
from fustor_source_fs.watches import Node, Tree

D = b.IN_ISDIR


class Rig:
    """A translator over a tree of directories that are watched and listed; the watch of each is its inode."""

    def __init__(self, takes=None) -> None:
        self.now_s = 0.0
        self.tree = Tree()
        self.work = Work(1000, lambda: 0.0)
        self.removed: list[int] = []
        self.translator = Translator(self.tree, self.work, self.forget, lambda: self.now_s, takes)
        self.settle(self.tree.root, 1)

    def forget(self, gone: list[Node], unheld: list[int]) -> None:
        for node in gone:
            self.work.forget(node)
        self.removed += unheld

    def settle(self, node: Node, inode: int) -> None:
        node.device, node.inode, node.listed = 1, inode, 1
        self.tree.hold_watch(node, inode)

    def add(self, path: bytes, inode: int) -> Node:
        parent, names = self.tree.find(path)
        node = self.tree.add(parent, names[0])
        self.settle(node, inode)
        return node

    def feed(self, *records: tuple[int, int, int, bytes] | tuple[int, int]) -> None:
        self.translator.feed([Record(*each) if len(each) == 4 else Record(*each, 0, b"") for each in records])
        self.translator.feed(())  # no more is to be waited for

    def path(self, node: Node) -> bytes | None:
        return self.tree.get_path(node)

    def looks(self) -> set[bytes]:
        """Take the names that are to be looked at, as paths."""
        found = set()
        while taken := self.work.take_group():
            path = self.path(taken[0])
            if path is not None:
                found |= {path.rstrip(b"/") + b"/" + name for name in taken[1].names}
            self.work.finish(taken[1])
        return found

    def dirty(self) -> set[bytes | None]:
        """Take the directories that are to be listed."""
        found = set()
        while taken := self.work.take_dirty():
            found.add(self.path(taken[0]))
            self.work.finish(taken[1])
        return found


@pytest.fixture
def rig() -> Rig:
    return Rig()


def moved_from(watch: int, name: bytes, cookie: int, flag: int = D) -> tuple[int, int, int, bytes]:
    return (watch, b.IN_MOVED_FROM | flag, cookie, name)


def moved_to(watch: int, name: bytes, cookie: int, flag: int = D) -> tuple[int, int, int, bytes]:
    return (watch, b.IN_MOVED_TO | flag, cookie, name)


# -- looks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [b.IN_MODIFY, b.IN_ATTRIB, b.IN_CLOSE_WRITE])
def test_a_change_of_a_file_looks_at_the_file_only(rig, mask):
    rig.add(b"/d", 2)
    rig.feed((2, mask, 0, b"f"))
    assert rig.looks() == {b"/d/f"}


@pytest.mark.parametrize("mask", [b.IN_CREATE, b.IN_DELETE, b.IN_MOVED_FROM, b.IN_MOVED_TO])
def test_a_change_of_names_looks_at_the_directory_too(rig, mask):
    rig.add(b"/d", 2)
    rig.feed((2, mask, 1, b"f"))
    assert rig.looks() == {b"/d/f", b"/d"}


def test_a_change_of_names_in_the_root_looks_at_the_root(rig):
    rig.feed((1, b.IN_CREATE, 0, b"f"))
    assert rig.looks() == {b"/f", b"/"}


def test_a_file_is_open_until_a_record_says_otherwise(rig):
    rig.feed((1, b.IN_MODIFY, 0, b"f"))
    _, group = rig.work.take_group()
    assert group.names == {b"f": False}
    rig.feed((1, b.IN_MODIFY, 0, b"f"), (1, b.IN_CLOSE_WRITE, 0, b"f"))
    _, group = rig.work.take_group()
    assert group.names == {b"f": True}


def test_a_directorys_own_attributes_are_looked_at(rig):
    rig.add(b"/d", 2)
    rig.feed((2, b.IN_ATTRIB | D))
    assert rig.looks() == {b"/d"}


def test_a_record_of_a_watch_that_nobody_holds_is_nothing(rig):
    rig.feed((99, b.IN_CREATE, 0, b"f"), (99, b.IN_IGNORED))
    assert not rig.work
    assert rig.translator.captured == 0


def test_a_directory_that_two_places_show_is_looked_at_in_both(rig):
    rig.add(b"/d", 2)
    rig.tree.hold_watch(rig.add(b"/e", 3), 2)
    rig.feed((2, b.IN_CLOSE_WRITE, 0, b"f"))
    assert rig.looks() == {b"/d/f", b"/e/f"}


def test_names_that_the_pattern_leaves_out_are_not_noted_but_their_directory_is():
    rig = Rig(takes=lambda name: name.endswith(b".txt"))
    rig.add(b"/d", 2)
    rig.feed((2, b.IN_CREATE, 0, b"f.o"), (2, b.IN_MODIFY, 0, b"f.o"), (2, b.IN_CREATE, 0, b"f.txt"))
    assert rig.looks() == {b"/d/f.txt", b"/d"}
    assert rig.translator.captured == 1


def test_directories_are_noted_whatever_the_pattern():
    rig = Rig(takes=lambda name: False)
    rig.add(b"/d", 2)
    rig.feed(moved_from(1, b"d", 5), moved_to(1, b"e", 5), (2, b.IN_MOVE_SELF))
    assert rig.looks() == {b"/", b"/d", b"/e"}


def test_a_million_changes_of_one_file_cost_one_place(rig):
    rig.translator.feed([Record(1, b.IN_MODIFY, 0, b"%d" % (number % 2)) for number in range(100_000)])
    assert rig.work.pending_count == 2
    assert rig.translator.captured == 100_000


# -- renames -------------------------------------------------------------------------------


def test_a_renamed_directory_keeps_its_node_its_watch_and_all_below_it(rig):
    node, below = rig.add(b"/d", 2), rig.add(b"/d/e", 3)
    rig.feed(moved_from(1, b"d", 5), moved_to(1, b"x", 5), (2, b.IN_MOVE_SELF))
    assert (rig.path(node), rig.path(below), node.watch, rig.removed) == (b"/x", b"/x/e", 2, [])
    assert rig.looks() == {b"/", b"/d", b"/x"}
    assert rig.dirty() == {b"/x", b"/x/e"}


def test_the_halves_of_a_rename_may_come_in_two_reads(rig):
    node = rig.add(b"/d", 2)
    rig.feed(moved_from(1, b"d", 5))
    assert rig.path(node) is None
    rig.feed(moved_to(1, b"x", 5), (2, b.IN_MOVE_SELF))
    assert (rig.path(node), rig.removed) == (b"/x", [])


def test_renames_of_two_directories_at_once_pair_by_cookie(rig):
    first, second = rig.add(b"/a", 2), rig.add(b"/b", 3)
    rig.feed(moved_from(1, b"a", 5), moved_from(1, b"b", 6), moved_to(1, b"y", 6), moved_to(1, b"x", 5))
    assert (rig.path(first), rig.path(second)) == (b"/x", b"/y")


def test_changes_follow_a_directory_that_moves_before_they_were_looked_at(rig):
    rig.add(b"/d", 2)
    rig.add(b"/d/e", 3)
    rig.feed((3, b.IN_CLOSE_WRITE, 0, b"f"), moved_from(1, b"d", 5), moved_to(1, b"x", 5), (2, b.IN_MOVE_SELF))
    assert b"/x/e" in rig.dirty()  # the listing looks at the name
    assert b"/d/e/f" not in rig.looks()


def test_moving_itself_without_an_arrival_is_a_move_out(rig):
    rig.add(b"/d", 2)
    rig.add(b"/d/e", 3)
    rig.feed(moved_from(1, b"d", 5), (2, b.IN_MOVE_SELF))
    assert sorted(rig.removed) == [2, 3]
    assert rig.tree.size == 1
    assert rig.looks() == {b"/", b"/d"}
    assert not rig.work


def test_a_directory_that_left_and_came_back_is_new(rig):
    node = rig.add(b"/d", 2)
    rig.feed(moved_from(1, b"d", 5), (2, b.IN_MOVE_SELF), moved_to(1, b"d", 6), (2, b.IN_MOVE_SELF))
    assert rig.removed == [2]
    assert rig.path(node) is None
    assert rig.looks() == {b"/", b"/d"}


def test_a_directory_without_a_watch_does_not_wait_for_its_own_record(rig):
    node = rig.add(b"/d", 2)
    rig.tree.release_watch(node)
    rig.feed(moved_from(1, b"d", 5))
    assert rig.tree.size == 1


def test_an_exchange_in_one_read_swaps_both_nodes(rig):
    first, second = rig.add(b"/a", 2), rig.add(b"/b", 3)
    rig.feed(
        moved_from(1, b"a", 5), moved_to(1, b"b", 5), (2, b.IN_MOVE_SELF),
        moved_from(1, b"b", 6), moved_to(1, b"a", 6), (3, b.IN_MOVE_SELF),
    )  # fmt: skip
    assert (rig.path(first), rig.path(second)) == (b"/b", b"/a")
    assert rig.removed == []
    assert rig.dirty() == {b"/a", b"/b"}


def test_an_exchange_over_two_reads_has_both_names_and_what_is_found_there_looked_at(rig):
    rig.add(b"/a", 2)
    rig.add(b"/b", 3)
    rig.feed(moved_from(1, b"a", 5), moved_to(1, b"b", 5), (2, b.IN_MOVE_SELF))
    assert rig.removed == [3]
    rig.looks()
    rig.feed(moved_from(1, b"b", 6), moved_to(1, b"a", 6), (3, b.IN_MOVE_SELF))
    assert rig.looks() >= {b"/a", b"/b"}


def test_a_rename_over_an_empty_directory_drops_what_stood_there(rig):
    node = rig.add(b"/a", 2)
    rig.add(b"/b", 3)
    rig.feed(moved_from(1, b"a", 5), moved_to(1, b"b", 5), (2, b.IN_MOVE_SELF), (3, b.IN_DELETE_SELF))
    assert rig.path(node) == b"/b"
    assert rig.removed == [3]
    assert rig.tree.size == 2


def test_a_move_below_itself_by_records_that_the_tree_is_ahead_of_drops_the_node(rig):
    rig.add(b"/a", 2)
    rig.add(b"/a/b", 3)
    rig.feed(moved_from(1, b"a", 5), moved_to(3, b"x", 5))
    assert rig.tree.size == 1
    assert sorted(rig.removed) == [2, 3]


def test_records_of_a_directory_that_is_under_way_never_ask_for_its_row_without_a_name(rig):
    rig.add(b"/d", 2)
    rig.feed(moved_from(1, b"d", 5), (2, b.IN_CREATE, 0, b"f"), (2, b.IN_ATTRIB | D), moved_to(1, b"x", 5))
    assert b"/x/" not in rig.looks()
    assert b"/x" in rig.dirty()


def test_a_second_node_of_the_same_directory_keeps_the_watch_when_the_first_leaves(rig):
    rig.add(b"/d", 2)
    other = rig.add(b"/e", 3)
    rig.tree.hold_watch(other, 2)
    rig.feed(moved_from(1, b"d", 5))
    assert rig.tree.size == 2  # the first does not wait for a second half that may never come
    rig.feed((2, b.IN_MOVE_SELF))
    assert rig.path(other) == b"/e"
    assert rig.tree.get_holders(2) == (other,)
    assert rig.removed == []


def test_a_directory_below_two_mounts_of_its_parent_leaves_both_and_no_node_is_left_under_way(rig):
    rig.add(b"/m", 2)
    second = rig.add(b"/n", 3)
    rig.tree.hold_watch(second, 2)
    rig.add(b"/m/d", 4)
    twin = rig.add(b"/n/d", 5)
    rig.tree.hold_watch(twin, 4)
    rig.feed(moved_from(2, b"d", 9), (4, b.IN_MOVE_SELF))
    assert rig.tree.size == 3
    assert rig.tree.get_holders(4) == ()


def test_what_is_found_while_under_way_is_taken_from_the_records(rig):
    node = rig.add(b"/d", 2)
    rig.feed(moved_from(1, b"d", 5))
    assert rig.translator.take_moving(1, 99) is None
    assert rig.translator.take_moving(1, 2) is node
    assert rig.translator.take_moving(1, 2) is None
    rig.feed(moved_to(1, b"x", 5), (2, b.IN_MOVE_SELF))
    assert rig.path(node) is None  # whoever took it says where it is


def test_what_a_wrong_record_sent_under_way_does_not_stay_there_for_ever(rig):
    rig.add(b"/d", 2)
    rig.feed(moved_from(1, b"d", 5))
    rig.now_s = 0.9
    rig.translator.expire()
    assert rig.removed == []
    rig.now_s = 1.1
    rig.translator.expire()
    assert rig.removed == [2]
    assert rig.tree.size == 1


# -- the kernel's own records ----------------------------------------------------------------


def test_a_removed_watch_is_forgotten_and_its_directory_looked_at_and_listed(rig):
    node = rig.add(b"/d", 2)
    rig.feed((2, b.IN_DELETE_SELF))
    assert node.watch == 2  # a wd is forgotten only when the kernel says so
    assert not rig.work
    rig.feed((2, b.IN_IGNORED))
    assert node.watch is None
    assert (rig.looks(), rig.dirty()) == ({b"/d"}, {b"/d"})


def test_a_directory_that_is_deleted_while_under_way_is_dropped(rig):
    rig.add(b"/d", 2)
    rig.feed(moved_from(1, b"d", 5), (2, b.IN_DELETE_SELF), (2, b.IN_IGNORED))
    assert rig.tree.size == 1


def test_an_overflow_dirties_everything_and_drops_what_was_under_way(rig):
    rig.add(b"/a", 2)
    rig.add(b"/a/b", 3)
    rig.add(b"/c", 4)
    rig.feed(moved_from(1, b"c", 5), (-1, b.IN_Q_OVERFLOW))
    assert rig.dirty() == {b"/", b"/a", b"/a/b"}
    assert rig.looks() >= {b"/"}
    assert rig.removed == [4]
    assert rig.translator.overflows == 1


def test_a_root_that_moves_is_listed_again(rig):
    rig.add(b"/a", 2)
    rig.feed((1, b.IN_MOVE_SELF))
    assert rig.dirty() == {b"/", b"/a"}


@pytest.mark.parametrize("record", [(1, b.IN_CREATE | D, 0, b"d"), moved_to(1, b"d", 9)])
def test_a_new_directory_that_was_walked_without_sending_is_listed_with_all_below_it(rig, record):
    rig.add(b"/d", 2).listed = -1
    rig.add(b"/d/e", 3).listed = -1
    rig.feed(record)
    assert rig.dirty() == {b"/d", b"/d/e"}


def test_a_new_directory_that_was_sent_before_its_record_came_is_not_listed_twice(rig):
    rig.add(b"/d", 2)
    rig.feed((1, b.IN_CREATE | D, 0, b"d"))
    assert rig.dirty() == set()
