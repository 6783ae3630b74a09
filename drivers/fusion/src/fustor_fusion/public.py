"""Rows of public agents: from their JSON to items of our own; row by row, so that a bad one spoils no other."""

import json
import posixpath
import stat
from collections.abc import Callable

import msgspec

from fustor_event_model import (
    FS_SCHEMA,
    FS_TABLE,
    DeleteEvent,
    FsItem,
    FsPath,
    FsRow,
    Listed,
    MessageSource,
    UpdateEvent,
)
from fustor_fusion.paths import BadPath, normalise_text
from fustor_fusion.protocol import PublicEvent, PublicIngest, PublicRow, RefusedAnswer
from fustor_fusion.times import to_ns

# Realtime arrives before the audit that has not seen it: what came this shortly before the
# first audit row may be missing in the agent's listing though it exists.
_AUDIT_GRACE_NS = 3 * 10**9


class OpenAudit(msgspec.Struct):
    """
    An audit of a public agent under way.

    Args:
        started: Index of its start, as far as deletions go.
        first: Index below that of all its rows.
        listed: The directories that it promised to list wholly, and their mtimes.
        skipped: Those that it passed over, since their mtimes are what they were, and these.
        broken: One of its calls or rows was refused, so it deletes nothing.
    """

    started: int
    first: int
    listed: dict[bytes, int]
    skipped: dict[bytes, int]
    broken: bool = False


_decode_row = msgspec.json.Decoder(PublicRow).decode
_decode_ingest = msgspec.json.Decoder(PublicIngest).decode


def decode_ingest(data: bytes) -> PublicIngest:
    """
    Decode a body, leaving its rows for `convert_row`.

    Raises:
        ValueError, RecursionError: The envelope is malformed; says why.
    """
    try:
        return _decode_ingest(data)
    except msgspec.DecodeError:
        # A lone surrogate in one row, which common JSON writers make of a bad byte, must not
        # spoil the others; the standard library reads it.
        return _decode_leniently(data)


def _decode_leniently(data: bytes) -> PublicIngest:
    body = json.loads(data)
    rows: list[list[msgspec.Raw]] = []
    events = body.get("events") if isinstance(body, dict) else None
    for event in events if isinstance(events, list) else []:
        if isinstance(event, dict) and isinstance(event.get("rows"), list):
            rows.append([msgspec.Raw(json.dumps(row).encode()) for row in event["rows"]])
            event["rows"] = []
    ingest = msgspec.convert(body, PublicIngest)
    return msgspec.structs.replace(ingest, events=[
        msgspec.structs.replace(event, rows=members) for event, members in zip(ingest.events, rows, strict=True)])


def convert_events(
    events: list[PublicEvent], refused: list[RefusedAnswer], audit: OpenAudit | None
) -> Callable[[Callable[[], int]], list[FsItem]]:
    """
    Convert the events of one body.

    Args:
        events: As decoded.
        refused: Gets the rows that cannot be taken.
        audit: The open audit of the sender, which learns the directories of audit rows.

    Returns:
        A function that makes the items, given a clock that stamps each.
    """
    made: list[tuple[MessageSource, bool, list[FsRow]]] = []
    for event in events:
        if event.event_schema != FS_SCHEMA:
            refused += [RefusedAnswer("", f"schema {event.event_schema!r:.40} is not served here")] * len(event.rows)
            continue
        rows: list[FsRow] = []
        for raw in event.rows:
            try:
                row = convert_row(bytes(raw))
            except (ValueError, OverflowError, msgspec.DecodeError) as err:
                refused.append(RefusedAnswer("", f"{err}: {bytes(raw)[:200].decode(errors='replace')}"))
                if audit is not None and event.message_source == "audit":
                    audit.broken = True  # what it names is there, but was not seen
                continue
            rows.append(row)
            if audit is not None and event.message_source == "audit" and row.is_directory:
                (audit.skipped if row.audit_skipped else audit.listed)[row.path] = row.mtime_ns
        if rows:
            made.append((MessageSource(event.message_source), event.event_type == "delete", rows))

    def make_items(stamp: Callable[[], int]) -> list[FsItem]:
        return [_make_event(source, deleted, rows, stamp()) for source, deleted, rows in made]

    return make_items


def end_audit(audit: OpenAudit, before: OpenAudit | None) -> Callable[[Callable[[], int]], list[FsItem]]:
    """
    Make the listings that an audit amounts to.

    A directory that it skipped with the mtime that it had when the one before listed it has the same names
    still: what that one spared, and what nothing was said of since, is gone.

    Args:
        audit: That is over.
        before: The last one of the same session; None when there was none.
    """
    ends = dict.fromkeys(audit.listed, audit.started)
    if before is not None:
        ends |= {path: before.first for path, mtime_ns in audit.skipped.items() if before.listed.get(path) == mtime_ns}

    def make_items(_: Callable[[], int]) -> list[FsItem]:
        return [Listed(index=ends[path], message_source=MessageSource.AUDIT, path=path) for path in sorted(ends)]

    return make_items


def start_audit(now_ns: int) -> OpenAudit:
    """Open an audit that spares what came shortly before."""
    return OpenAudit(now_ns - _AUDIT_GRACE_NS, now_ns, {}, {})


def _make_event(source: MessageSource, deleted: bool, rows: list[FsRow], index: int) -> FsItem:
    if deleted:
        return DeleteEvent(index=index, message_source=source, event_schema=FS_SCHEMA, table=FS_TABLE,
                           rows=[FsPath(row.path) for row in rows])
    return UpdateEvent(index=index, message_source=source, event_schema=FS_SCHEMA, table=FS_TABLE, rows=rows)


def convert_row(raw: bytes) -> FsRow:
    """
    Convert one row; its path becomes absolute and normal.

    Raises:
        ValueError, OverflowError, msgspec.DecodeError: It cannot be taken; says why.
    """
    row = _decode_row(raw)
    text = row.path or row.file_path
    if not text:
        raise BadPath("the row has no path")
    path = normalise_text(posixpath.join("/", text))
    directory = row.is_directory if row.is_directory is not None else bool(row.is_dir)
    mode = stat.S_IFDIR | 0o755 if directory else stat.S_IFREG | 0o644
    atomic = row.is_atomic_write is not False
    mtime_ns = to_ns(row.modified_time or 0.0)
    ctime_ns = mtime_ns if row.created_time is None else to_ns(row.created_time)
    return FsRow(path, _to_int64(row.size or 0), mtime_ns, ctime_ns, mode, 0, 0, 0, 0, 1, None, atomic, None,
                 bool(row.audit_skipped))


def _to_int64(number: float) -> int:
    value = int(number)
    if not -(1 << 63) <= value < 1 << 63:
        raise OverflowError("a number does not fit 64 bits")
    return value
