"""The fs source against a real kernel: the view that its events make is the tree."""

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fustor_core.clock import IndexClock
from fustor_core.drivers import Barrier, SourceContext
from fustor_source_fs import FsConfig, FsSource
from modelview import ModelView
from oracle import differences, walk
from treeops import RandomTree


class Pump:
    """Drives a source as its worker does: realtime first, everything acknowledged."""

    def __init__(self, source: FsSource) -> None:
        self.source = source
        self.view = ModelView()
        self.messages = source.get_message_iterator()
        self.snapshot = None
        self.barriers: list[str] = []
        self.ended = False

    def start_snapshot(self) -> None:
        self.snapshot = self.source.get_snapshot_iterator()

    def step(self, rng: random.Random | None = None) -> bool:
        moved = False
        for _ in range(100 if rng is None else rng.randrange(1, 20)):
            item = next(self.messages)
            if item is None:
                break
            moved = True
            self.take(item)
        if self.snapshot is not None:
            for _ in range(10 if rng is None else rng.randrange(1, 4)):
                item = next(self.snapshot, None)
                if item is None:
                    self.snapshot = None
                    break
                moved = True
                self.take(item)
        return moved

    def take(self, item) -> None:
        if isinstance(item, Barrier):
            self.barriers.append(item.token)
            return
        self.view.apply([item])
        self.source.acknowledge(item.position)

    def sync(self, token: str = "t") -> None:
        self.source.barrier(token)
        while token not in self.barriers:
            if not self.step():
                self.source.wait(1.0)
        self.barriers.remove(token)

    def finish_snapshot(self) -> None:
        while self.snapshot is not None:
            self.step()


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path]:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    return inside, outside


def make_source(inside: Path, **params) -> FsSource:
    config = FsConfig(uri=str(inside))
    if params:
        config = FsConfig(uri=str(inside), driver_params=type(config.driver_params)(**params))
    seed = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return FsSource(config, SourceContext(pipe_id="t", clock=IndexClock(seed), state_dir=inside))


@pytest.fixture
def pump(tree) -> Iterator[Pump]:
    source = make_source(tree[0])
    yield Pump(source)
    source.close()


def assert_exact(pump: Pump, inside: Path, context: object = "") -> None:
    found = differences(walk(bytes(inside)), pump.view.get_entries(), link_counts=False)
    assert not found, f"{context}\n" + "\n".join(found)


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
    assert_exact(pump, tree[0])
    assert pump.source.get_status().not_current_because is None


def test_every_single_operation_is_in_the_view_after_one_barrier(tree, pump):
    fill(tree[0])
    pump.start_snapshot()
    pump.finish_snapshot()
    seed = random.randrange(1 << 30)
    operations = RandomTree(*tree, random.Random(seed))
    for number in range(300):
        said = operations.step()
        pump.sync()
        assert_exact(pump, tree[0], f"seed {seed}, operation {number}: {said}")


@pytest.mark.parametrize("attempt", range(4))
def test_operations_between_and_during_looks_converge(tree, pump, attempt):
    fill(tree[0])
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    operations = RandomTree(*tree, rng)
    pump.start_snapshot()
    for round_number in range(25):
        for _ in range(rng.randrange(1, 12)):
            operations.step()
            if rng.random() < 0.4:
                pump.step(rng)
            if rng.random() < 0.05:
                pump.start_snapshot()
        pump.sync()
        assert_exact(pump, tree[0], f"seed {seed}, round {round_number}: " + "\n".join(operations.log[-40:]))


@pytest.mark.parametrize("attempt", range(3))
def test_operations_of_concurrent_threads_converge(tree, pump, attempt):
    fill(tree[0])
    pump.start_snapshot()
    seed = random.randrange(1 << 30)
    for round_number in range(8):
        workers = [RandomTree(*tree, random.Random(f"{seed}-{round_number}-{each}")) for each in range(3)]
        threads = [threading.Thread(target=_run, args=(worker, 40)) for worker in workers]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if not pump.step():
                pump.source.wait(0.01)
        for thread in threads:
            thread.join()
        pump.sync()
        assert_exact(pump, tree[0], f"seed {seed}, round {round_number}")


def _run(operations: RandomTree, count: int) -> None:
    for _ in range(count):
        operations.step()


def test_a_burst_in_one_directory_is_exact_and_overflows_nothing_that_is_not_said(tree, pump):
    pump.start_snapshot()
    pump.finish_snapshot()
    for number in range(20_000):
        (tree[0] / f"f{number}").write_bytes(b"")
    pump.sync()
    assert_exact(pump, tree[0])


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
    assert_exact(pump, tree[0])


def test_what_was_not_acknowledged_is_looked_at_again(tree, pump):
    fill(tree[0])
    pump.start_snapshot()
    pump.finish_snapshot()
    pump.sync()
    before = dict(pump.view.rows)
    lost = []
    pump.take = lambda item: lost.append(item.position) if not isinstance(item, Barrier) else pump.barriers.append(item.token)
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
    assert_exact(pump, tree[0])


def test_a_pattern_keeps_directories_and_matching_names_only(tree):
    fill(tree[0])
    (tree[0] / "a.txt").write_text("1")
    source = make_source(tree[0], file_pattern="*.txt")
    pump = Pump(source)
    try:
        pump.start_snapshot()
        pump.finish_snapshot()
        (tree[0] / "d1" / "b.txt").write_text("22")
        (tree[0] / "d1" / "b.log").write_text("22")
        (tree[0] / "a.txt").rename(tree[0] / "a.log")
        pump.sync()
        assert not differences(walk(bytes(tree[0]), "*.txt"), pump.view.get_entries())
        assert b"/d1/b.txt" in pump.view.rows
    finally:
        source.close()


def test_a_follower_sends_nothing_until_something_changes(tree, pump):
    fill(tree[0])
    pump.source.follow()
    pump.sync()
    assert not pump.view.rows
    (tree[0] / "d7" / "sub" / "f3").write_text("changed")
    pump.sync()
    assert b"/d7/sub/f3" in pump.view.rows
    assert b"/d7/sub/f4" not in pump.view.rows
