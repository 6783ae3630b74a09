"""
Push to a public Fusion, with what its protocol has.

Rows. While a session is fresh, its snapshot travels as snapshot rows: the view holds nothing
older. Everything else travels as realtime rows, behind rows that lift tombstones, because
the other sources never overrule a node of the same or a newer mtime: after a restart, a
fail-over or a repeated snapshot, sizes would stay wrong.

Listings. An audit is opened, everything that the listing named is touched as realtime, and
one request names the directory and ends the audit: children that were not touched go. Only
the leader does it, since there is one audit per view and ending it ends the leader's too.

Source: docs/decisions/0001-deletes-on-a-public-fusion.md.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from fustor_core.drivers import Batch, RefusedRow
from fustor_core.errors import DriverError, SessionLost, Uncertain
from fustor_event_model import (
    DeleteEvent,
    FsEvent,
    FsItem,
    InsertEvent,
    JobDone,
    Listed,
    MessageSource,
    Signal,
    SnapshotEnd,
    UpdateEvent,
    decode_fs_items,
)
from fustor_pusher_fusion import wire
from fustor_pusher_fusion.answers import explain, read_pushed, was_processed
from fustor_pusher_fusion.client import Answer, Channel
from fustor_pusher_fusion.recent import lineage, parent
from fustor_pusher_fusion.session import SessionState

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S: Final = 45.0
"""Ending an audit waits until the receiver's queue is empty, for up to 30 s."""

SOURCE_TYPES: Final[Mapping[MessageSource, str]] = {
    MessageSource.REALTIME: "message",
    MessageSource.ON_DEMAND: "on_demand_job",
    MessageSource.SENTINEL: "message",
    MessageSource.SNAPSHOT: "snapshot",
    MessageSource.AUDIT: "audit",
}


class PublicPush:
    """
    The pushes of one session; used by one thread.

    Args:
        channel: The connection for pushes.
        state: The session; what it remembers is updated.
    """

    def __init__(self, channel: Channel, state: SessionState) -> None:
        self._channel = channel
        self._state = state
        self._refused: dict[bytes, str] = {}

    def push(self, batch: Batch) -> list[RefusedRow]:
        """
        Push one batch; it is queued at the receiver when this returns.

        Raises:
            Unavailable, Uncertain, SessionLost, ConfigError.
        """
        self._refused = {}
        try:
            items = decode_fs_items(batch.items)
        except msgspec.DecodeError as err:
            raise DriverError(f"batch of lane {batch.lane.value} holds no fs items: {err}") from err
        part: list[FsItem] = []
        for item in items:
            if isinstance(item, Signal) and not isinstance(item, Listed):
                self._send_part(batch.lane, part)
                part = []
                self._send_signal(item)
            else:
                part.append(item)
        self._send_part(batch.lane, part)
        return [RefusedRow(path, reason) for path, reason in self._refused.items()]

    def end_audit(self) -> None:
        """
        Say that an audit was complete: it tells readers when the last one was, and deletes nothing.

        Raises:
            Unavailable, Uncertain, SessionLost, ConfigError.
        """
        if self._state.leads:
            _require_accepted(self._channel.call("POST", "consistency/audit/start", idempotent=True), any_body=True)
            self._post_audit([], is_end=True)

    # -- rows and listings ------------------------------------------------------------

    def _send_part(self, lane: MessageSource, items: Sequence[FsItem]) -> None:
        """Send events and listings that stand between two other signals."""
        changes: list[wire.Change] = []
        listed: dict[bytes, tuple[int, int]] = {}
        for item in items:
            if isinstance(item, Listed):
                listed[item.path] = (item.index, len(changes))
            elif isinstance(item, InsertEvent | UpdateEvent | DeleteEvent):
                changes.extend(self._changes(lane, item))
        due = self._due(lane, {path: index for path, (index, _) in listed.items()}, changes)
        # What a listing did not name again is gone; said within its audit, it would count as touched.
        standing = {
            place: change
            for place, change in enumerate(changes)
            if isinstance(change, wire.Delete) or change.index >= due.get(parent(change.path), 0)
        }
        changes = list(standing.values())
        if due:
            self._complete_listings(lane, due, changes)
        elif changes:
            rows = self._send_feedback(changes) if lane is MessageSource.SENTINEL else changes
            self._send_changes(lane, rows)
        for place, change in standing.items():
            directory = parent(change.path)
            # What stands before the word that its directory was listed has been compared.
            compared = directory in due and place < listed[directory][1]
            if not compared and not (isinstance(change, wire.Upsert) and change.quiet):
                self._state.recent.add(change)

    def _changes(self, lane: MessageSource, event: FsEvent) -> Iterable[wire.Change]:
        """Take an event apart; what something newer was pushed about stays away."""
        recent = self._state.recent
        changes: list[wire.Change]
        if isinstance(event, DeleteEvent):
            changes = [wire.Delete(event.prefix + row.path, event.index) for row in event.rows]
        else:
            quiet = lane is MessageSource.SNAPSHOT and self._state.fresh
            # A name that was sent before may have a newer mtime there, or a tombstone.
            changes = [
                wire.Upsert(path, row, event.index, quiet=quiet and not recent.knows(path))
                for row in event.rows
                for path in (event.prefix + row.path,)
            ]
        return [change for change in changes if not recent.is_overtaken(change)]

    def _due(
        self, lane: MessageSource, listed: Mapping[bytes, int], changes: Iterable[wire.Change]
    ) -> dict[bytes, int]:
        """Choose the listings that must be completed by an audit, after the changes they came with."""
        recent = self._state.recent
        if not listed or not self._state.leads or (lane is MessageSource.SNAPSHOT and self._state.fresh):
            return {}
        removing = (one for one in changes if isinstance(one, wire.Delete) or not one.row.is_directory)
        removed = {change.path: change.index for change in removing}
        due = {
            path: index
            for path, index in listed.items()
            if recent.is_due(path, index) and all(removed.get(each, -1) < index for each in lineage(path))
        }
        for path in [path for path, index in due.items() if not recent.is_complete(index)]:
            del due[path]
            log.warning("listing too large to be compared, names that vanished stay until the next one path=%r", path)
        return due

    def _complete_listings(self, lane: MessageSource, due: Mapping[bytes, int], changes: list[wire.Change]) -> None:
        """Touch what the listings named within an audit, so that its end removes the rest."""
        recent = self._state.recent
        first = min(due.values())
        files: list[bytes] = []
        touched: list[wire.Change] = []
        for path, index in due.items():
            seen, directories = recent.children(path, index)
            files.extend(seen)
            touched.extend(directories)
        self._post_audit([wire.encode_opening(first)], is_end=False)
        self._send_changes(lane, touched + changes)
        marks = wire.encode_listing(list(due), files, first)
        while len(marks) > wire.MAX_EVENTS:
            self._post_audit(marks[: wire.MAX_EVENTS], is_end=False)
            marks = marks[wire.MAX_EVENTS :]
        self._post_audit(marks, is_end=True)
        for path, index in due.items():
            recent.finish(path, index)

    def _send_changes(self, lane: MessageSource, changes: Iterable[wire.Change]) -> None:
        for page in wire.pages(list(wire.encode_changes(changes))):
            self._post_rows(SOURCE_TYPES[lane], page)

    def _post_rows(self, source_type: str, page: Sequence[wire.Outgoing]) -> None:
        """Post events; what is refused is cut down to the rows that cause it."""
        answer = self._post(wire.encode_ingest([one.event for one in page], source_type))
        if answer.status not in (400, 413, 422):
            _require_accepted(answer)
            return
        halves = wire.halve(page)
        if halves is None:
            self._refused[page[0].names[0]] = answer.reason
            return
        for half in halves:
            self._post_rows(source_type, half)

    def _send_feedback(self, changes: list[wire.Change]) -> list[wire.Change]:
        """Answer a sentinel task; return what must go as rows."""
        files = [one for one in changes if isinstance(one, wire.Upsert) and not one.row.is_directory]
        if not files:
            return changes
        body = wire.encode_feedback(files)
        if was_processed(self._channel.call("POST", "consistency/sentinel/feedback", body=body, idempotent=True)):
            return [one for one in changes if one not in files]
        return changes

    # -- signals ----------------------------------------------------------------------

    def _send_signal(self, signal: Signal) -> None:
        if isinstance(signal, SnapshotEnd):
            self._end_snapshot(complete=signal.complete)
        elif isinstance(signal, JobDone):
            about = {"scan_path": wire.sanitise(signal.path)} | ({"job_id": signal.job_id} if signal.job_id else {})
            _require_accepted(self._post(wire.encode_ingest([], "job_complete", metadata=about), idempotent=True))

    def _end_snapshot(self, *, complete: bool) -> None:
        if complete and self._state.leads:
            # No audit is open: this only waits for the queue, so that readers find all rows.
            self._post_audit([], is_end=True)
            _require_accepted(self._post(wire.encode_ingest([], "snapshot", is_end=True), idempotent=True))
        self._state.fresh = False

    # -- requests ---------------------------------------------------------------------

    def _post_audit(self, events: Sequence[wire.WireEvent], *, is_end: bool) -> None:
        answer = self._post(wire.encode_ingest(events, "audit", is_end=is_end), read_timeout_s=DRAIN_TIMEOUT_S)
        _require_accepted(answer)

    def _post(self, body: bytes, *, idempotent: bool = False, read_timeout_s: float | None = None) -> Answer:
        path = f"ingest/{self._state.session.id}/events"
        return self._channel.call("POST", path, body=body, idempotent=idempotent, read_timeout_s=read_timeout_s)


def _require_accepted(answer: Answer, *, any_body: bool = False) -> None:
    """Raise unless Fusion took it."""
    if answer.ok:
        if any_body or not answer.body or read_pushed(answer) is not None:
            return
        raise Uncertain("push: the answer is not Fusion's; check endpoint")
    if answer.status in (404, 419):
        raise SessionLost(f"push: Fusion answers {answer.reason}")
    if answer.status >= 500 and answer.status != 503:
        raise Uncertain(f"push: Fusion answers {answer.reason}")
    raise explain(answer, "push")
