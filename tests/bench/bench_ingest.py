"""
Measure rows per second into the store, beside a bare multi-row insert of the same rows.

Run: python tests/bench/bench_ingest.py [ROWS]
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import apsw
import msgspec

from fustor_event_model import FsItem, FsRow, Listed, MessageSource, UpdateEvent, encode_items
from fustor_fusion.ingest import apply_push
from fustor_fusion.store import Store

PER_DIRECTORY = 100
PER_BATCH = 4_000


def make_batches(count: int) -> Iterator[list[FsItem]]:
    """Yield a snapshot in scan order: directories of a hundred files, a hundred directories to a parent."""
    lane = MessageSource.SNAPSHOT
    index, inode, batch, rows = 1, 2, [], 0
    for number in range(count // PER_DIRECTORY):
        if number % 100 == 0:
            top = b"/d%04d" % (number // 100)
            batch.append(event(index, b"/", [FsRow(top[1:], 4096, 1, 1, 0o40755, 0, 0, 1, inode, 2)]))
        path = b"%b/e%02d" % (top, number % 100)
        batch.append(event(index, top + b"/", [FsRow(path[len(top) + 1:], 4096, 1, 1, 0o40755, 0, 0, 1, inode + 1, 2)]))
        inode += 2
        index += 10
        files = [FsRow(b"file-%05d.dat" % n, 1000 + n, 1_790_000_000_123_456_789 + n, 1_790_000_000_123_456_789 + n,
                       0o100644, 1000, 1000, 2049, inode + n, 1) for n in range(PER_DIRECTORY)]
        inode += PER_DIRECTORY
        batch.append(event(index, path + b"/", files))
        batch.append(Listed(index=index, message_source=lane, path=path))
        rows += PER_DIRECTORY
        if rows >= PER_BATCH:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def event(index: int, prefix: bytes, rows: list[FsRow]) -> FsItem:
    """Make one snapshot event."""
    return UpdateEvent(index=index, message_source=MessageSource.SNAPSHOT, event_schema="fs", table="files",
                       rows=rows, prefix=prefix)


def measure_store(folder: Path, batches: list[list[FsItem]], *, name: str, epoch: int, add: int = 0) -> float:
    """Push batches as the server does, two under way."""
    bodies = []
    for seq, batch in enumerate(batches, 1):
        if add:
            batch = [msgspec.structs.replace(item, index=item.index + add) for item in batch]
        parts = [msgspec.msgpack.encode(part) for part in (epoch, "snapshot", seq)]
        bodies.append(b"\x94" + b"".join(parts) + encode_items(batch))
    store = Store(folder / name)
    began = time.perf_counter()
    futures = [store.submit(partial(apply_push, body=body, agent="a", pipe="p", session_id="s", leads=True))
               for body in bodies]
    for future in futures:
        future.result()
    took = time.perf_counter() - began
    store.close()
    return took


def measure_bare(folder: Path, batches: list[list[FsItem]]) -> float:
    """Insert the same rows without any check."""
    db = apsw.Connection(str(folder / "bare.db"))
    db.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-6000")
    db.execute("CREATE TABLE nodes(parent, idx, owner, flags, name, size, mtime_ns, ctime_ns, mode, uid, gid, device,"
               " inode, nlink, target, PRIMARY KEY(parent, name)) WITHOUT ROWID")
    sql = "INSERT INTO nodes VALUES " + ",".join(["(" + ",".join("?" * 15) + ")"] * PER_DIRECTORY)
    astuple = msgspec.structs.astuple
    began = time.perf_counter()
    parent = 0
    for batch in batches:
        db.execute("BEGIN")
        for item in batch:
            if isinstance(item, UpdateEvent) and len(item.rows) == PER_DIRECTORY:
                parent += 1
                values: list[object] = []
                for row in item.rows:
                    values += (parent, item.index, 1, 0)
                    values += astuple(row)[:11]
                db.execute(sql, values)
        db.execute("COMMIT")
    return time.perf_counter() - began


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    batches = list(make_batches(count))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = measure_bare(folder, batches)
        first = measure_store(folder, batches, name="view.db", epoch=1)
        again = measure_store(folder, batches, name="view.db", epoch=2, add=10**9)
        size = (folder / "view.db").stat().st_size
    print(f"bare multi-row insert  {count / bare:>9,.0f} rows/s")
    print(f"first snapshot         {count / first:>9,.0f} rows/s   {bare / first:.2f} of bare")
    print(f"the same tree again    {count / again:>9,.0f} rows/s")
    print(f"{size / count:.0f} bytes a row")


if __name__ == "__main__":
    main()
