"""Events and signals as JSON lines; pure."""

import base64
import stat
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from fustor_event_model import (
    FS_SCHEMA,
    AnyEvent,
    AnyItem,
    AuditEnd,
    AuditStart,
    FsEvent,
    FsItem,
    FsRow,
    InsertEvent,
    JobDone,
    Listed,
    Signal,
    SnapshotEnd,
    UpdateEvent,
)
from fustor_event_model.models import EventBase

Line = dict[str, object]

_any_decoder = msgspec.msgpack.Decoder(list[AnyItem])
_fs_decoder = msgspec.msgpack.Decoder(list[FsItem])
_encoder = msgspec.json.Encoder()

_TYPES: Final = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


def encode_lines(items: msgspec.Raw, schema: str) -> bytes:
    """
    Spell a batch's items, one line for each row and each signal, in order.

    Raises:
        msgspec.DecodeError: The items are not of the schema.
    """
    decoded: Sequence[FsItem | AnyItem]
    decoded = _fs_decoder.decode(items) if schema == FS_SCHEMA else _any_decoder.decode(items)
    return b"".join(_encoder.encode(line) + b"\n" for item in decoded for line in _lines(item))


def _lines(item: FsItem | AnyItem) -> Iterator[Line]:
    head: Line = {"event": _name(item), "message_source": item.message_source.value, "index": item.index}
    if isinstance(item, EventBase):
        for row in item.rows:
            yield head | _row(item, row)
    else:
        yield head | _signal(item)


def _name(item: FsItem | AnyItem) -> str:
    if isinstance(item, InsertEvent):
        return "insert"
    if isinstance(item, UpdateEvent):
        return "update"
    if isinstance(item, EventBase):
        return "delete"
    tag = type(item).__struct_config__.tag
    return str(tag)


def _row(event: FsEvent | AnyEvent, row: object) -> Line:
    if isinstance(row, msgspec.Raw):
        return {
            "event_schema": event.event_schema,
            "table": event.table,
            "prefix": event.prefix.decode("utf-8", "replace"),
            "row": msgspec.msgpack.decode(row),
        }
    path = event.prefix + getattr(row, "path", b"")
    return _spell("path", "raw", path) | (_state(row) if isinstance(row, FsRow) else {})


def _state(row: FsRow) -> Line:
    line: Line = {
        "type": _TYPES.get(stat.S_IFMT(row.mode), "other"),
        "size": row.size,
        "mtime_ns": row.mtime_ns,
        "ctime_ns": row.ctime_ns,
        "mode": row.mode,
        "uid": row.uid,
        "gid": row.gid,
        "inode": row.inode,
        "nlink": row.nlink,
        "is_atomic_write": row.is_atomic_write,
    }
    return line | (_spell("target", "raw_target", row.target) if row.target is not None else {})


def _signal(signal: Signal) -> Line:
    if isinstance(signal, Listed):
        return _spell("path", "raw", signal.path)
    if isinstance(signal, SnapshotEnd | AuditEnd):
        return {"complete": signal.complete}
    if isinstance(signal, AuditStart):
        return {"kind": signal.kind}
    if isinstance(signal, JobDone):
        return _spell("path", "raw", signal.path) | {"job_id": signal.job_id, "complete": signal.complete}
    return {}


def _spell(key: str, raw_key: str, name: bytes) -> Line:
    """Spell bytes as text; what is not UTF-8 is U+FFFD there, and exact in base64 beside it."""
    try:
        return {key: name.decode()}
    except UnicodeDecodeError:
        return {key: name.decode("utf-8", "replace"), raw_key: base64.b64encode(name).decode()}
