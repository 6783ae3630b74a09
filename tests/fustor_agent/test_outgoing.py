"""A batch on its way: it counts what it holds, and holds it encoded only."""

import weakref

from fustor_agent.outgoing import BATCH_BYTES, Outgoing
from fustor_event_model import (
    AuditEnd,
    DeleteEvent,
    FsItem,
    FsPath,
    FsRow,
    JobDone,
    Listed,
    MessageSource,
    SnapshotEnd,
    Unchanged,
    UpdateEvent,
    decode_fs_items,
    encode_items,
)

LANE = MessageSource.SNAPSHOT
ROW = FsRow(b"name", 1, 2, 3, 0o100644, 0, 0, 4, 5, 1)
ITEMS: list[FsItem] = [
    UpdateEvent(index=1, message_source=LANE, event_schema="fs", table="files", rows=[ROW] * 3, position=b"1"),
    DeleteEvent(index=2, message_source=LANE, event_schema="fs", table="files", rows=[FsPath(b"gone")], position=b"2"),
    Listed(index=3, message_source=LANE, path=b"/", position=b"3"),
    Unchanged(index=4, message_source=LANE, path=b"/d", count=7, digest=b"d", position=b"4"),
    JobDone(index=5, message_source=LANE, job_id="j", path=b"/"),
    AuditEnd(index=6, message_source=LANE, complete=True),
    SnapshotEnd(index=7, message_source=LANE, complete=True, position=b"7"),
]


def test_what_was_added_is_counted_and_comes_out_as_it_was() -> None:
    batch = Outgoing()
    for item in ITEMS:
        batch.add(item)
    assert (batch.rows, batch.compared) == (4, 7)
    assert batch.positions == [b"1", b"2", b"3", b"4", b"7"]
    assert batch.ends == ITEMS[4:]
    assert decode_fs_items(encode_items(batch.items)) == ITEMS


def test_an_empty_batch_holds_nothing() -> None:
    batch = Outgoing()
    assert (batch.rows, batch.compared, batch.positions, batch.ends, batch.items) == (0, 0, [], [], [])


def test_a_batch_is_full_by_its_rows_by_those_that_are_compared_or_by_its_bytes() -> None:
    batch = Outgoing()
    batch.add(ITEMS[0])
    assert (batch.is_full(4), batch.is_full(3)) == (False, True)
    batch.add(ITEMS[3])
    assert (batch.is_full(11), batch.is_full(10)) == (False, True)
    added = 0
    while not batch.is_full(1_000_000):
        batch.add(Listed(index=3, message_source=LANE, path=bytes(100_000)))
        added += 1
    assert added == BATCH_BYTES // 100_000 + 1


def test_rows_are_not_kept_once_they_are_added() -> None:
    batch = Outgoing()
    rows = Rows([ROW] * 10)
    alive = weakref.ref(rows)
    batch.add(UpdateEvent(index=1, message_source=LANE, event_schema="fs", table="files", rows=rows))
    del rows
    assert alive() is None
    assert batch.rows == 10


class Rows(list[FsRow]):
    """A list of which one can tell whether it is still there."""
