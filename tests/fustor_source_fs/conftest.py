"""An fs source, and one that drives it as its worker does: in full swing, or step by step."""

import os
import random
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fustor_core.clock import IndexClock
from fustor_core.drivers import Barrier, OnProgress, SourceContext
from fustor_event_model import MessageSource, Moved, Unchanged
from fustor_source_fs import FsConfig, FsParams, FsSource
from fustor_source_fs.reader import Reader
from fustor_source_fs.records import Record, parse_records
from fustor_source_fs.watches import Node
from modelview import ModelView
from oracle import differences, walk
from treeops import RandomTree


class StillReader(Reader):
    """Reads only when `drain` tells it to, so that the timing of a thread decides nothing."""

    def start(self) -> None:
        pass

    def stop(self) -> None:
        os.close(self._stop_fd)
        os.close(self._mounts_fd)


class Pump:
    """Drives a source as its worker does: realtime first, everything acknowledged."""

    def __init__(self, source: FsSource, inside: Path) -> None:
        self.source = source
        self.inside = inside
        self.view = ModelView()
        self.items: list[Any] = []
        self.messages = source.get_message_iterator()
        self.snapshot: Generator[Any, None, None] | None = None
        self._audit: Iterator[Any] | None = None
        self.barriers: list[str] = []
        self.questions: deque[Unchanged] = deque()
        self.answers_at_once = True
        self.moves = 0
        self.refused_moves = 0
        self.refuses_moves = False
        """The receiver refuses those, too, that it could make."""
        self._moved: list[Moved] = []
        self._listings: list[Generator[Any, None, None]] = []

    def close(self) -> None:
        """Close the source, and before it what was begun and not taken to its end."""
        for each in (self.messages, self.snapshot, self._audit, *self._listings):
            if each is not None:
                each.close()
        self.source.close()

    def start_snapshot(self, *, compares: bool = False) -> None:
        self.snapshot = self.source.get_comparing_iterator() if compares else self.source.get_snapshot_iterator()

    def start_audit(self, kind: str) -> None:
        """Begin an audit, in the place of one that may be running."""
        self._audit = self.source.get_audit_iterator(kind)

    def finish_snapshot(self) -> None:
        while self.snapshot is not None:
            self.step()

    def step(self, rng: random.Random | None = None) -> bool:
        moved = False
        for _ in range(100 if rng is None else rng.randrange(1, 20)):
            item = next(self.messages)
            if item is None:
                moved = self.push_moves() or moved
                break
            moved = True
            self.take(item)
        if self.snapshot is not None:
            for _ in range(10 if rng is None else rng.randrange(1, 4)):
                if self.snapshot is None or not self.step_snapshot():
                    break
                moved = True
        if self._audit is not None:
            for _ in range(10 if rng is None else rng.randrange(1, 4)):
                item = next(self._audit, self)
                if item is self:
                    self._audit = None
                if item is self or item is None:
                    break
                moved = True
                self.take(item)
        return moved

    def step_snapshot(self) -> bool:
        """Take one item of the snapshot; False if there was none."""
        assert self.snapshot is not None
        item = next(self.snapshot, self)
        if item is self:
            self.snapshot = None
        if item is self or item is None:
            return False
        self.take(item)
        return True

    def answer(self, count: int = 1_000_000) -> None:
        """Answer the oldest questions of whether the view holds what is there."""
        while self.questions and count:
            item = self.questions.popleft()
            held = self.view.compare(item)
            if held is True:
                self.source.acknowledge(item.position)
            else:
                self.source.differs(item.position, known=held is False)
            count -= 1

    def take(self, item: Any) -> None:
        self.items.append(item)
        if isinstance(item, Barrier):
            self.barriers.append(item.token)
            return
        if isinstance(item, Moved):
            self._moved.append(item)
            return
        assert not self._moved, f"{item} was sent before it was known what becomes of {self._moved}"
        self.view.apply([item])
        if isinstance(item, Unchanged):
            self.questions.append(item)
            if self.answers_at_once:
                self.answer()
        elif item.position is not None:
            self.source.acknowledge(item.position)

    def push_moves(self) -> bool:
        """Push the moves that were taken, as one batch: all of them are made, or none; False if there are none."""
        batch, self._moved = self._moved, []
        if not batch:
            return False
        assert len(self.source._inflight) == len(batch), "something was under way when directories moved"
        self.moves += len(batch)
        if not self.refuses_moves and self.view.move_all(batch):
            for item in batch:
                self.source.acknowledge(item.position)
        else:
            self.refused_moves += len(batch)
            self.lose(batch)
        return True

    def lose(self, batch: list[Any]) -> None:
        """Tell the source that it is not known what became of these."""
        for item in batch:
            if item.position is not None:
                self.source.recover(item.position)

    def begin(self) -> None:
        """Take the first snapshot and all that comes of it."""
        self.start_snapshot()
        self.finish_snapshot()
        self.sync("begin")
        self.items.clear()

    def audit(self, kind: str) -> list[Any]:
        """Run an audit to its end, with what it makes the source look at; returns what it said itself."""
        said: list[Any] = []
        for item in self.source.get_audit_iterator(kind):
            if item is None:
                if not self.step():
                    self.source.wait(1.0)
            else:
                said.append(item)
                self.take(item)
        return said

    def sync(self, token: str = "t") -> None:
        self.source.barrier(token)
        self.wait_for_barrier(token)

    def wait_for_barrier(self, token: str) -> None:
        while token not in self.barriers:
            if not self.step():
                self.source.wait(1.0)
        self.barriers.remove(token)

    def trust_all_times(self) -> None:
        """Put the source's clock ahead of the file system's, so that every directory seems to be old."""
        self.source._lister._wall_ns = lambda: time.time_ns() + 3600 * 10**9

    def trust_times_soon(self) -> None:
        """Put the source's clock ahead so far that a directory seems to be old after a few ticks of its file system."""
        self.source._lister._wall_ns = lambda: time.time_ns() + 10**9 - 20 * 10**6

    # -- step by step ------------------------------------------------------------------------

    def read(self) -> list[Record]:
        """Take the records out of the kernel's queue and give none of them to the source."""
        self.source._reader.drain()
        return [record for shard, data in self.source._reader.take()[0] for record in parse_records(data, shard)]

    def feed(self, records: list[Record]) -> None:
        """Give the source records, as those of one read."""
        self.source._translator.feed(records)
        self.source._translator.feed(())  # no more is to be waited for

    def absorb(self) -> None:
        """Read all that is queued, in one read."""
        self.feed(self.read())

    def say(self) -> list[Any]:
        """Take messages until there are none at this moment; returns them."""
        begun = len(self.items)
        while (item := next(self.messages)) is not None or self.push_moves() or self.source._work:
            if item is not None:
                self.take(item)
        return self.items[begun:]

    def listing(self, path: bytes, lane: MessageSource = MessageSource.REALTIME) -> Generator[Any, None, None]:
        """Begin to list a directory."""
        self._listings.append(self.source._lister.list_directory(self.node(path), lane, lambda child: None))
        return self._listings[-1]

    def node(self, path: bytes) -> Node:
        node, rest = self.source._tree.find(path)
        assert not rest, f"no node at {path!r}"
        return node

    # -- what must be true -------------------------------------------------------------------

    def differences(self, *, pattern: str | None = None) -> list[str]:
        """Say how the view differs from the tree, of which only the names that match a pattern are watched."""
        return differences(walk(bytes(self.inside), pattern), self.view.get_entries())

    def assert_exact(self, context: object = "", **how: Any) -> None:
        found = self.differences(**how)
        assert not found, f"{context}\n" + "\n".join(found)


class Blindfold:
    """
    Changes a tree where no event can come from, at times that tell.

    Args:
        pump: Of a source with a still reader.
        outside: A directory on the same file system, for asking what time it is there.
    """

    def __init__(self, pump: Pump, outside: Path) -> None:
        self.pump = pump
        self._probe = outside / "what time is it"
        pump.trust_all_times()

    def __enter__(self) -> None:
        self._wait_for_tick()  # what happens now has other times than what was listed before

    def __exit__(self, *_: object) -> None:
        self._wait_for_tick()
        self.pump.read()  # and nobody hears of it

    def _wait_for_tick(self) -> None:
        self._probe.touch()
        first = self._probe.stat().st_ctime_ns
        while self._probe.stat().st_ctime_ns == first:
            self._probe.touch()
        self._probe.unlink()


def make_source(
    inside: Path,
    *,
    max_pending: int = 100_000,
    takes_moves: bool = False,
    on_progress: OnProgress = lambda quiet_s=0.0: None,
    **params: Any,
) -> FsSource:
    seed = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    context = SourceContext(
        pipe_id="t", clock=IndexClock(seed), state_dir=inside, max_pending=max_pending, on_progress=on_progress
    )
    params.setdefault("pressure_limit_percent", 0)  # how busy the machine is decides nothing in a test
    source = FsSource(FsConfig(uri=str(inside), driver_params=FsParams(**params)), context)
    source.takes_moves = takes_moves
    return source


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path]:
    """Two directories on one file system: the watched one, and one to move things from and to."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    return inside, outside


@pytest.fixture
def operations() -> Callable[..., RandomTree]:
    """Make random operations; takes both directories, and what decides."""
    return lambda tree, seed: RandomTree(*tree, random.Random(str(seed)))


@pytest.fixture
def inside(tree: tuple[Path, Path]) -> Path:
    return tree[0]


@pytest.fixture
def outside(tree: tuple[Path, Path]) -> Path:
    return tree[1]


@pytest.fixture
def make_pump() -> Iterator[Callable[..., Pump]]:
    """Start sources on any directory, each with its pump, and close them in the end."""
    pumps: list[Pump] = []

    def make(inside: Path, **params: Any) -> Pump:
        pumps.append(Pump(make_source(inside, **params), inside))
        return pumps[-1]

    yield make
    for pump in pumps:
        pump.close()


@pytest.fixture
def start_pump(inside: Path, make_pump: Callable[..., Pump]) -> Callable[..., Pump]:
    """Start sources on the inside, each with its pump; takes what `FsParams` takes, `max_pending` and `on_progress`."""
    return lambda **params: make_pump(inside, **params)


@pytest.fixture
def pump(start_pump: Callable[..., Pump]) -> Pump:
    return start_pump()


@pytest.fixture
def start_still(start_pump: Callable[..., Pump], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pump]:
    """Like `start_pump`, but nothing is read unless the test reads, and then in the order in which it happened."""
    monkeypatch.setattr("fustor_source_fs.driver.Reader", StillReader)
    monkeypatch.setattr("fustor_source_fs.shards.SHARDS", 1)
    return start_pump


@pytest.fixture
def make_blindfold(outside: Path) -> Callable[[Pump], Blindfold]:
    """Make what keeps a source with a still reader from seeing anything."""
    return lambda pump: Blindfold(pump, outside)


@pytest.fixture
def blindfold(still: Pump, make_blindfold: Callable[[Pump], Blindfold]) -> Blindfold:
    """With it, the `still` source sees nothing."""
    return make_blindfold(still)


@pytest.fixture
def still(start_still: Callable[..., Pump]) -> Pump:
    return start_still()
