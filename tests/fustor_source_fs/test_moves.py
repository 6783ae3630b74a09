"""A directory that moves is told as one event, if the receiver has it with all below it."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from fustor_event_model import Listed, Moved, UpdateEvent
from fustor_source_fs.bindings import IN_Q_OVERFLOW
from fustor_source_fs.records import Record
from fustor_source_fs.shards import name_watch
from treeops import exchange


@pytest.fixture
def moving(inside: Path, start_still):
    """A pump whose receiver has `/a/x/f`, `/a/g` and `/q`, and takes moves."""
    (inside / "a" / "x").mkdir(parents=True)
    (inside / "a" / "x" / "f").touch()
    (inside / "a" / "g").touch()
    (inside / "q").mkdir()
    pump = start_still(takes_moves=True)
    pump.begin()
    return pump


def find_moves(items: list[Any]) -> list[tuple[bytes, bytes]]:
    return [(item.before, item.path) for item in items if isinstance(item, Moved)]


def find_rows(items: list[Any]) -> list[bytes]:
    return [item.prefix + row.path for item in items if isinstance(item, UpdateEvent) for row in item.rows]


def hear(pump: Any) -> list[Any]:
    """Take in what happened, and have all of it said and answered; returns what was said."""
    pump.absorb()
    return pump.say()


def tell(pump: Any) -> list[Moved]:
    """Take in what happened and take the moves that are told of it, without an answer to them."""
    pump.absorb()
    told = []
    while (item := next(pump.messages)) is not None:
        assert isinstance(item, Moved)
        told.append(item)
    return told


def test_what_is_below_is_not_said_again(moving, inside):
    os.rename(inside / "a", inside / "q" / "b")
    said = hear(moving)
    assert find_moves(said) == [(b"/a", b"/q/b")]
    assert not [item for item in said if isinstance(item, Listed)]
    assert not [path for path in find_rows(said) if path.startswith(b"/q/b/")]
    moving.assert_exact()
    (inside / "q" / "b" / "x" / "new").touch()
    hear(moving)
    moving.assert_exact()
    assert moving.source.get_status().details["moves"] == 1


def test_what_happened_below_before_and_after_is_said_under_the_new_path(moving, inside):
    (inside / "a" / "x" / "early").touch()
    os.rename(inside / "a", inside / "b")
    (inside / "b" / "x" / "late").touch()
    said = hear(moving)
    assert isinstance(said[0], Moved)
    assert {b"/b/x/early", b"/b/x/late"} <= set(find_rows(said))
    assert not [item for item in said if isinstance(item, Listed)]
    moving.assert_exact()


def test_moves_in_a_row_are_told_in_order_or_as_one(moving, inside):
    os.rename(inside / "a", inside / "b")
    os.rename(inside / "b", inside / "q" / "c")
    os.rename(inside / "q", inside / "r")
    assert find_moves(hear(moving)) == [(b"/a", b"/q/c"), (b"/q", b"/r")]
    moving.assert_exact()


def test_a_directory_that_moves_again_after_another_has_moved_is_told_of_twice(moving, inside):
    os.rename(inside / "a", inside / "b")
    os.rename(inside / "q", inside / "b" / "q")
    os.rename(inside / "b", inside / "c")
    assert find_moves(hear(moving)) == [(b"/a", b"/b"), (b"/q", b"/b/q"), (b"/b", b"/c")]
    moving.assert_exact()


def test_a_directory_that_is_back_before_anybody_was_told_did_not_move(moving, inside):
    os.rename(inside / "a", inside / "b")
    os.rename(inside / "b", inside / "a")
    said = hear(moving)
    assert find_moves(said) == []
    assert not [item for item in said if isinstance(item, Listed)]
    moving.assert_exact()


def test_a_directory_that_moves_while_its_parent_does_is_where_that_has_come(moving, inside):
    os.rename(inside / "a" / "x", inside / "q" / "x")
    first = moving.read()
    os.rename(inside / "a", inside / "b")
    moving.feed([*first[:1], *moving.read(), *first[1:]])
    assert find_moves(moving.say()) == [(b"/a", b"/b"), (b"/b/x", b"/q/x")]
    moving.assert_exact()


def test_directories_that_change_places_through_a_third_name(moving, inside):
    os.rename(inside / "q", inside / "t")
    os.rename(inside / "a", inside / "q")
    os.rename(inside / "t", inside / "a")
    assert find_moves(hear(moving)) == [(b"/q", b"/t"), (b"/a", b"/q"), (b"/t", b"/a")]
    moving.assert_exact()


def test_names_of_a_directory_that_moves_while_they_are_looked_at_are_said_at_its_new_place(moving, inside):
    for number in range(1010):
        (inside / "a" / f"{number}").touch()
    (inside / "a" / "g").unlink()
    for before, after in (("a", "b"), ("b", "c")):
        moving.absorb()
        while not (item := next(moving.messages)).prefix.endswith(os.fsencode(f"/{before}/")):
            moving.take(item)
        os.rename(inside / before, inside / after)
        moving.absorb()
        moving.take(item)
        assert find_moves(moving.say()) == [(b"/" + os.fsencode(before), b"/" + os.fsencode(after))]
        moving.assert_exact()
        (inside / after / "another").touch()
        (inside / after / "0").unlink(missing_ok=True)


def test_a_directory_that_moves_while_it_is_listed_is_listed_at_its_new_place(moving, inside):
    (inside / "a" / "x" / "unseen").touch()
    moving.read()
    moving.source.rescan(b"/a/x", recursive=False)
    while (item := next(moving.messages)).rows[0].path != b"x":
        moving.take(item)
    moving.take(item)
    item = next(moving.messages)  # the listing's own row
    os.rename(inside / "a", inside / "b")
    moving.absorb()
    moving.take(item)
    assert find_moves(moving.say()) == [(b"/a", b"/b")]
    moving.assert_exact()


def test_a_place_that_another_directory_took_before_the_records_met_is_no_longer_told_of(moving, inside):
    os.rename(inside / "a", inside / "z")
    away, *there = moving.read()
    os.rename(inside / "q", inside / "a")
    moving.feed([away, *moving.read(), *there])
    moving.say()
    assert (moving.moves, moving.refused_moves) == (1, 0)
    moving.assert_exact()


def test_a_directory_that_left_one_that_is_listed_anew_meanwhile_is_listed_too(moving, inside):
    os.rename(inside / "a" / "x", inside / "x")
    away, *there = moving.read()
    exchange(os.fsencode(inside / "a"), os.fsencode(inside / "q"))
    moving.feed([away, *moving.read(), *there])
    moving.say()
    assert moving.moves == 0
    moving.assert_exact()


@pytest.mark.parametrize("what", ["exchange", "over an empty one", "not listed yet", "into one not listed yet"])
def test_what_cannot_be_sure_is_listed(moving, inside, what):
    if what == "exchange":
        exchange(os.fsencode(inside / "a"), os.fsencode(inside / "q"))
    elif what == "over an empty one":
        os.rename(inside / "a", inside / "q")
    elif what == "not listed yet":
        (inside / "new").mkdir()
        os.rename(inside / "new", inside / "newer")
    else:
        (inside / "new").mkdir()
        os.rename(inside / "a", inside / "new" / "a")
    assert find_moves(hear(moving)) == []
    assert moving.refused_moves == 0
    moving.assert_exact()


def test_a_directory_that_leaves_and_comes_back_is_listed(moving, inside, outside):
    os.rename(inside / "a", outside / "a")
    (outside / "a" / "x" / "unseen").touch()
    os.rename(outside / "a", inside / "b")
    assert find_moves(hear(moving)) == []
    moving.assert_exact()


def test_one_that_is_gone_when_it_is_to_be_told_of_takes_those_after_it_along(moving, inside):
    os.rename(inside / "a", inside / "b")
    os.rename(inside / "b" / "x", inside / "q" / "x")
    moving.absorb()
    shutil.rmtree(inside / "b")
    assert find_moves(moving.say()) == []
    hear(moving)
    moving.assert_exact()


def test_one_of_which_the_receiver_may_not_have_all_is_listed_and_the_others_are_told_of(moving, inside):
    moving.node(b"/q").arrived = True  # its row was lost
    os.rename(inside / "q", inside / "r")
    os.rename(inside / "a", inside / "b")
    assert find_moves(hear(moving)) == [(b"/a", b"/b")]
    moving.assert_exact()


# -- nothing passes a move ----------------------------------------------------------------------


def test_a_move_waits_for_the_answer_to_all_that_was_sent_before(moving, inside):
    (inside / "a" / "new").touch()
    moving.absorb()
    sent = list(iter(lambda: next(moving.messages), None))
    os.rename(inside / "a", inside / "b")
    assert tell(moving) == []
    for item in sent:
        moving.take(item)
    assert find_moves(moving.say()) == [(b"/a", b"/b")]
    moving.assert_exact()


@pytest.mark.parametrize("walk", ["audit", "scan", "check", "snapshot"])
def test_no_walk_says_anything_until_a_move_is_answered(moving, inside, walk):
    os.rename(inside / "a", inside / "b")
    (told,) = tell(moving)
    source = moving.source
    items = {
        "audit": lambda: source.get_audit_iterator("full"),
        "scan": lambda: source.scan_path(b"/b", recursive=True, job_id="j"),
        "check": lambda: source.perform_sentinel_check([b"/b/g"]),
        "snapshot": source.get_snapshot_iterator,
    }[walk]()
    assert [next(items) for _ in range(3)] == [None] * 3
    assert next(moving.messages) is None
    moving.take(told)
    moving.push_moves()
    if walk != "snapshot":
        moving.take(next(items))
        os.rename(inside / "q", inside / "r")
        moving.absorb()
        assert [next(items) for _ in range(3)] == [None] * 3
        assert find_moves(moving.say()) == [(b"/q", b"/r")]
    for item in items:
        moving.take(item)
    moving.say()
    moving.assert_exact()


def test_what_an_audit_takes_in_by_itself_is_told_before_it_goes_on(moving, inside):
    audit = moving.source.get_audit_iterator("full")
    while not isinstance(item := next(audit), Listed):
        moving.take(item)
    moving.take(item)
    os.rename(inside / "a", inside / "b")
    moving.source._reader.drain()
    assert next(audit) is None
    assert find_moves(moving.say()) == [(b"/a", b"/b")]
    for item in audit:
        moving.take(item)
    moving.say()
    moving.assert_exact()


def test_moves_go_before_the_rest_of_what_is_being_said(moving, inside):
    (inside / "a" / "new").touch()
    (inside / "a" / "g").unlink()
    moving.absorb()
    while b"/a/new" not in find_rows([item := next(moving.messages)]):  # what is gone is said after it
        moving.take(item)
    os.rename(inside / "q", inside / "r")
    moving.absorb()
    assert next(moving.messages) is None
    moving.take(item)
    assert find_moves([next(moving.messages)]) == [(b"/q", b"/r")]


def test_a_listing_goes_on_after_directories_moved_elsewhere_and_begins_again_where_it_moved_itself(moving, inside):
    for path, listings in ((b"/q", 1), (b"/a/x", 0)):
        listing = moving.source.scan_path(path, recursive=False, job_id="j")
        moving.take(next(listing))
        moving.take(next(listing))
        os.rename(inside / "a", inside / "b")
        assert find_moves(hear(moving)) == [(b"/a", b"/b")]
        rest = [item for item in listing if item is not None]
        assert len([item for item in rest if isinstance(item, Listed)]) == listings
        for item in rest:
            moving.take(item)
        os.rename(inside / "b", inside / "a")
        hear(moving)
        moving.assert_exact()


def test_a_barrier_waits_until_a_refused_directory_is_listed(moving, inside):
    os.rename(inside / "a", inside / "b")
    moving.source.barrier("t")
    (told,) = list(iter(lambda: next(moving.messages), None))
    assert [next(moving.messages) for _ in range(3)] == [None] * 3
    assert moving.barriers == []
    moving.source.recover(told.position)
    moving.say()
    assert moving.barriers == ["t"]
    moving.assert_exact()


# -- what is looked at while the tree is ahead of its records --------------------------------------


def change_places(first: Path, second: Path) -> None:
    """Swap two directories in a way that is told as moves."""
    third = first.with_name("third")
    first.rename(third)
    second.rename(first)
    third.rename(second)


@pytest.fixture
def twins(moving, inside):
    """The receiver of `moving` also has `/q/x`, in which there is another file than in `/a/x`."""
    (inside / "q" / "x").mkdir()
    (inside / "q" / "x" / "g").touch()
    hear(moving)
    return moving


def list_again(pump: Any, path: bytes) -> None:
    pump.source._work.mark_dirty(pump.node(path))  # as after an overflow: nobody looks at it from above


def test_another_directory_by_the_same_path_is_not_listed_in_the_place_of_one_whose_parent_moved(twins, inside):
    list_again(twins, b"/a/x")
    change_places(inside / "a", inside / "q")
    twins.say()
    hear(twins)
    twins.assert_exact()


def test_a_directory_that_was_never_opened_is_not_another_one_by_the_same_path(moving, inside):
    (inside / "q" / "new").mkdir()
    (inside / "q" / "new" / "f").touch()
    hear(moving)
    (inside / "a" / "new").mkdir()
    moving.absorb()
    while not any(moving.source._work.is_dirty(each) for each in moving.node(b"/a").children.values()):
        moving.take(next(moving.messages))
    change_places(inside / "a", inside / "q")
    moving.say()
    hear(moving)
    moving.assert_exact()


def test_a_row_that_was_lost_is_not_made_of_another_directory_by_the_same_path(twins, inside):
    (inside / "a" / "x" / "y" / "z").mkdir(parents=True)
    hear(twins)
    twins.node(b"/a/x").arrived = True
    list_again(twins, b"/a/x/y/z")
    (inside / "a" / "x" / "y").rename(inside / "q" / "x" / "y")
    first = twins.read()
    change_places(inside / "a", inside / "q")
    twins.say()
    hear(twins)
    twins.feed(first)
    twins.say()
    twins.assert_exact()


# -- what is said while a directory is under way ------------------------------------------------------


@pytest.mark.parametrize("said", ["its name", "a listing", "another directory"])
def test_one_that_is_back_after_its_place_was_told_of_is_listed(moving, inside, said):
    os.rename(inside / "a", inside / "q" / "b")
    away, *there = moving.read()
    moving.source._translator.feed([away])
    if said == "a listing":
        moving.source.rescan(b"/", recursive=False)
    elif said == "another directory":
        (inside / "a").mkdir()
        moving.source._work.look(moving.node(b"/"), b"a")
    moving.say()
    if said == "another directory":
        (inside / "a").rmdir()
        moving.source._work.look(moving.node(b"/"), b"a")
        moving.say()
        there = [each for each in there + moving.read() if each.cookie]
    os.rename(inside / "q" / "b", inside / "a")
    moving.feed([*there, *moving.read()])
    moving.say()
    moving.assert_exact()


@pytest.mark.parametrize("where", ["back", "elsewhere"])
def test_one_that_a_listing_missed_before_any_record_said_so_is_listed(moving, inside, where):
    list_again(moving, b"/")
    os.rename(inside / "a", inside / "q" / "t")
    while not isinstance(item := next(moving.messages), Listed):
        moving.take(item)
    moving.take(item)
    os.rename(inside / "q" / "t", inside / "a")
    if where == "elsewhere":
        moving.say()
        os.rename(inside / "a", inside / "b")
    hear(moving)
    moving.assert_exact()


# -- what was displaced -----------------------------------------------------------------------------


def test_a_barrier_does_not_wait_for_one_of_two_that_were_displaced_at_a_place(moving, inside):
    for name in ("r", "s"):
        (inside / name).mkdir()
    hear(moving)
    list_again(moving, b"/q")
    os.rename(inside / "r", inside / "q")
    os.rename(inside / "s", inside / "q")
    moving.absorb()
    moving.source.barrier("t")
    moving.say()
    assert moving.barriers == ["t"]
    moving.assert_exact()


def test_an_overflow_while_a_directory_is_displaced_loses_nothing(moving, inside):
    (inside / "q" / "unseen").touch()
    moving.read()
    exchange(os.fsencode(inside / "a" / "x"), os.fsencode(inside / "q"))
    away, comes, leaves, there, *_ = (each for each in moving.read() if each.cookie)
    os.rename(inside / "q", inside / "z")
    overflow = Record(name_watch(0, -1), IN_Q_OVERFLOW, 0, b"")
    moving.feed([away, comes, overflow, leaves, *moving.read(), there])
    moving.say()
    moving.assert_exact()


# -- what gets lost -------------------------------------------------------------------------------


def test_after_a_refusal_nothing_is_told_for_a_while(moving, inside):
    now_s = [1000.0]
    moving.source._moves._now = lambda: now_s[0]
    moving.refuses_moves = True
    os.rename(inside / "a", inside / "b")
    hear(moving)
    moving.assert_exact()
    os.rename(inside / "b", inside / "c")
    hear(moving)
    assert (moving.moves, moving.refused_moves) == (1, 1)
    moving.refuses_moves = False
    now_s[0] += 100.0
    os.rename(inside / "c", inside / "d")
    hear(moving)
    assert (moving.moves, moving.refused_moves) == (2, 1)
    moving.assert_exact()


@pytest.mark.parametrize("second", ["before the answer", "under way"])
@pytest.mark.parametrize(("before", "after"), [("b", "c"), ("b/x", "q/x"), ("q", "b/q")])
def test_what_moved_on_before_a_move_was_refused_is_listed(moving, inside, before, after, second):
    os.rename(inside / "a", inside / "b")
    (told,) = tell(moving)
    os.rename(inside / before, inside / after)
    records = moving.read()
    cut = len(records) if second == "before the answer" else 1
    moving.source._translator.feed(records[:cut])
    moving.source.recover(told.position)
    moving.source._translator.feed(records[cut:])
    moving.say()
    assert moving.moves == 0
    moving.assert_exact()


@pytest.mark.parametrize("lost", ["its listing", "a name in it", "a name below it"])
def test_what_is_lost_of_a_directory_under_way_is_said_at_its_new_place(moving, inside, lost):
    if lost == "its listing":
        moving.source.rescan(b"/a/x", recursive=False)
    else:
        (inside / "a" / ("new" if lost == "a name in it" else "x/new")).touch()
        moving.absorb()
    sent = list(iter(lambda: next(moving.messages), None))
    os.rename(inside / "a", inside / "b")
    away, *there = moving.read()
    moving.source._translator.feed([away])
    moving.lose(sent)
    moving.feed(there)
    moving.say()
    moving.assert_exact()


def test_an_unreadable_directory_that_is_under_way_when_its_turn_comes_is_tried_at_its_new_place(moving, inside):
    retries, node = moving.source._retries, moving.node(b"/a/x")
    (inside / "a" / "x" / "unseen").touch()
    moving.read()
    retries.skip(node, b"/a/x", OSError(5, "Input/output error"))
    os.rename(inside / "a", inside / "b")
    away, *there = moving.read()
    moving.source._translator.feed([away])
    retries.retry_skipped()
    moving.feed(there)
    retries.retry_skipped()
    assert find_moves(moving.say()) == [(b"/a", b"/b")]
    moving.assert_exact()


@pytest.mark.parametrize("kind", ["incremental", "full"])
def test_an_audit_goes_to_where_a_directory_came_that_it_had_passed(moving, inside, outside, make_blindfold, kind):
    for name in "mn":
        (inside / name / f"in {name}").mkdir(parents=True)
    hear(moving)
    with make_blindfold(moving):
        for name in "mn":
            (inside / name / f"in {name}" / "unseen").touch()
            os.chmod(inside / name, 0o700)
    audit = moving.source.get_audit_iterator(kind)
    passed, ahead = "", ""
    while not passed:
        item = next(audit)
        moving.take(item)
        if isinstance(item, Listed) and item.path in (b"/m", b"/n"):
            passed, ahead = ("m", "n") if item.path == b"/m" else ("n", "m")
    os.rename(inside / ahead / f"in {ahead}", inside / passed / "came")
    assert len(find_moves(hear(moving))) == 1
    for item in audit:
        moving.take(item)
    moving.say()
    moving.assert_exact()


def test_a_directory_that_is_under_way_when_an_audit_comes_to_it_is_listed(moving, inside, make_blindfold):
    with make_blindfold(moving):
        (inside / "a" / "x" / "unseen").touch()
    audit = moving.source.get_audit_iterator("full")
    while not isinstance(item := next(audit), UpdateEvent) or b"a" not in [row.path for row in item.rows]:
        moving.take(item)
    moving.take(item)
    os.rename(inside / "a", inside / "b")
    away, *there = moving.read()
    moving.source._translator.feed([away])
    for item in audit:
        moving.take(item)
    moving.feed(there)
    moving.say()
    moving.assert_exact()


@pytest.mark.parametrize("when", ["moved", "under way"])
@pytest.mark.parametrize("ends", ["follow", "snapshot"])
def test_what_was_not_told_when_another_session_begins_is_listed(moving, inside, ends, when):
    os.rename(inside / "a", inside / "b")
    records = moving.read()
    cut = len(records) if when == "moved" else 1
    moving.source._translator.feed(records[:cut])
    if ends == "follow":
        moving.source.follow()
        moving.source._translator.feed(records[cut:])
        moving.say()
    moving.start_snapshot()
    moving.finish_snapshot()
    moving.feed(records[cut:])
    moving.say()
    assert moving.moves == 0
    moving.assert_exact()


def test_a_directory_that_is_under_way_while_something_is_mounted_is_listed(moving, inside):
    (inside / "a" / "x" / "unseen").touch()
    moving.read()
    os.rename(inside / "a", inside / "b")
    away, *there = moving.read()
    moving.source._translator.feed([away])
    moving.source._mounts.compare = lambda: [b"/b/x"]
    moving.source._compare_mounts()
    moving.feed(there)
    moving.say()
    moving.assert_exact()


def test_an_overflow_between_the_two_records_of_a_move_loses_nothing(moving, inside):
    os.rename(inside / "a", inside / "b")
    (inside / "b" / "x" / "new").touch()
    moving.source._translator.feed(moving.read()[:1])
    moving.source._translator.overflow(0)
    moving.say()
    moving.assert_exact()


@pytest.mark.parametrize("attempt", range(3))
def test_records_of_renames_in_any_order_lose_nothing(tree, make_pump, operations, attempt):
    """As if each directory had a reader of its own, of whom nobody knows which is ahead."""
    inside, _ = tree
    seed = random.randrange(1 << 30)
    rng, random_tree = random.Random(seed), operations(tree, seed)
    pump = make_pump(inside, takes_moves=True)
    for number in range(6):
        for name in "abc":
            (inside / f"{number}" / name).mkdir(parents=True)
            (inside / f"{number}" / name / "f").touch()
    pump.begin()
    for number in range(40):
        for _ in range(rng.randrange(1, 6)):
            random_tree.step()
        random_tree.show_links()
        queues: dict[int, list[Any]] = {}
        for record in pump.read():
            queues.setdefault(record.watch, []).append(record)
        while queues:
            watch = rng.choice(sorted(queues))
            count = rng.randrange(1, 4)
            pump.source._translator.feed(queues[watch][:count])
            del queues[watch][:count]
            if not queues[watch]:
                del queues[watch]
            if rng.random() < 0.3:
                pump.step(rng)
        pump.sync()
        pump.assert_exact(f"seed {seed}, round {number}: " + "\n".join(random_tree.log[-20:]))
