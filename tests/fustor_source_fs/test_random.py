"""Random operations on a real tree, in every way of running a source: the view becomes the tree."""

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fustor_core.drivers import Barrier
from fustor_event_model import Moved
from oracle import walk
from treeops import show_links

WAYS = {
    "all": {},
    "five pending": {"max_pending": 5},
    "pattern": {"file_pattern": "*.txt"},
    "backlog": {"max_backlog_bytes": 200},
    "moves": {"takes_moves": True},
    "moves, five pending": {"takes_moves": True, "max_pending": 5},
    "moves, backlog": {"takes_moves": True, "max_backlog_bytes": 200},
}
KINDS = ("incremental", "full")
MOVES = pytest.mark.parametrize("takes_moves", [False, True], ids=["no moves", "moves"])


def fill(inside: Path) -> None:
    for number in range(10):
        below = inside / f"d{number}" / "sub"
        below.mkdir(parents=True)
        for name in range(5):
            (below / f"f{name}.txt").write_text("x" * name)


@MOVES
def test_every_single_operation_is_in_the_view_after_one_barrier(tree, start_pump, operations, takes_moves):
    fill(tree[0])
    pump = start_pump(takes_moves=takes_moves)
    pump.begin()
    seed = random.randrange(1 << 30)
    random_tree = operations(tree, seed)
    for number in range(150):
        said = random_tree.step()
        random_tree.show_links()
        pump.sync()
        pump.assert_exact(f"seed {seed}, operation {number}: {said}")
    assert (pump.moves > 0, pump.refused_moves) == (takes_moves, 0), f"seed {seed}"


@pytest.mark.parametrize("way", WAYS)
def test_operations_between_and_during_looks_converge(tree, start_pump, operations, way):
    one_run(tree, start_pump(**WAYS[way]), operations, random.randrange(1 << 30), way, rounds=25)


def one_run(tree, pump, operations, seed, way, *, rounds) -> None:
    fill(tree[0])
    rng = random.Random(seed)
    random_tree = operations(tree, seed)
    if rng.random() < 0.5:
        pump.trust_all_times()
    pump.start_snapshot()
    follows = False
    for number in range(rounds):
        for _ in range(rng.randrange(1, 12)):
            random_tree.step()
            if rng.random() < 0.4:
                pump.step(rng)
            if rng.random() < 0.05:
                pump.start_snapshot()
            if rng.random() < 0.2:
                pump.start_audit(rng.choice(KINDS))
            if rng.random() < 0.01:
                follows, pump.snapshot = True, None
                pump.source.follow()
        if follows:
            pump.start_snapshot()
        follows = False
        random_tree.show_links()
        pump.sync()
        context = f"seed {seed}, round {number}: " + "\n".join(random_tree.log[-40:])
        pump.assert_exact(context, pattern=WAYS[way].get("file_pattern"))
        wait_until_current(pump)


def wait_until_current(pump) -> None:
    while True:
        status = pump.source.get_status()
        if (status.not_current_because, status.pending, status.dirty) == (None, 0, 0):
            return
        if not pump.step():
            pump.source.wait(1.0)


class DyingLink:
    """
    Takes what a pump takes, and dies now and then: some of what was sent has arrived then, the rest has not.

    The receiver refuses some moves, when they arrive.
    """

    def __init__(self, pump: Any, rng: random.Random) -> None:
        self.pump = pump
        self.rng = rng
        self.deliver = pump.take
        self.push = pump.push_moves
        self.sent: list[Any] = []
        pump.take = self.take
        pump.push_moves = self.push_moves
        pump.source._moves._now = lambda: self.rng.random() * 1e9  # who refused one may take the next

    def take(self, item: Any) -> None:
        if isinstance(item, Barrier | Moved):
            self.deliver(item)  # a move never passes what has a position, nor that a move
            return
        self.sent.append(item)
        if self.rng.random() < 0.2:
            self.arrive()

    def arrive(self) -> None:
        while self.sent:
            self.deliver(self.sent.pop(0))

    def push_moves(self) -> bool:
        """Moves are pushed, refused, or lost before or after they were made."""
        self.pump.refuses_moves = self.rng.random() < 0.2
        batch = list(self.pump._moved)
        if not batch or self.rng.random() < 0.7:
            return self.push()
        self.pump._moved.clear()
        if self.rng.random() < 0.5:
            self.pump.view.move_all(batch)
        self.pump.lose(batch)
        return True

    def die(self) -> None:
        self.pump.view.apply(self.sent[: self.rng.randrange(len(self.sent) + 1)])
        self.pump.lose(self.sent)
        self.sent.clear()


@MOVES
@pytest.mark.parametrize("attempt", range(4))
def test_a_link_that_dies_again_and_again_loses_nothing(tree, start_pump, operations, attempt, takes_moves):
    lose_links(tree, start_pump(takes_moves=takes_moves), operations, random.randrange(1 << 30), rounds=20)


def lose_links(tree, pump, operations, seed, *, rounds) -> None:
    fill(tree[0])
    rng = random.Random(seed)
    random_tree = operations(tree, seed)
    link = DyingLink(pump, rng)
    pump.start_snapshot()
    for number in range(rounds):
        for _ in range(rng.randrange(1, 12)):
            random_tree.step()
            if rng.random() < 0.4:
                pump.step(rng)
            if rng.random() < 0.05:
                pump.start_snapshot()
            if rng.random() < 0.2:
                pump.start_audit(rng.choice(KINDS))
            if rng.random() < 0.2:
                link.die()
        random_tree.show_links()
        pump.source.barrier("t")
        while "t" not in pump.barriers:
            if rng.random() < 0.1:
                link.die()
            if not pump.step(rng):
                link.arrive()  # a move may wait for that
                pump.source.wait(0.1)
        pump.barriers.remove("t")
        link.arrive()
        pump.assert_exact(f"seed {seed}, round {number}: " + "\n".join(random_tree.log[-40:]))


@pytest.mark.parametrize("attempt", range(3))
def test_audits_find_what_happened_blindly_between_what_was_seen(
    tree, start_still, make_blindfold, operations, attempt
):
    act_blindly(tree, start_still(), make_blindfold, operations, random.randrange(1 << 30), rounds=12)


def act_blindly(tree, pump, make_blindfold, operations, seed, *, rounds) -> None:
    fill(tree[0])
    rng = random.Random(seed)
    random_tree = operations(tree, seed)
    blindfold = make_blindfold(pump)
    pump.begin()
    for number in range(rounds):
        with blindfold:
            operate(random_tree, rng.randrange(1, 8))
        for _ in range(rng.randrange(3)):
            random_tree.step()
            if rng.random() < 0.5:
                pump.absorb()
        context = f"seed {seed}, round {number}: " + "\n".join(random_tree.log[-20:])
        pump.audit("incremental")
        pump.sync()
        found, there = pump.view.get_entries(), walk(bytes(tree[0]))
        assert {path: each.type for path, each in found.items()} == {
            path: each.type for path, each in there.items()
        }, context
        pump.audit("full")
        pump.sync()
        pump.assert_exact(context)


def operate(random_tree: Any, count: int) -> None:
    for _ in range(count):
        random_tree.step()


def operate_beside(random_tree: Any, count: int, linked: Any) -> None:
    """Operate in a thread or process of its own, and say in a queue which files got several names."""
    operate(random_tree, count)
    linked.put(random_tree.linked)


@MOVES
@pytest.mark.parametrize("kind", [threading.Thread, multiprocessing.get_context("fork").Process])
def test_operations_of_three_at_once_converge(tree, start_pump, operations, kind, takes_moves):
    run_three(tree, start_pump(takes_moves=takes_moves), operations, random.randrange(1 << 30), kind, rounds=4)


def run_three(tree, pump, operations, seed, kind: Callable[..., Any], *, rounds, pattern=None) -> None:
    fill(tree[0])
    pump.start_snapshot()
    linked = multiprocessing.SimpleQueue()
    ever_linked: set[int] = set()
    for number in range(rounds):
        writers = [
            kind(target=operate_beside, args=(operations(tree, f"{seed}-{number}-{each}"), 40, linked))
            for each in range(3)
        ]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            if not pump.step():
                pump.source.wait(0.01)
        for writer in writers:
            writer.join()
            ever_linked |= linked.get()
        show_links(bytes(tree[0]), ever_linked)
        pump.sync()
        pump.assert_exact(f"seed {seed}, round {number}", pattern=pattern)
    linked.close()


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_long_runs_in_every_way_find_no_difference(tmp_path, make_pump, operations):
    """CHAOS_S says for how many seconds (600 unless told)."""
    until_s = time.monotonic() + float(os.environ.get("CHAOS_S", "600"))
    fork = multiprocessing.get_context("fork").Process
    number = 0
    while time.monotonic() < until_s:
        seed = random.randrange(1 << 30)
        way = list(WAYS)[number % len(WAYS)]
        tree = (tmp_path / f"in{number}", tmp_path / f"out{number}")
        for each in tree:
            each.mkdir()
        number += 1
        pump = make_pump(tree[0], **WAYS[way])
        match number % 3:
            case 0:
                run_three(tree, pump, operations, seed, fork, rounds=4, pattern=WAYS[way].get("file_pattern"))
            case 1:
                one_run(tree, pump, operations, seed, way, rounds=25)
            case 2 if way != "pattern":
                lose_links(tree, pump, operations, seed, rounds=20)
        pump.close()
