import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fustor_event_model import (
    AnyItem,
    DeleteEvent,
    FsItem,
    FsPath,
    FsRow,
    InsertEvent,
    JobDone,
    Listed,
    MessageSource,
    Moved,
    UpdateEvent,
    decode_fs_items,
    encode_item,
    encode_items,
)

LANES = st.sampled_from(MessageSource)
I64 = st.integers(-(2**63), 2**63 - 1)
U64 = st.integers(0, 2**64 - 1)
NAMES = st.binary(max_size=300)
ROWS = st.builds(
    FsRow,
    path=NAMES,
    size=U64,
    mtime_ns=I64,
    ctime_ns=I64,
    mode=st.integers(0, 2**32 - 1),
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    device=U64,
    inode=U64,
    nlink=U64,
    target=st.none() | NAMES,
    is_atomic_write=st.booleans(),
    parent_mtime_ns=st.none() | I64,
    audit_skipped=st.booleans(),
)


def events(kind: type, rows: st.SearchStrategy[object]) -> st.SearchStrategy[FsItem]:
    return st.builds(
        kind,
        index=U64,
        message_source=LANES,
        event_schema=st.just("fs"),
        table=st.text(max_size=5),
        rows=st.lists(rows, max_size=4),
        prefix=NAMES,
        position=st.none() | st.binary(max_size=20),
    )


ITEMS = st.lists(
    events(InsertEvent, ROWS)
    | events(UpdateEvent, ROWS)
    | events(DeleteEvent, st.builds(FsPath, NAMES))
    | st.builds(Listed, index=U64, message_source=LANES, path=NAMES)
    | st.builds(Moved, index=U64, message_source=LANES, path=NAMES, before=NAMES, device=U64, inode=U64)
    | st.builds(JobDone, index=U64, message_source=LANES, job_id=st.text(max_size=9), path=NAMES),
    max_size=6,
)


@given(ITEMS)
def test_what_is_encoded_comes_back_whatever_bytes_the_names_are(items: list[FsItem]) -> None:
    assert decode_fs_items(encode_items(items)) == items


@given(ITEMS)
def test_rows_can_be_passed_on_without_being_decoded(items: list[FsItem]) -> None:
    passed_on = msgspec.msgpack.decode(encode_items(items), type=list[AnyItem])
    assert encode_items(passed_on) == encode_items(items)


@given(ITEMS)
def test_items_may_be_encoded_one_by_one(items: list[FsItem]) -> None:
    assert encode_items([encode_item(item) for item in items]) == encode_items(items)


@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused_with_one_kind_of_error(data: bytes) -> None:
    try:
        decode_fs_items(data)
    except msgspec.DecodeError:
        return
    assert data[:1] >= b"\x90"


def test_nothing_is_one_byte() -> None:
    assert encode_items([]) == b"\x90"
    assert decode_fs_items(b"\x90") == []


def test_a_damaged_item_is_named_by_its_place() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\[1\]"):
        decode_fs_items(msgspec.msgpack.encode([["listed", 1, "audit", None, b"/"], ["listed", "x"]]))


def test_a_text_that_is_no_utf8_is_refused_as_any_other_damage() -> None:
    data = msgspec.msgpack.encode([["audit_start", 1, "audit", None, "full"]])
    with pytest.raises(msgspec.DecodeError, match="utf-8"):
        decode_fs_items(data.replace(b"full", b"f\xffll"))
