"""Work: the latest state by place, in bounded memory, and when all before a barrier is done."""

import pytest

from fustor_source_fs.pending import Work
from fustor_source_fs.watches import Node, Tree


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def work(clock) -> Work:
    return Work(1000, clock)


@pytest.fixture
def tree() -> Tree:
    return Tree()


@pytest.fixture
def node(tree) -> Node:
    return tree.add(tree.root, b"d")


def finish_all(work: Work) -> list[tuple[bytes, object]]:
    done = []
    while taken := work.take_group():
        done.append((taken[0].name, dict(taken[1].names)))
        work.finish(taken[1])
    while taken := work.take_dirty():
        done.append((taken[0].name, "dirty"))
        work.finish(taken[1])
    return done


def test_names_of_one_directory_are_one_piece_of_work_each_name_once(work, node):
    for name in (b"a", b"b", b"a"):
        work.look(node, name)
    assert work.pending_count == 2
    assert finish_all(work) == [(b"d", {b"a": True, b"b": True})]
    assert work.pending_count == 0
    assert not work


def test_a_file_is_closed_as_the_last_record_said(work, node):
    work.look(node, b"a", closed=True)
    work.look(node, b"a", closed=False)
    work.look(node, b"b", closed=False)
    work.look(node, b"b", closed=True)
    assert finish_all(work) == [(b"d", {b"a": False, b"b": True})]


def test_pending_names_become_part_of_a_dirty_mark(work, node):
    work.look(node, b"a")
    work.mark_dirty(node)
    work.look(node, b"b")
    assert (work.pending_count, work.dirty_count) == (0, 1)
    assert finish_all(work) == [(b"d", "dirty")]


def test_the_roots_own_row_is_looked_at_beside_its_dirty_mark(work, tree):
    work.look_self(tree.root)
    work.mark_dirty(tree.root)
    work.look_self(tree.root)
    assert finish_all(work) == [(b"", {b"": True}), (b"", "dirty")]


def test_a_directorys_own_row_is_a_name_of_its_parent(work, tree, node):
    below = tree.add(node, b"e")
    work.look_self(below)
    assert finish_all(work) == [(b"d", {b"e": True})]


def test_a_detached_directory_has_no_own_row_to_look_at(work, tree, node):
    tree.detach(node)
    work.look_self(node)
    assert not work


def test_work_hangs_on_nodes_and_so_moves_with_them(work, tree, node):
    work.look(node, b"a")
    other = tree.add(tree.root, b"e")
    tree.detach(node)
    tree.attach(node, other, b"f")
    taken = work.take_group()
    assert taken is not None
    assert tree.get_path(taken[0]) == b"/e/f"


def test_the_oldest_directory_comes_first(work, tree):
    nodes = [tree.add(tree.root, b"%d" % number) for number in range(3)]
    for each in (nodes[1], nodes[0], nodes[2], nodes[0]):
        work.look(each, b"x")
    assert [name for name, _ in finish_all(work)] == [b"1", b"0", b"2"]


def test_what_is_forgotten_is_no_work_and_holds_up_no_barrier(work, node):
    work.look(node, b"a")
    work.forget(node)
    work.mark_dirty(node)
    work.forget(node)
    assert not work
    assert work.pending_count == 0
    assert work.is_done(work.close_age())


def test_a_barrier_waits_for_what_was_noted_before_it_and_not_for_what_came_after(work, tree, node):
    work.look(node, b"a")
    age = work.close_age()
    work.look(tree.add(tree.root, b"later"), b"b")
    assert not work.is_done(age)
    taken = work.take_group()
    assert not work.is_done(age)  # taken is not done
    work.finish(taken[1])
    assert work.is_done(age)
    assert work


def test_a_barrier_waits_for_dirty_marks_too(work, node):
    work.mark_dirty(node)
    age = work.close_age()
    _, mark = work.take_dirty()
    assert not work.is_done(age)
    work.finish(mark)
    assert work.is_done(age)


def test_a_change_after_the_barrier_does_not_make_older_work_younger(work, node):
    work.look(node, b"a")
    age = work.close_age()
    work.look(node, b"b")
    assert not work.is_done(age)
    finish_all(work)
    assert work.is_done(age)


def test_a_name_that_becomes_part_of_a_dirty_mark_takes_its_age_along(work, node):
    work.look(node, b"a")
    age = work.close_age()
    work.mark_dirty(node)
    assert not work.is_done(age)
    finish_all(work)
    assert work.is_done(age)


@pytest.mark.parametrize("note", ["look", "mark_dirty"])
def test_work_that_follows_from_older_work_makes_what_is_there_older(work, node, note):
    age = work.close_age()
    do = {"look": lambda age: work.look(node, b"a", age=age), "mark_dirty": lambda age: work.mark_dirty(node, age=age)}
    do[note](None)
    assert work.is_done(age)
    do[note](age)
    assert not work.is_done(age)
    finish_all(work)
    assert work.is_done(age)


def test_an_older_name_makes_a_dirty_mark_older(work, node):
    age = work.close_age()
    work.mark_dirty(node)
    work.look(node, b"a", age=age)
    assert not work.is_done(age)


def test_more_names_than_allowed_become_dirty_directories(clock, tree):
    work = Work(3, clock)
    first, second = tree.add(tree.root, b"1"), tree.add(tree.root, b"2")
    for name in (b"a", b"b", b"c"):
        work.look(first, name)
    work.look(second, b"d")
    assert (work.pending_count, work.dirty_count) == (3, 1)
    work.look(first, b"a")  # known already: costs nothing
    assert (work.pending_count, work.dirty_count) == (3, 1)
    work.look(first, b"e")
    assert (work.pending_count, work.dirty_count) == (0, 2)
    assert finish_all(work) == [(b"2", "dirty"), (b"1", "dirty")]


def test_a_name_that_no_longer_fits_holds_its_barrier_up_as_a_dirty_mark(clock, tree):
    work = Work(1, clock)
    work.look_self(tree.root)
    age = work.close_age()
    taken = work.take_group()
    work.look_self(tree.root)  # the group of the root is never replaced: its own row is no child's
    work.look(tree.root, b"a", age=age)
    work.finish(taken[1])
    _, group = work.take_group()
    work.finish(group)
    assert not work.is_done(age)
    finish_all(work)
    assert work.is_done(age)


def test_a_million_changes_of_a_thousand_files_are_a_thousand_places(work, tree):
    nodes = [tree.add(tree.root, b"%d" % number) for number in range(10)]
    names = [b"%d" % number for number in range(100)]
    for _ in range(1000):
        for node in nodes:
            for name in names:
                work.look(node, name)
    assert work.pending_count == 1000
    assert (len(work._groups), sum(len(each.names) for each in work._groups.values())) == (10, 1000)
    assert work._open.total() == 10


def test_an_outage_of_any_length_costs_no_more_than_the_bound_and_a_mark_for_each_directory(clock, tree):
    work = Work(50, clock)
    nodes = [tree.add(tree.root, b"%d" % number) for number in range(20)]
    for number in range(10_000):
        work.look(nodes[number % 20], b"%d" % number)
    assert work.pending_count <= 50
    assert work.dirty_count <= 20
    assert sum(len(each.names) for each in work._groups.values()) == work.pending_count


def test_the_oldest_work_says_since_when_it_waits(work, clock, tree, node):
    assert work.get_oldest_s() is None
    work.mark_dirty(node)
    clock.now_s = 200.0
    work.look(tree.root, b"a")
    assert work.get_oldest_s() == 100.0
    _, mark = work.take_dirty()
    work.finish(mark)
    assert work.get_oldest_s() == 200.0


def test_a_directory_is_dirty_until_its_listing_begins(work, node):
    work.mark_dirty(node)
    assert work.is_dirty(node)
    work.take_dirty()
    assert not work.is_dirty(node)
