"""Directories trade places while records wait, and while some are lost: what is looked at is ahead of what was read."""

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
from treeops import exchange

_NAMES = "abc"
_LEVELS = 3


class Traders:
    """
    Directories of few names, so that many a path is that of one and then of another.

    Args:
        top: They are in it.
        rng: Decides everything.
    """

    def __init__(self, top: Path, rng: random.Random) -> None:
        self._top = top
        self._rng = rng
        self.log: list[str] = []
        self._fill(top, _LEVELS)

    def step(self) -> None:
        """Do one operation, or be refused."""
        acts = (self._swap, self._exchange, self._move, self._replace, self._touch)
        act = self._rng.choices(acts, (6, 2, 4, 2, 2))[0]
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
        shutil.rmtree(second)
        second.mkdir()
        if self._rng.random() < 0.5:
            self._fill(second, 1)
        else:
            first.rename(second)

    def _touch(self, first: Path, _: Path) -> None:
        (first / f"t{self._rng.getrandbits(30)}").touch()


class Queues:
    """What each instance has queued for a source that reads when it is told to, and then may have lost some of."""

    def __init__(self, pump: Any, rng: random.Random) -> None:
        self._pump = pump
        self._rng = rng
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
        if self._rng.random() < 0.8:
            records = join_reads(list(self._waiting.items()))
            self._waiting.clear()
        else:
            shard = self._rng.choice(list(self._waiting))
            count = self._rng.choice((1, 2, 4, 1_000))
            records, left = self._waiting[shard][:count], self._waiting.pop(shard)[count:]
            if left:
                self._waiting[shard] = left
        self._pump.source._translator.feed(records)


def run(pump: Any, top: Path, seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    traders, queues = Traders(top, rng), Queues(pump, rng)
    pump.begin()
    for number in range(rounds):
        begun = len(traders.log)
        for _ in range(rng.randrange(1, 5)):
            for _ in range(rng.randrange(1, 5)):
                traders.step()
            queues.fill(rng.randrange(SHARDS) if rng.random() < 0.3 else None)
            for _ in range(rng.randrange(4)):
                if queues and rng.random() < 0.5:
                    queues.feed()
                else:
                    pump.step(rng)
        queues.fill(None)
        while queues:
            queues.feed()
            if rng.random() < 0.5:
                pump.step(rng)
        pump.sync()
        pump.assert_exact(f"seed {seed}, round {number}: " + "\n".join(traders.log[begun:]))


@pytest.fixture
def start_sharded(make_pump, start_still, monkeypatch) -> Callable[..., Any]:
    """Like `make_pump`, for a source that reads all its instances when it is told to."""
    monkeypatch.setattr("fustor_source_fs.shards.SHARDS", SHARDS)
    return make_pump


@pytest.mark.parametrize("attempt", range(3))
def test_directories_that_trade_places_before_their_records_are_read_lose_nothing(inside, start_sharded, attempt):
    run(start_sharded(inside, takes_moves=True), inside, random.randrange(1 << 30), rounds=20)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_directories_that_trade_places_for_long_lose_nothing(tmp_path, start_sharded):
    """CHAOS_S says for how many seconds (600 unless told)."""
    until_s = time.monotonic() + float(os.environ.get("CHAOS_S", "600"))
    while time.monotonic() < until_s:
        seed = random.randrange(1 << 30)
        inside = tmp_path / f"{seed}"
        inside.mkdir()
        pump = start_sharded(inside, takes_moves=True)
        run(pump, inside, seed, rounds=20)
        pump.close()
        shutil.rmtree(inside)
