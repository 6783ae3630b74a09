"""Events, rows and lifecycle signals of Fustor, and their encoding."""

from fustor_event_model.codec import decode_fs_items, encode_item, encode_items
from fustor_event_model.digest import RowsDigest
from fustor_event_model.models import (
    AnyEvent,
    AnyItem,
    AuditEnd,
    AuditStart,
    DeleteEvent,
    EventBase,
    FsEvent,
    FsItem,
    InsertEvent,
    JobDone,
    Listed,
    MessageSource,
    Moved,
    Signal,
    SnapshotEnd,
    Unchanged,
    UpdateEvent,
)
from fustor_event_model.rows import FS_SCHEMA, FS_TABLE, FsPath, FsRow

__version__ = "1.0.0"

__all__ = [
    "FS_SCHEMA",
    "FS_TABLE",
    "AnyEvent",
    "AnyItem",
    "AuditEnd",
    "AuditStart",
    "DeleteEvent",
    "EventBase",
    "FsEvent",
    "FsItem",
    "FsPath",
    "FsRow",
    "InsertEvent",
    "JobDone",
    "Listed",
    "MessageSource",
    "Moved",
    "RowsDigest",
    "Signal",
    "SnapshotEnd",
    "Unchanged",
    "UpdateEvent",
    "decode_fs_items",
    "encode_item",
    "encode_items",
]
