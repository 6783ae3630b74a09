"""The fs source against a real kernel: the view that its events make is the tree."""

import os
from pathlib import Path

from fustor_core.drivers import Barrier


def fill(inside: Path) -> None:
    for number in range(20):
        below = inside / f"d{number}" / "sub"
        below.mkdir(parents=True)
        for name in range(10):
            (below / f"f{name}").write_text("x" * name)


def test_a_snapshot_is_the_tree(tree, pump):
    fill(tree[0])
    pump.start_snapshot()
    pump.finish_snapshot()
    pump.sync()
    pump.assert_exact()
    assert pump.source.get_status().not_current_because is None


def test_a_burst_in_one_directory_is_exact_and_overflows_nothing_that_is_not_said(tree, pump):
    pump.start_snapshot()
    pump.finish_snapshot()
    for number in range(20_000):
        (tree[0] / f"f{number}").write_bytes(b"")
    pump.sync()
    pump.assert_exact()


def test_an_overflow_is_repaired_by_listing_again(tree, pump):
    fill(tree[0])
    pump.start_snapshot()
    pump.finish_snapshot()
    pump.sync()
    with pump.source._reader._lock:  # the reader is held up, so the kernel's queue runs full
        for number in range(20_000):
            os.close(os.open(tree[0] / "d1" / f"n{number % 500}-{number // 500}", os.O_CREAT | os.O_WRONLY))
            if number % 2:
                (tree[0] / "d1" / f"n{number % 500}-{number // 500}").unlink()
        (tree[0] / "d2").rename(tree[0] / "d3" / "moved")
    pump.sync()
    assert pump.source.get_status().overflows >= 1
    pump.assert_exact()


def test_what_was_not_acknowledged_is_looked_at_again(tree, pump):
    fill(tree[0])
    pump.start_snapshot()
    pump.finish_snapshot()
    pump.sync()
    before = dict(pump.view.rows)
    lost = []

    def lose(item):
        if isinstance(item, Barrier):
            pump.barriers.append(item.token)
        else:
            lost.append(item.position)

    pump.take = lose
    (tree[0] / "d1" / "sub" / "f1").unlink()
    (tree[0] / "d4").rename(tree[0] / "d5" / "x")
    (tree[0] / "new").mkdir()
    (tree[0] / "new" / "file").write_text("1")
    pump.sync()
    assert lost
    assert pump.view.rows == before
    del pump.take
    pump.source.barrier("early")
    for position in lost:
        pump.source.recover(position)
    pump.sync("late")
    pump.assert_exact()


def test_a_pattern_keeps_directories_and_matching_names_only(tree, start_pump):
    fill(tree[0])
    (tree[0] / "a.txt").write_text("1")
    pump = start_pump(file_pattern="*.txt")
    pump.begin()
    (tree[0] / "d1" / "b.txt").write_text("22")
    (tree[0] / "d1" / "b.log").write_text("22")
    (tree[0] / "a.txt").rename(tree[0] / "a.log")
    pump.sync()
    pump.assert_exact(pattern="*.txt")
    assert b"/d1/b.txt" in pump.view.rows


def test_a_follower_sends_nothing_until_something_changes(tree, pump):
    fill(tree[0])
    pump.source.follow()
    pump.sync()
    assert not pump.view.rows
    (tree[0] / "d7" / "sub" / "f3").write_text("changed")
    pump.sync()
    assert b"/d7/sub/f3" in pump.view.rows
    assert b"/d7/sub/f4" not in pump.view.rows
