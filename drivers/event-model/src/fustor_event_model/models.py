"""
What moves from a source to Fusion: change events and lifecycle signals.

Everything here is a frozen, tagged `msgspec.Struct`, encoded as a msgpack array
`[tag, field, field, ...]`. Fields are only ever added at the end, with a default;
`tests/fustor_event_model/test_models.py` holds golden bytes that say so.

An event is one change of one or more rows of one schema. Rows of one event share
`prefix`, so that a directory's path travels once for all its children: the key of a
row is `prefix + row.path`, always an absolute path below the source's root, as bytes.
"""

import enum
from typing import Generic, TypeAlias, TypeVar

import msgspec

from fustor_event_model.rows import FsPath, FsRow


class MessageSource(enum.Enum):
    """
    How the agent knows what an event says; also the lane on which it travels.

    The order of the members is the order of priority, first to last.
    """

    REALTIME = "realtime"
    ON_DEMAND = "on_demand_job"
    SENTINEL = "sentinel"
    SNAPSHOT = "snapshot"
    AUDIT = "audit"


Row = TypeVar("Row")


class EventBase(msgspec.Struct, Generic[Row], frozen=True, array_like=True, gc=False, tag="event", kw_only=True):
    """
    One change of one or more rows of one schema.

    Args:
        index: When it was looked at: nanoseconds on the pipe's index clock, taken
            before the look. Of two observations of one path by one pipe, the higher wins.
        message_source: How the agent knows.
        event_schema: Name of the row type, for example `fs`.
        table: The table within the schema; `files` for `fs`.
        rows: One or more rows, in the order in which they were seen.
        prefix: Bytes in front of each row's path.
        position: Opaque to everyone but the driver that made it; handed back by
            `SourceDriver.acknowledge` or `SourceDriver.recover`.
    """

    index: int
    message_source: MessageSource
    event_schema: str
    table: str
    rows: list[Row]
    prefix: bytes = b""
    position: bytes | None = None


class InsertEvent(EventBase[Row], Generic[Row], frozen=True, array_like=True, gc=False, tag="insert", kw_only=True):
    """Rows that are known not to have existed before."""


class UpdateEvent(EventBase[Row], Generic[Row], frozen=True, array_like=True, gc=False, tag="update", kw_only=True):
    """Rows as they are now, whether or not they existed before."""


class DeleteEvent(EventBase[Row], Generic[Row], frozen=True, array_like=True, gc=False, tag="delete", kw_only=True):
    """Rows that were looked for and are gone; a row that had children takes them with it."""


class Signal(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="signal", kw_only=True):
    """
    A lifecycle signal: something that is true of a phase, not of a row.

    Args:
        index: As in `EventBase`.
        message_source: The lane, and so the phase, it belongs to.
        position: As in `EventBase`.
    """

    index: int
    message_source: MessageSource
    position: bytes | None = None


class Listed(Signal, frozen=True, array_like=True, gc=False, tag="listed", kw_only=True):
    """
    A directory was listed completely, starting at `index`.

    All its children were sent before this signal, with this index or a higher one.
    Children that were not named and have a lower index are gone.

    Args:
        path: The directory, absolute below the root; `b"/"` is the root.
    """

    path: bytes


class Unchanged(Signal, frozen=True, array_like=True, gc=False, tag="unchanged", kw_only=True):
    """
    A directory was listed completely, starting at `index`, and the receiver is expected to hold just what was found.

    Only for a receiver that compares, see `Session.compares`. If it holds that, the signal stands
    for all the rows and their `Listed`; if not, the signal does nothing and the receiver says so.

    Args:
        path: The directory, absolute below the root; `b"/"` is the root.
        count: How many rows: the directory's own and those of its children.
        digest: Their `RowsDigest`.
    """

    path: bytes
    count: int
    digest: bytes


class Moved(Signal, frozen=True, array_like=True, gc=False, tag="moved", kw_only=True):
    """
    A directory was renamed, with all below it; at `index` it was seen at its new place.

    Sent only to a receiver whose session takes moves. What is below it is not sent again, so a
    receiver that does not have this directory at `before` must refuse the batch as a whole.

    Args:
        path: Where it is, absolute below the root.
        before: Where it was, likewise.
        device: Which directory it is.
        inode: Likewise.
    """

    path: bytes
    before: bytes
    device: int
    inode: int


class SnapshotEnd(Signal, frozen=True, array_like=True, gc=False, tag="snapshot_end", kw_only=True):
    """
    The walk that a leader owes is over.

    Args:
        complete: False when it was cut off; then it promises nothing.
    """

    complete: bool


class AuditStart(Signal, frozen=True, array_like=True, gc=False, tag="audit_start", kw_only=True):
    """
    An audit begins; sent before its first look.

    Args:
        kind: `incremental` or `full`.
    """

    kind: str


class AuditEnd(Signal, frozen=True, array_like=True, gc=False, tag="audit_end", kw_only=True):
    """
    An audit is over.

    Args:
        complete: False when it failed or was cut off; then it deletes nothing.
    """

    complete: bool


class JobDone(Signal, frozen=True, array_like=True, gc=False, tag="job_done", kw_only=True):
    """
    An on-demand scan is over; its rows were sent before.

    Args:
        job_id: As given with the command.
        path: What was scanned, absolute below the root.
        complete: False when part of it could not be read.
    """

    job_id: str
    path: bytes
    complete: bool = True


FsEvent: TypeAlias = InsertEvent[FsRow] | UpdateEvent[FsRow] | DeleteEvent[FsPath]
FsItem: TypeAlias = FsEvent | Listed | Unchanged | Moved | SnapshotEnd | AuditStart | AuditEnd | JobDone

AnyEvent: TypeAlias = InsertEvent[msgspec.Raw] | UpdateEvent[msgspec.Raw] | DeleteEvent[msgspec.Raw]
AnyItem: TypeAlias = AnyEvent | Listed | Unchanged | Moved | SnapshotEnd | AuditStart | AuditEnd | JobDone
