"""
The pump of a source worker: it moves a source driver's items into the data link, lane by lane.

The main thread is the pump and the only one that calls the driver. What the pusher says
comes through the inbox of the link's end, as do the operator's orders.
"""

import enum
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from fustor_agent import link
from fustor_agent.audits import Audits
from fustor_agent.outgoing import Outgoing
from fustor_agent.reports import SourceReport
from fustor_agent.scans import Scans
from fustor_agent.snapshots import Snapshots
from fustor_agent.sourcelink import Attached, Entry, FromLink, SourceLink
from fustor_core.drivers import (
    AUDIT_KINDS,
    Barrier,
    Command,
    Item,
    Look,
    Role,
    Scan,
    SourceDriver,
    StartAudit,
    StartSnapshot,
    Sync,
    Verify,
)
from fustor_core.errors import Unavailable
from fustor_event_model import AuditEnd, JobDone, MessageSource, SnapshotEnd
from fustor_supervisor.channel import Channel

if TYPE_CHECKING:
    from fustor_supervisor.messages import Command as Order
    from fustor_supervisor.runtime import Runtime

_BATCH_ROWS: Final = 4_000
_SHARED_BATCH_ROWS: Final = 2_000
_IDLE_S: Final = 3600.0
_WAITING_S: Final = 1.0
_REPORT_EVERY_S: Final = 0.25
_WALKS: Final = (MessageSource.ON_DEMAND, MessageSource.SENTINEL, MessageSource.SNAPSHOT, MessageSource.AUDIT)
"""The lanes of walks, first to last: what somebody asked for goes before what the source owes to all."""
_log = logging.getLogger(__name__)


class Pumped(enum.Enum):
    """What became of one round of a walk."""

    SENT = "sent"
    NOTHING = "nothing"  # at this moment: the driver's `wait` knows when there is more
    ENDED = "ended"


class _Told(NamedTuple):
    """What was reported last, apart from what changes with every step."""

    counters: dict[str, int]
    phase: str
    detail: bytes


class SourceWorker:
    """
    The pump.

    Args:
        runtime: For reports, orders and the request to stop.
        driver: Called from the pump's thread only, `wake` apart.
        audits: When which audit is due.
        now: Monotonic seconds.
    """

    def __init__(
        self, runtime: "Runtime", driver: SourceDriver, audits: Audits, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._runtime = runtime
        self._driver = driver
        self._audits = audits
        self._now = now
        self._link = SourceLink(driver.wake, lambda why: runtime.fail(why, permanent=False))
        self._session: link.SessionNews | None = None
        self._snapshot_session = ""
        self._audit_session = ""
        self._is_following = False
        self._messages = driver.get_message_iterator()
        self._walks: dict[MessageSource, deque[Iterator[Item | None]]] = {each: deque() for each in _WALKS}
        self._snapshots = Snapshots()
        self._scans = Scans(driver.scan_path)
        self._realtime_was_busy = False
        self._steps = 0
        self._sent = 0
        self._acknowledged = 0
        self._reported_at = float("-inf")
        self._reported_busy = True
        self._moved_at = float("-inf")
        self._is_report_stale = True
        self._told = _Told({}, "", b"")

    # -- called from other threads ----------------------------------------------------------

    def attach(self, name: str, epoch: int, channel: Channel) -> None:
        """Take a new link; whoever waits on the old one is woken."""
        self._link.attach(epoch, channel)

    def order(self, order: "Order") -> None:
        """Take an order of the operator."""
        self._link.put(order)

    # -- called by the driver, within a call of it ------------------------------------------

    def note_progress(self, quiet_s: float = 0.0) -> None:
        """Show that the driver moves although it yields nothing."""
        self._steps += 1
        now = self._now()
        if quiet_s or now - self._moved_at >= _REPORT_EVERY_S:
            self._moved_at = now
            self._tell(busy=self._reported_busy, patience_s=quiet_s)  # a driver may also move while it waits

    # -- the pump ---------------------------------------------------------------------------

    def run(self) -> None:
        """Pump until the worker is to stop, then deliver what is at hand."""
        while not self._runtime.stop_requested.is_set():
            self._runtime.alive()
            if self._turn():
                self._is_report_stale = True
            else:
                self._report(busy=False)
                self._driver.wait(self._get_idle_wait_s())
        self._drain()

    def _get_idle_wait_s(self) -> float:
        if self._is_report_stale:
            return _REPORT_EVERY_S
        if self._link.waits_for_acks or not self._link.is_attached:
            return _WAITING_S
        due_s = self._audits.get_due_s()
        return _IDLE_S if due_s is None else min(_IDLE_S, max(0.0, due_s - self._now()))

    def _drain(self) -> None:
        """Deliver what was read, within half of the grace time; what stays behind is looked at again next time."""
        deadline = self._now() + self._runtime.grace_s / 2
        while self._now() < deadline and self._link.is_attached and self._session is not None:
            if self._turn():
                continue
            if not self._link.waits_for_acks:
                break
            self._driver.wait(min(0.1, max(0.0, deadline - self._now())))

    def _turn(self) -> bool:
        """Do one round; returns whether anything moved."""
        self._move()
        moved = False
        while (entry := self._link.take()) is not None:
            self._take(entry)
            moved = True
        if not self._is_auditing() and (complete := self._audits.settle(self._now())) is not None:
            self._link.send(link.AuditEnds(self._audit_session, complete))
        if not self._link.is_attached or self._session is None:
            return moved
        self._realtime_was_busy = self._pump_messages()
        moved = self._realtime_was_busy or moved
        # A walk that a stop cuts off begins anew with the next start: going on would only delay the stop.
        return moved if self._runtime.stop_requested.is_set() else self._pump_walks() or moved

    def _move(self) -> None:
        """Show that the worker moves: also within a batch, which takes long where each name takes long to look at."""
        self._steps += 1
        self._report(busy=True)

    def _pump_walks(self) -> bool:
        moved = False
        for lane in _WALKS:
            if lane is MessageSource.AUDIT:
                self._start_due_audit()
            walks = self._walks[lane]
            if walks and self._link.lanes[lane].is_open:
                pumped = self._pump(lane, walks[0])
                moved = moved or pumped is not Pumped.NOTHING
                if pumped is Pumped.ENDED:
                    walks.popleft()
        return moved

    def _get_batch_rows(self, lane: MessageSource) -> int:
        yields = lane is MessageSource.SNAPSHOT or lane is MessageSource.AUDIT
        return _SHARED_BATCH_ROWS if yields and self._realtime_was_busy else _BATCH_ROWS

    def _pump_messages(self) -> bool:
        lane = MessageSource.REALTIME
        if not self._link.lanes[lane].is_open:
            return False
        batch = Outgoing()
        moved = False
        for item in self._messages:
            if item is None:
                break
            moved = True
            self._move()
            if isinstance(item, Barrier):
                self._send_batch(lane, batch)
                batch = Outgoing()
                self._link.send(link.BarrierReached(item.token))
                if not self._link.lanes[lane].is_open:
                    break
            else:
                batch.add(item)
                if batch.is_full(_BATCH_ROWS):
                    break
        self._send_batch(lane, batch)
        return moved

    def _pump(self, lane: MessageSource, items: Iterator[Item | None]) -> Pumped:
        """Send one batch on a lane that is open, if there is something to send."""
        enough = self._get_batch_rows(lane)
        batch = Outgoing()
        for item in items:
            if item is None:
                break
            self._move()
            batch.add(item)
            if batch.is_full(enough):
                break
        else:
            self._send_batch(lane, batch)
            return Pumped.ENDED
        self._send_batch(lane, batch)
        return Pumped.SENT if batch.items else Pumped.NOTHING

    def _send_batch(self, lane: MessageSource, batch: Outgoing) -> None:
        if not batch.items:
            return
        for end in batch.ends:
            if isinstance(end, SnapshotEnd):
                self._snapshots.end(end)
            elif isinstance(end, AuditEnd):
                self._audits.end(complete=end.complete)
        self._sent += batch.rows
        if lane is MessageSource.SNAPSHOT:
            self._snapshots.count(batch.rows, batch.compared)
        session = self._session.id if self._session is not None else ""
        seq = self._link.send_batch(lane, batch, session)
        for end in batch.ends:
            if isinstance(end, JobDone):
                self._scans.end(end, seq)

    # -- the inbox --------------------------------------------------------------------------

    def _take(self, entry: Entry) -> None:
        match entry:
            case Attached():
                self._begin_epoch(entry)
            case FromLink():
                if entry.epoch == self._link.epoch:
                    self._hear(entry.message)
            case _:
                self._obey(entry)

    def _begin_epoch(self, attached: Attached) -> None:
        self._session = None
        if self._link.lanes[MessageSource.AUDIT].unacknowledged:
            self._audits.lose_end()
        self._link.begin_epoch(attached, self._driver.schema, self._driver.recover)
        self._walks[MessageSource.ON_DEMAND] = self._scans.ask_again()

    def _hear(self, message: link.FromPusher) -> None:
        match message:
            case link.SessionNews():
                self._session = message
                self._take_role(message)
            case link.Ack():
                if message.epoch == self._link.epoch:
                    self._take_ack(message)
            case link.LookAgain(epoch=epoch, lane=lane, seq=seq):
                if epoch == self._link.epoch:
                    if lane is MessageSource.AUDIT:
                        self._audits.lose_end()
                    for position in self._link.lanes[lane].take_one(seq):
                        self._driver.recover(position)
                    if lane is MessageSource.ON_DEMAND:
                        self._walks[lane] = self._scans.ask_again()
            case link.Do(command=command):
                self._do(command)
            case link.PusherHello():
                pass

    def _take_ack(self, ack: link.Ack) -> None:
        self._snapshots.refuse(ack.refused)
        differing = {each.position: each.known for each in ack.differing}
        for position in self._link.lanes[ack.lane].acknowledge(ack.seq):
            self._acknowledged += 1
            if position in differing:
                self._driver.differs(position, known=differing[position])
            else:
                self._acknowledge(position)
        if ack.lane is MessageSource.ON_DEMAND:
            for job_id in self._scans.acknowledge(ack.seq):
                self._link.send(link.ScanOver(job_id))

    def _acknowledge(self, position: bytes) -> None:
        self._driver.acknowledge(position)
        if self._snapshots.acknowledge(position):
            self._audits.accept_snapshot(self._now())
            report = self._snapshots.report
            _log.info("snapshot accepted rows=%d compared=%d", report.rows, report.compared)

    def _take_role(self, news: link.SessionNews) -> None:
        self._audits.wish(news.audit_interval_s)
        self._driver.takes_moves = news.takes_moves
        if news.role is Role.LEADER:
            if news.id != self._snapshot_session:
                self._snapshot_session = news.id
                self._cut_audit_off()
                self._start_snapshot()
            self._is_following = False
        elif not self._is_following:
            self._is_following = True
            self._snapshot_session = ""
            self._walks[MessageSource.SNAPSHOT].clear()
            self._cut_audit_off()
            self._snapshots.give_up()
            self._driver.follow()

    def _start_snapshot(self) -> None:
        self._snapshots.begin(self._now())
        compares = self._session is not None and self._session.compares
        make = self._driver.get_comparing_iterator if compares else self._driver.get_snapshot_iterator
        self._walks[MessageSource.SNAPSHOT] = deque([make()])
        _log.info("snapshot started")

    def _do(self, command: Command) -> None:
        match command:
            case Sync(token=token):
                try:
                    self._driver.barrier(token)
                except Unavailable as err:
                    self._link.send(link.BarrierReached(token, str(err)))
            case Scan(path=path, recursive=recursive, job_id=job_id):
                scan = self._scans.ask(path, recursive=recursive, job_id=job_id)
                self._walks[MessageSource.ON_DEMAND].append(scan)
            case Verify(paths=paths):
                self._walks[MessageSource.SENTINEL].append(self._driver.perform_sentinel_check(paths))
            case Look(paths=paths):
                for path in paths:
                    self._driver.rescan(path, recursive=False)
            case StartSnapshot():
                if self._session is not None and self._session.role is Role.LEADER:
                    self._start_snapshot()
            case StartAudit(kind=kind):
                problem = self._start_audit(kind)
                if problem is not None:
                    _log.warning("audit not started kind=%s reason=%s", kind, problem)

    def _start_audit(self, kind: str) -> str | None:
        """Start an audit; returns why it cannot be."""
        if kind not in AUDIT_KINDS:
            return f'there is no audit of kind "{kind}"; use one of: {", ".join(AUDIT_KINDS)}'
        if self._session is None or self._session.role is not Role.LEADER:
            return "only a leader audits"
        if self._is_auditing():
            return "an audit is running already; wait until it has ended"
        try:
            self._walks[MessageSource.AUDIT].append(self._driver.get_audit_iterator(kind))
        except NotImplementedError as err:
            return str(err)
        self._audits.begin(kind)
        self._audit_session = self._session.id
        self._link.send(link.AuditBegins(self._session.id))
        _log.info("audit started kind=%s", kind)
        return None

    def _is_auditing(self) -> bool:
        """Tell whether an audit has more to say, or said something that is not acknowledged."""
        lane = MessageSource.AUDIT
        return bool(self._walks[lane]) or self._link.lanes[lane].unacknowledged > 0

    def _start_due_audit(self) -> None:
        if self._walks[MessageSource.SNAPSHOT] or self._is_auditing():
            return
        kind = self._audits.find_due(self._now())
        if kind is not None and self._start_audit(kind) is not None:
            self._audits.cut_off()  # it can never be: nothing is due before the next session

    def _cut_audit_off(self) -> None:
        self._walks[MessageSource.AUDIT].clear()
        if self._audits.cut_off():
            self._link.send(link.AuditEnds(self._audit_session, complete=False))

    def _obey(self, order: "Order") -> None:
        problem: str | None = None
        result = f"{order.action} started"
        match order.action:
            case "record":
                try:
                    result = f"recorded into {self._driver.record()}"
                except (NotImplementedError, OSError) as err:
                    problem = str(err)
            case "snapshot":
                if self._session is None or self._session.role is not Role.LEADER:
                    problem = "only a leader sends snapshots, and there is no session yet or another leads"
                else:
                    self._start_snapshot()
            case "audit":
                problem = self._start_audit(order.target or "full")
            case "rescan":
                job_id, _, quoted = order.target.partition("/")
                scan = self._scans.ask(b"/" + unquote_to_bytes(quoted), recursive=True, job_id=job_id)
                self._walks[MessageSource.ON_DEMAND].append(scan)
            case _:
                problem = f'a source does not know the action "{order.action}"'
        self._runtime.reply(order.id, problem or result, ok=problem is None)

    # -- reports ----------------------------------------------------------------------------

    def _report(self, *, busy: bool) -> None:
        """Say whether work is under way, at once, and how far it is, at most every quarter second."""
        now = self._now()
        if now - self._reported_at >= _REPORT_EVERY_S:
            self._reported_at = now
            self._is_report_stale = False
            self._told = self._make_report()
        elif busy == self._reported_busy:
            return
        self._reported_busy = busy
        self._tell(busy=busy)

    def _tell(self, *, busy: bool, patience_s: float = 0.0) -> None:
        told = self._told
        counters = told.counters | {"steps": self._steps}
        self._runtime.report(counters, phase=told.phase, detail=told.detail, owed=busy, patience_s=patience_s)

    def _make_report(self) -> "_Told":
        status = self._driver.get_status()
        report = SourceReport(
            phase=self._get_phase(),
            captured=status.captured,
            pending=status.pending,
            dirty=status.dirty,
            overflows=status.overflows,
            sent=self._sent,
            lag_s=round(status.lag_s, 3),
            not_current_because=self._why_not_current(status.not_current_because),
            snapshot=self._snapshots.describe(status.progress, self._now()),
            refused=self._snapshots.refused,
            audit=self._audits.describe(status.audit),
            scans=self._scans.describe(),
            skipped=dict(status.skipped),
            details=dict(status.details),
        )
        counters = {
            "captured": status.captured,
            "overflows": status.overflows,
            "sent": self._sent,
            "acknowledged": self._acknowledged,
        }
        return _Told(counters, report.phase, msgspec.msgpack.encode(report))

    def _get_phase(self) -> str:
        if self._session is None:
            return "waiting"
        if self._walks[MessageSource.SNAPSHOT]:
            return "snapshot"
        return "audit" if self._walks[MessageSource.AUDIT] else "realtime"

    def _why_not_current(self, driver_says: str | None) -> str | None:
        if not self._link.is_attached:
            return "the pusher is not attached"
        if self._session is None:
            return "there is no session with the receiver yet"
        return driver_says
