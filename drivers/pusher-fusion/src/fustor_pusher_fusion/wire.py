"""
Rows as the public protocol spells them; pure.

The public Fusion merges rows by their `message_source` and buries names under tombstones
(docs/decisions/0001-deletes-on-a-public-fusion.md). This module only says what to send;
`public` decides when.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

import msgspec

from fustor_event_model import FS_SCHEMA, FS_TABLE, FsRow

MAX_ROWS: Final = 100
MAX_EVENTS: Final = 100
ABOVE_ALL_S: Final = 90_000_000_000.0
"""A time later than any tombstone, the year 4821."""
BELOW_ALL_S: Final = -10_000_000_000.0
"""A time older than any node's, the year 1653."""

REALTIME: Final = "realtime"
SNAPSHOT: Final = "snapshot"
AUDIT: Final = "audit"

_SURROGATES = re.compile("[\ud800-\udfff]")


class WireRow(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One row, with the public names of its fields; fields that are None stay away."""

    path: str
    file_name: str | None = None
    size: int | None = None
    modified_time: float | None = None
    created_time: float | None = None
    is_directory: bool | None = None
    is_atomic_write: bool | None = None
    parent_path: str | None = None
    parent_mtime: float | None = None


class WireEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of the public protocol."""

    event_type: str
    rows: list[WireRow]
    message_source: str
    index: int
    fields: list[str] = []
    event_schema: str = FS_SCHEMA
    table: str = FS_TABLE


class Outgoing(msgspec.Struct, frozen=True):
    """An event, and for each of its rows the name it has at the source."""

    event: WireEvent
    names: list[bytes]


class Upsert(msgspec.Struct, frozen=True, gc=False):
    """A row as it is now. `quiet`: merge it as a snapshot row, which never overrules a node."""

    path: bytes
    row: FsRow
    index: int
    quiet: bool = False


class Delete(msgspec.Struct, frozen=True, gc=False):
    """A name that is gone."""

    path: bytes
    index: int


Change = Upsert | Delete


class _Ingest(msgspec.Struct, frozen=True, omit_defaults=True):
    events: list[WireEvent]
    source_type: str
    is_end: bool
    metadata: dict[str, str] | None = None


class _Update(msgspec.Struct, frozen=True):
    path: str
    mtime: float
    size: int
    status: str = "exists"


class _Feedback(msgspec.Struct, frozen=True):
    updates: list[_Update]
    type: str = "suspect_update"


def sanitise(path: bytes) -> str:
    """
    Make a path that JSON and the public Fusion can carry.

    Returns:
        The text; each byte that is not UTF-8 is `?`, so two names may become one.
    """
    try:
        return path.decode()
    except UnicodeDecodeError:
        return _SURROGATES.sub("?", path.decode("utf-8", "surrogateescape"))


def seconds(time_ns: int) -> float:
    """Convert as `os.stat` does, so that equal times stay equal floats."""
    whole, rest = divmod(time_ns, 1_000_000_000)
    return whole + 1e-9 * rest


def encode_ingest(
    events: Sequence[WireEvent], source_type: str, *, is_end: bool = False, metadata: dict[str, str] | None = None
) -> bytes:
    """Encode the body of `POST ingest/{sid}/events`."""
    return msgspec.json.encode(_Ingest(list(events), source_type, is_end, metadata))


def encode_feedback(upserts: Sequence[Upsert]) -> bytes:
    """Encode the body of `POST consistency/sentinel/feedback`."""
    updates = [_Update(sanitise(one.path), seconds(one.row.mtime_ns), one.row.size) for one in upserts]
    return msgspec.json.encode(_Feedback(updates))


def encode_changes(changes: Iterable[Change]) -> Iterator[Outgoing]:
    """
    Spell changes as events, in order.

    An upsert that is not quiet becomes two rows: a snapshot row of the far future, which lifts
    a tombstone, and the realtime row, which then always applies.

    Returns:
        Events of 1 to `MAX_ROWS` rows. Within a run of upserts directories come first.
    """
    for (kind, _), run in groupby(changes, key=_group):
        members = list(run)
        for start in range(0, len(members), MAX_ROWS):
            part = members[start : start + MAX_ROWS]
            if kind is Delete:
                yield _outgoing("delete", REALTIME, part, [WireRow(path=sanitise(one.path)) for one in part])
                continue
            upserts = _in_order(part)
            if upserts[0].quiet:
                yield _outgoing("update", SNAPSHOT, upserts, [_row(one, realtime=False) for one in upserts])
            else:
                yield _outgoing("update", SNAPSHOT, upserts, [_lifting_row(one) for one in upserts])
                yield _outgoing("update", REALTIME, upserts, [_row(one, realtime=True) for one in upserts])


def encode_opening(index: int) -> WireEvent:
    """Spell an audit row that opens an audit and is then dropped: its parent is newer than it says."""
    return WireEvent("update", [_mark(b"/.fustor-audit", is_directory=False)], AUDIT, index // 1_000_000)


def encode_listing(directories: Sequence[bytes], files: Sequence[bytes], index: int) -> list[WireEvent]:
    """
    Spell that directories were listed and that files were seen, without changing any node.

    Args:
        directories: All their children were touched since the audit was opened, or are in `files`.
        files: Names of children that are not directories.
        index: Any of the listings'.
    """
    marks = [_mark(path, is_directory=False) for path in files]
    marks += [_mark(path, is_directory=True) for path in directories]
    return [
        WireEvent("update", marks[start : start + MAX_ROWS], AUDIT, index // 1_000_000)
        for start in range(0, len(marks), MAX_ROWS)
    ]


def pages(outgoing: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    """Cut a list of events to what one request may hold."""
    for start in range(0, len(outgoing), MAX_EVENTS):
        yield outgoing[start : start + MAX_EVENTS]


def halve(outgoing: Sequence[Outgoing]) -> tuple[list[Outgoing], list[Outgoing]] | None:
    """Cut events, or the rows of a single event, into two halves; None when it is a single row."""
    if len(outgoing) > 1:
        middle = len(outgoing) // 2
        return list(outgoing[:middle]), list(outgoing[middle:])
    one = outgoing[0]
    middle = len(one.names) // 2
    if not middle:
        return None
    rows, names = one.event.rows, one.names
    return (
        [Outgoing(msgspec.structs.replace(one.event, rows=rows[:middle]), names[:middle])],
        [Outgoing(msgspec.structs.replace(one.event, rows=rows[middle:]), names[middle:])],
    )


def _group(change: Change) -> tuple[type[Change], bool]:
    return (Upsert, change.quiet) if isinstance(change, Upsert) else (Delete, False)


def _in_order(changes: Sequence[Change]) -> list[Upsert]:
    """Keep the last upsert of each name, directories first: a child never meets a parent that is a file."""
    last = {change.path: change for change in changes if isinstance(change, Upsert)}
    return sorted(last.values(), key=lambda upsert: not upsert.row.is_directory)


def _outgoing(event_type: str, source: str, changes: Sequence[Change], rows: list[WireRow]) -> Outgoing:
    index = changes[0].index // 1_000_000
    return Outgoing(WireEvent(event_type, rows, source, index), [change.path for change in changes])


def _row(upsert: Upsert, *, realtime: bool) -> WireRow:
    row = upsert.row
    path = sanitise(upsert.path)
    return WireRow(
        path=path,
        file_name=posixpath.basename(path),
        size=row.size,
        modified_time=seconds(row.mtime_ns),
        created_time=seconds(row.ctime_ns),
        is_directory=row.is_directory,
        is_atomic_write=row.is_atomic_write if realtime and not row.is_directory else None,
    )


def _lifting_row(upsert: Upsert) -> WireRow:
    return WireRow(
        path=sanitise(upsert.path),
        size=upsert.row.size,
        modified_time=ABOVE_ALL_S,
        is_directory=upsert.row.is_directory,
    )


def _mark(path: bytes, *, is_directory: bool) -> WireRow:
    text = sanitise(path)
    return WireRow(
        path=text,
        size=0,
        modified_time=BELOW_ALL_S,
        is_directory=is_directory,
        parent_path=posixpath.dirname(text),
        parent_mtime=BELOW_ALL_S,
    )
