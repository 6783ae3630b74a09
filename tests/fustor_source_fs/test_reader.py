"""The thread that empties the kernel's queue, and draining beside it."""

import os
import threading

import pytest

from fustor_source_fs.reader import Reader
from fustor_source_fs.records import parse_records
from fustor_source_fs.shards import Shards
from waiting import until


@pytest.fixture
def watched(tmp_path):
    """Inotify instances, of which one watches a directory."""
    shards = Shards()
    directory = os.open(tmp_path, os.O_RDONLY)
    status = os.fstat(directory)
    shards.add_watch(directory, status.st_dev, status.st_ino)
    os.close(directory)
    yield shards, tmp_path
    shards.close()


def names(taken: list[tuple[int, bytes]]) -> list[bytes]:
    return [each.name for shard, data in taken for each in parse_records(data, shard)]


def stop_unstarted(reader: Reader) -> None:
    os.close(reader._stop_fd)
    os.close(reader._mounts_fd)


def test_what_happens_is_read_in_order_and_wakes(watched):
    shards, directory = watched
    wake = threading.Event()
    reader = Reader(shards, 1 << 20, wake)
    reader.start()
    for number in range(50):
        (directory / f"d{number}").mkdir()
    assert wake.wait(30)
    reader.drain()
    data, overflowed = reader.take()
    reader.stop()
    assert names(data) == [b"d%d" % number for number in range(50)]
    assert not overflowed
    assert not reader.has_backlog()


class HeldRead:
    """Inotify instances whose first read has taken records from the kernel and not returned yet."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self.get_fds = shards.get_fds
        self.get_queued_bytes = shards.get_queued_bytes
        self.has_read = threading.Event()
        self.may_return = threading.Event()

    def __len__(self) -> int:
        return len(self._shards)

    def read(self, shard: int, size: int) -> bytes:
        data = self._shards.read(shard, size)
        if not self.may_return.is_set():
            self.has_read.set()
            assert self.may_return.wait(30)
        return data


class TellingLock:
    """A lock that tells when somebody had to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.was_waited_for = threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.was_waited_for.set()
            self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def test_draining_waits_for_what_the_thread_is_just_reading(watched):
    shards, directory = watched
    held = HeldRead(shards)
    reader = Reader(held, 1 << 20, threading.Event())
    reader._lock = lock = TellingLock()
    reader.start()
    (directory / "d").mkdir()
    assert held.has_read.wait(30)
    taken: list[tuple[int, bytes]] = []

    def drain() -> None:
        reader.drain()
        taken.extend(reader.take()[0])

    draining = threading.Thread(target=drain)
    draining.start()
    until(
        lambda: lock.was_waited_for.is_set() or not draining.is_alive(),
        within_s=30, what="the drain to wait, or to be over too early",
    )  # fmt: skip
    held.may_return.set()
    draining.join()
    reader.stop()
    assert names(taken) == [b"d"]


def test_draining_reads_all_that_is_queued_without_any_thread(watched):
    shards, directory = watched
    reader = Reader(shards, 1 << 30, threading.Event())
    for number in range(5000):
        os.mkdir(directory / f"directory-{number}")
    reader.drain()
    assert names(reader.take()[0]) == [b"directory-%d" % number for number in range(5000)]
    assert not any(shards.get_queued_bytes(shard) for shard in range(len(shards)))
    stop_unstarted(reader)


def test_a_backlog_over_its_bound_is_thrown_away_and_said_once(watched):
    shards, directory = watched
    reader = Reader(shards, 100, threading.Event())
    (directory / "a").mkdir()
    reader.drain()
    assert not reader.take()[1]
    for number in range(10):
        (directory / f"b{number}").mkdir()
    reader.drain()
    (directory / "c").mkdir()
    reader.drain()
    assert reader.has_backlog()
    data, overflowed = reader.take()
    assert len(overflowed) == 1
    assert names(data) == [b"c"]
    assert reader.take() == ([], set())
    stop_unstarted(reader)


def test_a_backlog_that_is_taken_in_time_never_overflows(watched):
    shards, directory = watched
    reader = Reader(shards, 100, threading.Event())
    for number in range(20):
        (directory / f"d{number}").mkdir()
        reader.drain()
        assert not reader.take()[1]
    stop_unstarted(reader)


def test_stopping_ends_the_thread_and_closes_what_it_polled(watched):
    shards, _ = watched
    reader = Reader(shards, 100, threading.Event())
    reader.start()
    reader.stop()
    assert not reader._thread.is_alive()
    for descriptor in (reader._stop_fd, reader._mounts_fd):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
