"""Snapshots for a receiver that compares: what it holds is not sent, and in the end it holds the tree."""

import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fustor_event_model import FsRow, Listed, SnapshotEnd, Unchanged, UpdateEvent


def get_rows(items: list[Any]) -> list[tuple[bytes, FsRow]]:
    return [(item.prefix + row.path, row) for item in items if isinstance(item, UpdateEvent) for row in item.rows]


def get_compared(items: list[Any]) -> list[bytes]:
    return [item.path for item in items if isinstance(item, Unchanged)]


@pytest.fixture
def succeed(start_pump: Callable[..., Any]) -> Callable[..., Any]:
    """End a pump's source as a crash does, and start another one for the same view."""

    def start(pump: Any, **params: Any) -> Any:
        pump.close()
        successor = start_pump(**params)
        successor.view = pump.view
        successor.view.compares = True
        return successor

    return start


@pytest.fixture
def known(inside: Path, pump: Any) -> Any:
    """A pump whose view holds a small tree."""
    for below in ("a/b/c", "d", "empty"):
        (inside / below).mkdir(parents=True)
    for name in ("top", "a/1", "a/b/2", "a/b/c/3", "d/4", "d/5"):
        (inside / name).write_text(name)
    (inside / "link").symlink_to("top")
    pump.begin()
    return pump


def begin(pump: Any) -> list[Any]:
    """Take a comparing snapshot; returns all that was said until it was over."""
    pump.start_snapshot(compares=True)
    pump.finish_snapshot()
    pump.sync()
    return list(pump.items)


def test_a_tree_that_the_receiver_holds_costs_no_row_and_is_watched_from_then_on(inside, known, succeed):
    pump = succeed(known)
    said = begin(pump)
    assert get_rows(said) == []
    assert sorted(get_compared(said)) == [b"/", b"/a", b"/a/b", b"/a/b/c", b"/d", b"/empty"]
    assert next(type(item) for item in said if not isinstance(item, Unchanged)) is SnapshotEnd
    (inside / "a/b/c/3").write_text("changed")
    (inside / "d/4").unlink()
    pump.sync()
    pump.assert_exact()


def test_only_directories_in_which_something_differs_are_sent(inside, known, succeed):
    known.close()
    (inside / "a/b/2").write_text("more than before")
    (inside / "d/4").unlink()
    pump = succeed(known)
    said = begin(pump)
    pump.assert_exact()
    # What is in /d has changed, and so its own times, which its parent names.
    assert {path.rpartition(b"/")[0] or b"/" for path, _ in get_rows(said)} == {b"/", b"/a", b"/a/b", b"/d"}
    assert b"/a/b/c/3" not in dict(get_rows(said))
    files = [path for path, row in get_rows(said) if not row.is_directory]
    assert sorted(files) == [b"/a/b/2", b"/d/5", b"/link", b"/top"]


def test_what_was_moved_into_a_directory_that_replaced_its_own_is_sent(inside, known, succeed):
    """A directory that is another one takes what was below it along, also what the receiver holds as it is."""
    known.close()
    (inside / "other").mkdir()
    (inside / "a/b").rename(inside / "other/b")
    (inside / "a/1").unlink()
    (inside / "a").rmdir()
    (inside / "other").rename(inside / "a")
    pump = succeed(known)
    pump.answers_at_once = False
    pump.start_snapshot(compares=True)
    while pump.snapshot is not None:
        while pump.step_snapshot():
            pass
        pump.answer()
    pump.sync()
    pump.assert_exact()


def test_nothing_is_asked_below_a_directory_of_which_the_receiver_holds_nothing(inside, known, succeed):
    known.close()
    for number in range(3):
        (inside / "new" / str(number) / "deep").mkdir(parents=True)
        (inside / "new" / str(number) / "deep" / "file").touch()
    pump = succeed(known)
    said = begin(pump)
    pump.assert_exact()
    assert [path for path in get_compared(said) if path.startswith(b"/new")] == [b"/new"]


def test_nothing_below_a_directory_is_said_before_its_row_was_sent_or_is_known_to_be_held(inside, known):
    def absorb() -> None:
        known.source._reader.drain()
        known.source._absorb()

    known.view.compares, known.answers_at_once = True, False
    known.start_snapshot(compares=True)
    known.source._work.mark_dirty(known.node(b"/a/b/c"))
    (inside / "d" / "4").chmod(0o700)
    absorb()
    os.rename(inside / "a", inside / "moved")
    absorb()
    while not known.questions:
        known.step_snapshot()
    for item in iter(lambda: next(known.messages), None):
        known.take(item)
    known.answers_at_once = True
    known.answer()
    known.finish_snapshot()
    known.sync()
    known.assert_exact()


def test_a_receiver_that_holds_nothing_gets_everything(inside, known, start_pump):
    known.close()
    pump = start_pump()
    said = begin(pump)
    pump.assert_exact()
    assert get_compared(said) == [b"/"]
    assert dict(get_rows(said)).keys() == pump.view.rows.keys()


def test_a_snapshot_that_was_cut_off_goes_on_where_it_was(inside, pump, succeed):
    for directory, name in itertools.product(range(40), range(5)):
        (inside / f"d{directory:02}").mkdir(exist_ok=True)
        (inside / f"d{directory:02}" / str(name)).touch()
    pump.start_snapshot(compares=True)
    while sum(isinstance(item, Listed) for item in pump.items) < 20:
        pump.step_snapshot()
    complete = {item.path for item in pump.items if isinstance(item, Listed)}
    pump = succeed(pump)
    said = begin(pump)
    pump.assert_exact()
    again = [path for path, _ in get_rows(said) if path.rpartition(b"/")[0] in complete]
    assert again == []


def test_it_does_not_end_before_everything_is_answered(inside, known, succeed):
    pump = succeed(known)
    (inside / "d/4").write_text("else")
    pump.answers_at_once = False
    pump.start_snapshot(compares=True)
    asked = []
    while pump.snapshot is not None:
        while pump.step_snapshot():
            pass
        asked.append({item.path for item in pump.questions})
        pump.answer(1)
    assert set.union(*asked) == {b"/", b"/a", b"/a/b", b"/a/b/c", b"/d", b"/empty"}
    for open_ones in asked:
        parents = {path.rpartition(b"/")[0] or b"/" for path in open_ones - {b"/"}}
        assert not parents & open_ones, "what is below a directory waits for the answer about it"
    assert isinstance(pump.items[-1], SnapshotEnd)
    pump.sync()
    pump.assert_exact()


def test_what_was_asked_and_got_lost_is_sent_as_messages(inside, known, succeed):
    known.close()
    (inside / "d/4").write_text("else")
    pump = succeed(known)
    pump.start_snapshot(compares=True)
    pump.answers_at_once = False
    while pump.step_snapshot():
        while pump.questions:
            pump.source.recover(pump.questions.pop().position)
    pump.finish_snapshot()
    pump.sync()
    pump.assert_exact()


def test_an_answer_about_a_directory_that_is_gone_is_about_nothing(inside, known, succeed):
    pump = succeed(known)
    pump.start_snapshot(compares=True)
    pump.step_snapshot()
    items = list(itertools.takewhile(lambda item: item is not None, pump.snapshot))
    assert b"/d" in get_compared(items)
    (inside / "d/4").unlink()
    (inside / "d/5").unlink()
    (inside / "d").rmdir()
    pump.source.wait(5.0)
    for item in items:
        pump.source.differs(item.position, known=True)
    pump.finish_snapshot()
    pump.sync()
    pump.assert_exact()


def test_others_have_a_turn_while_a_large_directory_is_compared(inside, known, succeed):
    for number in range(2_500):
        (inside / "d" / f"{number}").touch()
    pump = succeed(known)
    pump.start_snapshot(compares=True)
    pump.step_snapshot()
    turns = 0
    while not (isinstance(item := next(pump.snapshot), Unchanged) and item.path == b"/d"):
        if item is None:
            turns += 1
            pump.source.wait(3600.0)  # there is more to do: it must return at once
    assert turns >= 1
    assert item.count == 2_501


def test_a_directory_that_came_by_a_rename_is_sent_and_not_compared(inside, known, succeed):
    pump = succeed(known)
    pump.start_snapshot(compares=True)
    pump.step_snapshot()
    assert get_compared(pump.items) == [b"/"]
    (inside / "a").rename(inside / "moved")
    pump.source.barrier("renamed")
    while pump.step_snapshot():
        pass
    pump.sync()
    pump.assert_exact()
    assert not [path for path in get_compared(pump.items) if path.startswith(b"/moved")]


@pytest.fixture
def old(inside: Path, start_still: Callable[..., Any]) -> Any:
    """A pump that has read nothing yet, over a tree of which every directory is old enough for its times to tell."""
    for below in ("d/e", "f"):
        (inside / below).mkdir(parents=True)
    for name in ("d/1", "d/e/2", "f/3"):
        (inside / name).write_text(name)
    pump = start_still()
    pump.trust_all_times()
    return pump


def take_root(pump: Any, *, compares: bool) -> None:
    """Take the part of a snapshot that the listing of the root is."""
    pump.start_snapshot(compares=compares)
    while not any(isinstance(item, Listed) for item in pump.items):
        pump.step_snapshot()
    assert {path for path, _ in get_rows(pump.items)} == {b"/", b"/d", b"/f"}


def count_rows(pump: Any, path: bytes) -> int:
    return sum(each == path for each, _ in get_rows(pump.items))


@pytest.mark.parametrize("compares", [False, True])
def test_a_directory_that_is_as_its_parents_listing_told_is_told_once(old: Any, compares: bool) -> None:
    take_root(old, compares=compares)
    old.finish_snapshot()
    old.assert_exact()
    assert sorted(path for path, _ in get_rows(old.items)) == sorted(old.view.rows)


def test_a_directory_whose_times_say_nothing_is_told_again(inside: Path, old: Any) -> None:
    old.source._lister._wall_ns = lambda: 0
    take_root(old, compares=False)
    old.finish_snapshot()
    assert count_rows(old, b"/d") == 2


def replace(directory: Path) -> None:
    directory.rename(directory.with_name("was"))
    directory.mkdir()
    directory.with_name("was").rename(directory / "was")


@pytest.mark.parametrize("compares", [False, True])
@pytest.mark.parametrize(
    "change",
    [lambda d: d.chmod(0o700), lambda d: (d / "new").mkdir(), lambda d: (d / "1").unlink(), replace],
    ids=["mode", "child", "gone", "replaced"],
)
def test_a_directory_that_changed_since_its_parents_listing_is_told_again_whoever_heard_of_it(
    inside: Path, old: Any, make_blindfold: Callable[[Any], Any], change: Callable[[Path], None], compares: bool
) -> None:
    take_root(old, compares=compares)
    with make_blindfold(old):
        change(inside / "d")
    old.finish_snapshot()
    assert count_rows(old, b"/d") == 2
    assert count_rows(old, b"/f") == 1
    assert [each for each in old.differences() if not each.startswith(("/: ", "/was"))] == []


def test_a_directory_whose_parents_listing_was_lost_is_told_again(old: Any) -> None:
    old.start_snapshot()
    old.step_snapshot()
    lost = next(old.snapshot)
    assert [row.path for row in lost.rows] == [b"d", b"f"]
    old.step_snapshot()
    old.source.recover(lost.position)
    while old.step_snapshot():
        pass
    assert {b"/d", b"/d/1", b"/d/e", b"/d/e/2", b"/f", b"/f/3"} == old.view.rows.keys() - {b"/"}
    old.sync()
    old.assert_exact()


def test_a_second_snapshot_relies_on_nothing_that_the_first_told(old: Any) -> None:
    take_root(old, compares=False)
    old.view = type(old.view)()
    old.start_snapshot()
    old.finish_snapshot()
    old.sync()
    old.assert_exact()


@pytest.mark.parametrize("compares", [False, True])
def test_its_progress_grows_from_nothing_to_all_whatever_moves_meanwhile(
    tree, start_still, operations, compares: bool
) -> None:
    changes = operations(tree, 1)
    for _ in range(150):
        changes.step()
    pump = start_still()
    assert pump.source.get_status().progress is None
    pump.start_snapshot(compares=compares)
    seen = [pump.source.get_status().progress]
    snapshot = pump.source._snapshot
    while pump.snapshot is not None:
        pump.step_snapshot()
        changes.step()
        pump.absorb()
        seen.append(snapshot.progress)
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert len({round(each, 6) for each in seen}) > 5
    assert seen[-1] == pytest.approx(1)
    assert pump.source.get_status().progress is None


def test_directories_of_one_parent_count_alike(inside, pump):
    for number in range(3):
        (inside / str(number)).mkdir()
    pump.start_snapshot()
    seen = []
    while pump.snapshot is not None:
        pump.step_snapshot()
        seen.append(pump.source.get_status().progress)
    assert sorted({each for each in seen if each is not None}) == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(6, 300))])
def test_whatever_changes_between_and_during_snapshots_the_view_is_the_tree(
    tree, start_pump, succeed, operations, seed: int
) -> None:
    rng = random.Random(seed)
    changes = operations(tree, seed)
    pump = start_pump()
    for _ in range(6):
        pump = succeed(pump)
        if seed % 2:
            pump.trust_times_soon()
        pump.answers_at_once = False
        for _ in range(rng.randrange(30)):
            changes.step()
        pump.start_snapshot(compares=True)
        stops = rng.random() < 0.4
        while pump.snapshot is not None and not (stops and rng.random() < 0.05):
            pump.step(rng)
            if rng.random() < 0.5:
                changes.step()
            pump.answer(rng.randrange(3))
    pump.answers_at_once = True
    pump.answer()
    changes.show_links()
    if pump.snapshot is None:
        pump.start_snapshot(compares=True)
    pump.finish_snapshot()
    pump.sync()
    pump.assert_exact(changes.log[-30:])
