"""
A machine that loses power keeps every batch that was acknowledged, and no half of any other.

A process commits batches and says which of them are acknowledged. It is stopped at random
moments; its database and write-ahead log are copied as they are then, and of the copies of the
log all that was perhaps not on the disk yet is cut off or overwritten. Each copy must open as if
nothing had happened. File format: https://www.sqlite.org/fileformat2.html#walformat and
https://www.sqlite.org/walformat.html
"""

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from fustor_fusion.schema import ROOT_ID, open_reader
from fustor_fusion.store import Store
from waiting import until

LANES = ("realtime", "snapshot")
ROWS = 60
KEPT = 5

PUSHING = f"""
import os, sys, threading
from functools import partial
from pathlib import Path
import msgspec
from fustor_event_model import DeleteEvent, FsPath, FsRow, MessageSource, UpdateEvent, encode_items
from fustor_fusion.ingest import apply_push
from fustor_fusion.store import Store

store = Store(Path(sys.argv[1]))

def make(lane, seq):
    source = MessageSource(lane)
    name = lane.encode()
    rows = [FsRow(b"%s-%d-%d" % (name, seq, n), seq, 1, 1, 0o100644, 0, 0, 1, 1, 1) for n in range({ROWS})]
    rows.append(FsRow(b"%s-each-time" % name, seq, 1, 1, 0o100644, 0, 0, 1, 1, 1))
    items = [UpdateEvent(index=seq, message_source=source, event_schema="fs", table="files", rows=rows, prefix=b"/")]
    if seq > {KEPT}:
        gone = [FsPath(b"%s-%d-%d" % (name, seq - {KEPT}, n)) for n in range({ROWS})]
        items.append(DeleteEvent(index=seq, message_source=source, event_schema="fs", table="files", rows=gone,
                                 prefix=b"/"))
    return b"\\x94" + b"".join(map(msgspec.msgpack.encode, (1, lane, seq))) + encode_items(items)

def push(lane, seq):
    while True:
        work = partial(apply_push, body=make(lane, seq), agent="a", pipe="p", session_id="s", leads=True)
        store.submit(work).result()
        os.write(1, b"%s %d\\n" % (lane.encode(), seq))
        seq += 1

for lane, seq in zip({LANES!r}, sys.argv[2:], strict=True):
    threading.Thread(target=push, args=(lane, int(seq))).start()
"""


class Pushing:
    """A process that pushes, and what it said to be acknowledged."""

    def __init__(self, database: Path, positions: dict[str, int]) -> None:
        self.acknowledged = dict(positions)
        starts = [str(positions[lane] + 1) for lane in LANES]
        self._process = subprocess.Popen([sys.executable, "-c", PUSHING, str(database), *starts],
                                         stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdout is not None
        self._said = self._process.stdout
        self._rest = b""
        os.set_blocking(self._said.fileno(), False)

    def wait_for(self, count: int) -> None:
        """Wait until so many more batches are acknowledged."""
        wanted = sum(self.acknowledged.values()) + count
        until(lambda: self._listen() >= wanted, within_s=60, what="acknowledgements")

    def freeze(self) -> None:
        """Stop it wherever it is, and take in what it has said until then."""
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        self._listen()

    def go_on(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listen()
        self._said.close()

    def _listen(self) -> int:
        while data := self._said.read(1 << 16):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                lane, seq = line.split()
                self.acknowledged[lane.decode()] = int(seq)
        return sum(self.acknowledged.values())


class Copy(NamedTuple):
    """A database and its log as they were at one moment."""

    path: Path
    log: bytes
    synced: int
    """How many bytes of the log were on the disk for certain, the acknowledged batches aside."""


def wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def take_copy(database: Path, folder: Path) -> Copy:
    """Copy what is there; nobody may be writing."""
    folder.mkdir()
    copy = folder / "view.db"
    shutil.copy(database, copy)
    log = wal(database).read_bytes() if wal(database).exists() else b""
    frames = 0
    with suppress(FileNotFoundError):
        shared = database.with_name(database.name + "-shm").read_bytes()
        # What is copied back to the database was on the disk before: WalCkptInfo.nBackfillAttempted.
        (frames,) = struct.unpack_from("=I", shared, 128)
    size = struct.unpack_from(">I", log, 8)[0] + 24 if log else 0
    return Copy(copy, log, 32 + frames * size if frames else 0)


def find_commits(log: bytes) -> list[int]:
    """Return where in the log a transaction has ended, after its beginning, in order."""
    if len(log) < 32:
        return [0]
    (page_size,) = struct.unpack_from(">I", log, 8)
    salts = log[16:24]
    ends = [0]
    for at in range(32, len(log) - 24 - page_size + 1, 24 + page_size):
        if log[at + 8 : at + 16] != salts:
            break  # left over from before the log began anew
        if log[at + 4 : at + 8] != b"\0\0\0\0":
            ends.append(at + 24 + page_size)
    return ends


def read_positions(path: Path) -> dict[str, int]:
    connection = open_reader(path)
    try:
        found = dict(connection.execute("SELECT lane, seq FROM positions").fetchall())
    finally:
        connection.close()
    return {lane: int(found.get(lane, 0)) for lane in LANES}


def holds(path: Path, log: bytes, acknowledged: dict[str, int]) -> bool:
    wal(path).write_bytes(log)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    found = read_positions(path)
    return all(found[lane] >= seq for lane, seq in acknowledged.items())


def find_end_of_acknowledged(copy: Copy, acknowledged: dict[str, int], scratch: Path) -> int:
    """Return the length of the shortest part of the log that holds all that was acknowledged."""
    ends = [end for end in find_commits(copy.log) if end >= copy.synced] or [len(copy.log)]
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        shutil.copy(copy.path, scratch)
        if holds(scratch, copy.log[: ends[middle]], acknowledged):
            high = middle
        else:
            low = middle + 1
    return ends[low]


def spoil(log: bytes, end: int, rng: random.Random) -> bytes:
    """Lose something of what follows: the end of the file, some of its sectors, or both."""
    spoilt = bytearray(log)
    if rng.random() < 0.7:
        del spoilt[rng.randint(end, len(spoilt)) :]
    if rng.random() < 0.7:
        for at in range(end, len(spoilt), 512):
            if rng.random() < 0.3:
                upto = min(at + 512, len(spoilt))
                spoilt[at:upto] = rng.choice((bytes(upto - at), rng.randbytes(upto - at)))
    return bytes(spoilt)


def expect(positions: dict[str, int]) -> dict[bytes, int]:
    """Return the files, with their sizes, after so many batches of each lane."""
    files: dict[bytes, int] = {}
    for lane, last in positions.items():
        for seq in range(max(1, last - KEPT + 1), last + 1):
            files |= {b"%s-%d-%d" % (lane.encode(), seq, number): seq for number in range(ROWS)}
        if last:
            files[b"%s-each-time" % lane.encode()] = last
    return files


def assert_whole(path: Path, acknowledged: dict[str, int]) -> dict[str, int]:
    """Open it as Fusion does, and compare what it holds with what its positions say; returns them."""
    store = Store(path)
    try:
        assert store.damage is None
        positions = read_positions(path)
        assert {lane: positions[lane] >= seq for lane, seq in acknowledged.items()} == dict.fromkeys(LANES, True)
        connection: apsw.Connection = open_reader(path)
        rows = connection.execute("SELECT name, size FROM nodes WHERE parent=?", (ROOT_ID,)).fetchall()
        assert connection.pragma("integrity_check") == "ok"
        connection.close()
        expected = expect(positions)
        assert dict(rows) == expected  # type: ignore[arg-type]
        totals = store.get_totals()
        assert (totals["files"], totals["bytes"]) == (len(expected), sum(expected.values()))
    finally:
        store.close()
    return positions


@pytest.fixture
def rng() -> random.Random:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    return random.Random(seed)


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """The cuts below spare what was acknowledged; that it is on the disk by then is SQLite's promise for FULL."""
    store = Store(tmp_path / "view.db")
    look = store.submit(lambda writer, careful: (writer.db.pragma("synchronous"), writer.db.pragma("journal_mode")))
    assert look.result() == (2, "wal")
    store.close()


@pytest.mark.parametrize("moments", [12, pytest.param(300, marks=[pytest.mark.chaos, pytest.mark.timeout(3600)])])
def test_a_power_cut_loses_no_acknowledged_batch_and_leaves_no_half_of_one(
    tmp_path: Path, rng: random.Random, moments: int
) -> None:
    database = tmp_path / "view.db"
    pushing = Pushing(database, dict.fromkeys(LANES, 0))
    lost = 0
    try:
        for moment in range(moments):
            pushing.wait_for(rng.randrange(1, 60))
            pushing.freeze()
            acknowledged = dict(pushing.acknowledged)
            folder = tmp_path / str(moment)
            copy = take_copy(database, folder)
            pushing.go_on()
            end = find_end_of_acknowledged(copy, acknowledged, folder / "scratch.db")
            for cut in range(4):
                path = folder / f"cut-{cut}.db"
                shutil.copy(copy.path, path)
                log = spoil(copy.log, end, rng)
                wal(path).write_bytes(log)
                lost += log != copy.log
                assert_whole(path, acknowledged)
            shutil.rmtree(folder)
    finally:
        pushing.kill()
    assert lost, "nothing was ever cut off"


def test_a_killed_writer_loses_no_acknowledged_batch_and_goes_on_where_it_was(
    tmp_path: Path, rng: random.Random
) -> None:
    database = tmp_path / "view.db"
    positions = dict.fromkeys(LANES, 0)
    for _ in range(6):
        pushing = Pushing(database, positions)
        try:
            pushing.wait_for(rng.randrange(1, 80))
        finally:
            pushing.kill()
        positions = assert_whole(database, pushing.acknowledged)
