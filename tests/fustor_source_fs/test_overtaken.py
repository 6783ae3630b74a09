"""
Directories trade places while records wait, and while some are lost: what is looked at is ahead of what was read.

Meanwhile all is looked at by audits, and by snapshots of which the receiver answers late.
"""

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fustor_source_fs.bindings import IN_Q_OVERFLOW
from fustor_source_fs.records import Record, join_reads
from fustor_source_fs.shards import SHARDS, get_shard, name_watch
from treeops import RandomTree, exchange

_NAMES = "abc"
_LEVELS = 3
_MOST_DIRECTORIES = 80


class Traders:
    """
    Directories of few names, so that many a path is that of one and then of another.

    Args:
        top: They are in it.
        outside: What is moved out goes there.
        rng: Decides everything.
    """

    def __init__(self, top: Path, outside: Path, rng: random.Random) -> None:
        self._top = top
        self._outside = outside
        self._rng = rng
        self.log: list[str] = []
        self._fill(top, _LEVELS)

    def step(self) -> None:
        """Do one operation, or be refused."""
        acts = (self._swap, self._exchange, self._move, self._replace, self._leave, self._touch)
        act = self._rng.choices(acts, (6, 2, 4, 2, 1, 2))[0]
        first, second = self._pick(), self._pick()
        try:
            act(first, second)
        except OSError as err:
            self.log.append(f"{act.__name__} {first} {second}: {err.strerror}")
        else:
            self.log.append(f"{act.__name__} {first} {second}")

    def _fill(self, top: Path, levels: int) -> None:
        (top / f"f{self._rng.getrandbits(30)}").touch()
        for name in _NAMES if levels else "":
            (top / name).mkdir()
            self._fill(top / name, levels - 1)

    def _pick(self) -> Path:
        way = self._rng.choices(_NAMES, k=self._rng.randrange(1, _LEVELS + 1))
        return self._top.joinpath(*way)

    def _swap(self, first: Path, second: Path) -> None:
        if self._rng.random() < 0.7:
            second = first.with_name(second.name)  # what is below has the same names in both, most likely
        if first.is_relative_to(second) or second.is_relative_to(first):
            return
        third = self._top / "third"
        first.rename(third)
        try:
            second.rename(first)
        except FileNotFoundError:
            third.rename(first)
        else:
            third.rename(second)

    def _exchange(self, first: Path, second: Path) -> None:
        exchange(os.fsencode(first), os.fsencode(second))

    def _move(self, first: Path, second: Path) -> None:
        first.rename(second / self._rng.choice("abcd"))

    def _replace(self, first: Path, second: Path) -> None:
        shutil.rmtree(second, ignore_errors=True)  # where nothing was, something comes
        second.mkdir()
        if self._rng.random() < 0.5:
            self._fill(second, 2)
        else:
            first.rename(second)

    def _leave(self, first: Path, second: Path) -> None:
        """Move one out of the tree, and another one in where it was or elsewhere."""
        away = self._outside / f"{self._rng.getrandbits(60)}"
        others = list(self._outside.iterdir())
        first.rename(away)
        self._touch(away, second)
        if others:
            self._rng.choice(others).rename(first if self._rng.random() < 0.5 else second / "e")

    def _touch(self, first: Path, _: Path) -> None:
        (first / f"t{self._rng.getrandbits(30)}").touch()


class Shuffler(RandomTree):
    """All that programs do, mostly to directories, of few names and not too many."""

    def __init__(self, top: Path, outside: Path, rng: random.Random) -> None:
        super().__init__(top, outside, rng)
        self._operations = [
            (2, self.create), (6, self.make_directory), (3, self.make_deep), (12, self.rename), (6, self.rename_over),
            (6, self.swap), (6, self.exchange), (2, self.move_out), (3, self.move_in), (2, self.delete),
            (2, self.delete_tree), (1, self.change_mode), (1, self.copy_tree), (3, self.recreate_directory),
            (3, self.chain),
        ]  # fmt: skip
        for name in _NAMES:
            os.makedirs(os.path.join(self.inside, os.fsencode(name), b"a"))

    def step(self) -> str:
        while len(self._directories()) > _MOST_DIRECTORIES:
            self.log.append(self.delete_tree())
        return super().step()

    def _entry(self, *, directories: bool = True, files: bool = True) -> bytes:
        return super()._entry(directories=directories, files=files and (not directories or self.rng.random() < 0.2))

    def _name(self) -> bytes:
        return self.rng.choice((b"a", b"b", b"c", b"d"))


class Queues:
    """
    What each instance has queued for a source that reads when it is told to, and then may have lost some of.

    Args:
        pump: Of the source.
        rng: Decides everything.
        together: How often all that waits is one read, from 0 to 1; otherwise it is the next few of one instance.
    """

    def __init__(self, pump: Any, rng: random.Random, together: float) -> None:
        self._pump = pump
        self._rng = rng
        self._together = together
        self._waiting: dict[int, list[Record]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def fill(self, full: int | None) -> None:
        """Queue what was recorded since, the end of it lost for the instance that is full."""
        begun = len(self._waiting.get(full, ())) if full is not None else 0
        for record in self._pump.read():
            self._waiting.setdefault(get_shard(record.watch), []).append(record)
        if full is not None:
            queue = self._waiting.setdefault(full, [])
            del queue[self._rng.randrange(begun, len(queue) + 1) :]
            queue.append(Record(name_watch(full, -1), IN_Q_OVERFLOW, 0, b""))

    def feed(self) -> None:
        """Give the source all, as one read of all, or the next few of one."""
        if self._rng.random() < self._together:
            records = join_reads(list(self._waiting.items()))
            self._waiting.clear()
        else:
            shard = self._rng.choice(list(self._waiting))
            count = self._rng.choice((1, 2, 3, 1_000))
            records, left = self._waiting[shard][:count], self._waiting.pop(shard)[count:]
            if left:
                self._waiting[shard] = left
        self._pump.source._translator.feed(records)


class Walks:
    """
    Looks at all the tree that begin at any time, and a receiver that answers a comparing one late.

    Args:
        pump: Whose they are.
        rng: Decides everything.
    """

    def __init__(self, pump: Any, rng: random.Random) -> None:
        self._pump = pump
        self._rng = rng
        self._audits = rng.choice((0.0, 0.05, 0.2))
        self._snapshots = rng.choice((0.0, 0.02, 0.1))
        self._answers_late = rng.random() < 0.5
        pump.answers_at_once = not self._answers_late

    def step(self) -> None:
        """Take the next few items of all that is under way, after another walk may have begun."""
        if self._rng.random() < self._audits:
            self._pump.start_audit(self._rng.choice(("full", "incremental")))
        if self._rng.random() < self._snapshots:
            self._pump.answer()
            self._pump.start_snapshot(compares=self._rng.random() < 0.5)
        self._pump.step(self._rng)
        self._pump.answer(self._rng.randrange(3))

    def sync(self) -> None:
        """Take all that is owed, every answer at once."""
        self._pump.answers_at_once = True
        self._pump.answer()
        self._pump.sync()
        self._pump.answers_at_once = not self._answers_late


def run(pump: Any, writer: Callable[..., Any], tree: tuple[Path, Path], seed: int, rounds: int) -> None:
    print(f"seed {seed}")  # for what fails or hangs within a round
    rng = random.Random(seed)
    changes = writer(*tree, rng)
    queues, walks = Queues(pump, rng, together=rng.choice((0.5, 0.8))), Walks(pump, rng)
    losses = rng.choice((0.0, 0.1, 0.3))
    if rng.random() < 0.5:
        pump.trust_all_times()
    pump.begin()
    for number in range(rounds):
        begun = len(changes.log)
        for _ in range(rng.randrange(1, 5)):
            for _ in range(rng.randrange(1, 5)):
                changes.step()
            queues.fill(rng.randrange(SHARDS) if rng.random() < losses else None)
            for _ in range(rng.randrange(4)):
                if queues and rng.random() < 0.5:
                    queues.feed()
                else:
                    walks.step()
        queues.fill(None)
        while queues:
            queues.feed()
            if rng.random() < 0.5:
                walks.step()
        walks.sync()
        context = f"seed {seed}, round {number}: " + "\n".join(changes.log[begun:])
        pump.assert_exact(context)
        assert_watched(pump, context)


def assert_watched(pump: Any, context: str) -> None:
    """Assert that every directory has a node, with a watch; beside these there may be some that have left."""
    tree = pump.source._tree
    watched = {tree.get_path(node): (node.device, node.inode) for node in tree.get_watched()}
    watched.pop(None, None)
    there = {}
    for path, _, _, directory in os.fwalk(bytes(pump.inside)):
        status = os.fstat(directory)
        there[path[len(bytes(pump.inside)) :] or b"/"] = (status.st_dev, status.st_ino)
    assert watched == there, context


@pytest.fixture
def start_sharded(make_pump, start_still, monkeypatch) -> Callable[..., Any]:
    """Like `make_pump`, for a source that reads all its instances when it is told to."""
    monkeypatch.setattr("fustor_source_fs.shards.SHARDS", SHARDS)
    return make_pump


@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.parametrize("writer", [Traders, Shuffler])
def test_directories_that_trade_places_before_their_records_are_read_lose_nothing(tree, start_sharded, writer, attempt):
    pump = start_sharded(tree[0], takes_moves=attempt > 0)
    run(pump, writer, tree, random.randrange(1 << 30), rounds=20)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_directories_that_trade_places_for_long_lose_nothing(tmp_path, start_sharded):
    """CHAOS_S says for how many seconds (600 unless told)."""
    until_s = time.monotonic() + float(os.environ.get("CHAOS_S", "600"))
    while time.monotonic() < until_s:
        seed = random.randrange(1 << 30)
        both = tmp_path / f"{seed}"
        tree = both / "in", both / "out"
        for each in tree:
            each.mkdir(parents=True)
        pump = start_sharded(tree[0], takes_moves=seed % 5 > 0)
        run(pump, (Traders, Shuffler)[seed % 2], tree, seed, rounds=20)
        pump.close()
        shutil.rmtree(both)
