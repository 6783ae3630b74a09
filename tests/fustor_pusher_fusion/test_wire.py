import json
import os
import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fustor_core.testing.pushers import make_row
from fustor_pusher_fusion.wire import (
    ABOVE_ALL_S,
    MAX_ROWS,
    Change,
    Delete,
    Upsert,
    encode_changes,
    encode_ingest,
    encode_listing,
    encode_opening,
    halve,
    sanitise,
    seconds,
)

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: b"/" + b"/".join(names))
TIMES = st.integers(-(2**63), 2**63 - 1)
UPSERTS = st.builds(
    lambda path, size, mtime_ns, directory, quiet: Upsert(
        path,
        make_row(b"", size=size, mtime_ns=mtime_ns, mode=0o040755 if directory else 0o100644),
        5_000_000,
        quiet,
    ),
    PATHS,
    st.integers(0, 2**63 - 1),
    TIMES,
    st.booleans(),
    st.booleans(),
)
CHANGES = st.lists(UPSERTS | st.builds(Delete, PATHS, st.just(6_000_000)), max_size=300)


def upsert(path: bytes, *, directory: bool = False, quiet: bool = False, size: int = 1) -> Upsert:
    mode = stat.S_IFDIR | 0o755 if directory else stat.S_IFREG | 0o644
    return Upsert(path, make_row(b"", mode=mode, size=size), 5_000_000, quiet)


def spelled(changes: list[Change]) -> list[tuple[str, str, list[str]]]:
    return [
        (one.event.event_type, one.event.message_source, [row.path for row in one.event.rows])
        for one in encode_changes(changes)
    ]


@given(PATHS)
def test_every_name_becomes_text_that_json_carries(path: bytes) -> None:
    text = sanitise(path)
    assert json.loads(json.dumps(text, ensure_ascii=False).encode()) == text
    assert text.count("/") == path.count(b"/")


def test_only_bytes_that_are_not_utf8_are_replaced() -> None:
    assert sanitise(b"/caf\xe9.txt") == "/caf?.txt"
    assert sanitise("/ü€😀\n\x01\\".encode()) == "/ü€😀\n\x01\\"
    assert sanitise(b"/\xed\xa0\x80") == "/???"


def test_times_are_the_floats_that_stat_gives(tmp_path: Path) -> None:
    for time_ns in (0, -1, -1_500_000_001, 1_795_309_852_920_604_299, 2**61):
        os.utime(tmp_path, ns=(time_ns, time_ns))
        status = tmp_path.stat()
        assert seconds(status.st_mtime_ns) == status.st_mtime


def test_a_realtime_row_follows_a_row_that_lifts_its_tombstone() -> None:
    lift, row = encode_changes([upsert(b"/a/b", size=7)])
    assert (lift.event.message_source, row.event.message_source) == ("snapshot", "realtime")
    assert lift.event.rows[0].modified_time == ABOVE_ALL_S
    assert json.loads(encode_ingest([row.event], "message")) == {
        "source_type": "message",
        "is_end": False,
        "events": [
            {
                "event_type": "update",
                "rows": [
                    {
                        "path": "/a/b",
                        "file_name": "b",
                        "size": 7,
                        "modified_time": 1.7e9,
                        "created_time": 1.7e9,
                        "is_directory": False,
                        "is_atomic_write": True,
                    }
                ],
                "message_source": "realtime",
                "index": 5,
                "fields": [],
                "event_schema": "fs",
                "table": "files",
            }
        ],
    }


def test_a_quiet_row_is_one_snapshot_row_with_its_own_time() -> None:
    (only,) = encode_changes([upsert(b"/a", quiet=True)])
    assert only.event.message_source == "snapshot"
    assert only.event.rows[0].modified_time == 1.7e9
    assert only.event.rows[0].is_atomic_write is None


def test_directories_come_first_and_deletes_keep_their_place() -> None:
    changes = [upsert(b"/f"), upsert(b"/d", directory=True), Delete(b"/x", 6), upsert(b"/x")]
    assert spelled(changes) == [
        ("update", "snapshot", ["/d", "/f"]),
        ("update", "realtime", ["/d", "/f"]),
        ("delete", "realtime", ["/x"]),
        ("update", "snapshot", ["/x"]),
        ("update", "realtime", ["/x"]),
    ]


def test_the_last_state_of_a_name_wins() -> None:
    _, row = encode_changes([upsert(b"/x", directory=True), upsert(b"/x", size=3)])
    assert [(one.path, one.size, one.is_directory) for one in row.event.rows] == [("/x", 3, False)]


@given(CHANGES)
def test_no_event_is_empty_or_too_long_and_no_change_is_dropped(changes: list[Change]) -> None:
    events = list(encode_changes(changes))
    assert all(1 <= len(one.event.rows) == len(one.names) <= MAX_ROWS for one in events)
    assert {name for one in events for name in one.names} == {change.path for change in changes}
    body = json.loads(encode_ingest([one.event for one in events], "message"))
    for event in body["events"]:
        for row in event["rows"]:
            row["path"].encode()
            assert -(2**63) <= row.get("size", 0) < 2**63


@given(CHANGES.filter(bool))
def test_halving_ends_at_single_rows_and_keeps_all(changes: list[Change]) -> None:
    events = list(encode_changes(changes))
    todo, singles = [events], []
    while todo:
        part = todo.pop()
        halves = halve(part)
        if halves is None:
            singles.append(part[0])
        else:
            todo.extend(halves)
    assert all(len(one.names) == 1 for one in singles)
    assert sorted(one.names[0] for one in singles) == sorted(name for one in events for name in one.names)


def test_marks_never_make_or_change_a_node() -> None:
    events = [encode_opening(9), *encode_listing([b"/d", b"/"], [b"/d/f"], 9)]
    rows = [row for event in events for row in event.rows]
    assert {event.message_source for event in events} == {"audit"}
    assert all(row.modified_time == row.parent_mtime and row.modified_time < -9e9 for row in rows)
    assert [(row.path, row.parent_path, row.is_directory) for row in rows[1:]] == [
        ("/d/f", "/d", False),
        ("/d", "/", True),
        ("/", "/", True),
    ]
