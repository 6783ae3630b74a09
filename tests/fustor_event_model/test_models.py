"""The wire format of events: golden bytes, which may gain fields at the end and change in no other way."""

import msgspec
import pytest

from fustor_event_model import (
    AuditEnd,
    AuditStart,
    DeleteEvent,
    FsItem,
    FsPath,
    FsRow,
    InsertEvent,
    JobDone,
    Listed,
    MessageSource,
    Moved,
    SnapshotEnd,
    Unchanged,
    UpdateEvent,
    decode_fs_items,
    encode_items,
)

ROW = FsRow(
    path=b"f\xff", size=1, mtime_ns=-2, ctime_ns=3, mode=33188, uid=4, gid=5, device=6, inode=7, nlink=8, target=b"t"
)
REALTIME, AUDIT = MessageSource.REALTIME, MessageSource.AUDIT

GOLDEN: dict[str, tuple[FsItem, str]] = {
    "insert": (
        InsertEvent(index=1, message_source=REALTIME, event_schema="fs", table="files", rows=[ROW]),
        "91 98 a6696e73657274 01 a87265616c74696d65 a26673 a566696c6573"
        " 91 9e c40266ff 01 fe 03 cd81a4 04 05 06 07 08 c40174 c3 c0 c2 c400 c0",
    ),
    "update": (
        UpdateEvent(
            index=1,
            message_source=REALTIME,
            event_schema="fs",
            table="files",
            rows=[msgspec.structs.replace(ROW, target=None, is_atomic_write=False)],
            prefix=b"/d/",
            position=b"p",
        ),
        "91 98 a6757064617465 01 a87265616c74696d65 a26673 a566696c6573"
        " 91 9e c40266ff 01 fe 03 cd81a4 04 05 06 07 08 c0 c2 c0 c2 c4032f642f c40170",
    ),
    "delete": (
        DeleteEvent(index=1, message_source=REALTIME, event_schema="fs", table="files", rows=[FsPath(b"x")]),
        "91 98 a664656c657465 01 a87265616c74696d65 a26673 a566696c6573 91 91 c40178 c400 c0",
    ),
    "listed": (
        Listed(index=300, message_source=AUDIT, path=b"/"),
        "91 95 a66c6973746564 cd012c a56175646974 c0 c4012f",
    ),
    "unchanged": (
        Unchanged(index=1, message_source=MessageSource.SNAPSHOT, path=b"/", count=2, digest=b"d", position=b"p"),
        "91 97 a9756e6368616e676564 01 a8736e617073686f74 c40170 c4012f 02 c40164",
    ),
    "moved": (
        Moved(index=1, message_source=REALTIME, path=b"/b", before=b"/a", device=2, inode=3),
        "91 98 a56d6f766564 01 a87265616c74696d65 c0 c4022f62 c4022f61 02 03",
    ),
    "snapshot_end": (
        SnapshotEnd(index=1, message_source=MessageSource.SNAPSHOT, complete=True),
        "91 95 ac736e617073686f745f656e64 01 a8736e617073686f74 c0 c3",
    ),
    "audit_start": (
        AuditStart(index=1, message_source=AUDIT, kind="full"),
        "91 95 ab61756469745f7374617274 01 a56175646974 c0 a466756c6c",
    ),
    "audit_end": (
        AuditEnd(index=1, message_source=AUDIT, complete=False),
        "91 95 a961756469745f656e64 01 a56175646974 c0 c2",
    ),
    "job_done": (
        JobDone(index=1, message_source=MessageSource.ON_DEMAND, job_id="j", path=b"/"),
        "91 97 a86a6f625f646f6e65 01 ad6f6e5f64656d616e645f6a6f62 c0 a16a c4012f c3",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_of_each_item_are_what_they_always_were(name: str) -> None:
    item, golden = GOLDEN[name]
    assert encode_items([item]).hex() == golden.replace(" ", "")
    assert decode_fs_items(bytes.fromhex(golden)) == [item]


def test_fields_that_a_later_version_adds_are_ignored() -> None:
    listed = msgspec.msgpack.encode([["listed", 1, "audit", None, b"/", "new"]])
    assert decode_fs_items(listed) == [Listed(index=1, message_source=AUDIT, path=b"/")]


def test_the_order_of_the_lanes_is_their_priority() -> None:
    assert [lane.value for lane in MessageSource] == ["realtime", "on_demand_job", "sentinel", "snapshot", "audit"]


def test_a_row_knows_whether_it_is_a_directory() -> None:
    assert not ROW.is_directory
    assert msgspec.structs.replace(ROW, mode=0o040755).is_directory
