"""
The source worker: pumps a source driver's items into the data link, lane by lane.

The main thread is the pump and the only one that calls the driver. A thread per link
reads what the pusher says into the inbox and wakes the pump; it never sends, so reading
never waits for writing. What was sent and not acknowledged is remembered as positions,
not as bytes: when a link dies, the driver looks at the places again.
"""

import enum
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fustor_agent import link
from fustor_agent.audits import Audits
from fustor_agent.lane import Lane
from fustor_agent.reports import SnapshotReport, SourceReport
from fustor_agent.timestamps import format_now
from fustor_core.drivers import (
    AUDIT_KINDS,
    Barrier,
    Command,
    Item,
    Role,
    Scan,
    SourceContext,
    SourceDriver,
    StartAudit,
    StartSnapshot,
    Sync,
    Verify,
)
from fustor_core.errors import ConfigError, FustorError, Unavailable
from fustor_event_model import AuditEnd, EventBase, MessageSource, SnapshotEnd, encode_items
from fustor_supervisor.channel import Channel
from fustor_supervisor.errors import LinkClosed

if TYPE_CHECKING:
    from fustor_supervisor.messages import Command as Order
    from fustor_supervisor.runtime import Runtime

_BATCH_ROWS: Final = 4_000
_SHARED_BATCH_ROWS: Final = 2_000
_IDLE_S: Final = 3600.0
_WAITING_S: Final = 1.0
_REPORT_EVERY_S: Final = 0.25
_log = logging.getLogger(__name__)


class SourceSettings(msgspec.Struct, frozen=True):
    """
    What a source worker is given.

    Args:
        pipe_id: The pipe.
        type: The driver.
        config: The driver's part of the configuration, as read.
        audit_interval_s: Between automatic incremental audits; 0 is never.
        full_audit_interval_s: Between automatic full audits; 0 is never.
    """

    pipe_id: str
    type: str
    config: dict[str, Any]
    audit_interval_s: float = 0.0
    full_audit_interval_s: float = 0.0


class Attached(msgspec.Struct, frozen=True):
    """A new link, and what is read from it."""

    epoch: int
    channel: Channel


class Pumped(enum.Enum):
    """What became of one round of a walk."""

    SENT = "sent"
    NOTHING = "nothing"  # at this moment: the driver's `wait` knows when there is more
    ENDED = "ended"


class FromLink(msgspec.Struct, frozen=True):
    """A message that came over the link of an epoch."""

    epoch: int
    message: link.FromPusher


def main(runtime: "Runtime", settings: SourceSettings, context: SourceContext) -> None:
    """
    Run a source driver until the worker is to stop.

    Args:
        runtime: The worker's side of the control link.
        settings: Which driver, and its configuration.
        context: What the driver is given.
    """
    # After the fork: no driver is ever imported in the supervisor.
    from fustor_agent.drivers import load_source

    try:
        driver_type = load_source(settings.type)
        config = msgspec.convert(settings.config, driver_type.Config)
        driver_type.test_connection(config)
        driver = driver_type(config, context)
    except (ConfigError, msgspec.ValidationError) as err:
        runtime.fail(f'pipe "{settings.pipe_id}": {err}', permanent=True)
    except FustorError as err:
        runtime.fail(f'pipe "{settings.pipe_id}": {err}', permanent=False)
    audits = Audits(incremental_s=settings.audit_interval_s, full_s=settings.full_audit_interval_s)
    worker = SourceWorker(runtime, driver, audits)
    runtime.on_attach = worker.attach
    runtime.on_command = worker.order
    runtime.on_stop(driver.wake)
    runtime.ready()
    worker.run()
    driver.close()


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
        self._inbox: deque[Attached | FromLink | Order] = deque()
        self._newest: Channel | None = None
        self._channel: Channel | None = None
        self._epoch = 0
        self._session: link.SessionNews | None = None
        self._snapshot_session = ""
        self._is_following = False
        self._lanes = {each: Lane() for each in link.LANES}
        self._messages = driver.get_message_iterator()
        self._snapshot: Iterator[Item | None] | None = None
        self._audit: Iterator[Item | None] | None = None
        self._scans: deque[Iterator[Item | None]] = deque()
        self._checks: deque[Iterator[Item | None]] = deque()
        self._snapshot_report = SnapshotReport()
        self._snapshot_end: SnapshotEnd | None = None
        self._refused = 0
        self._refused_since_start = 0
        self._realtime_was_busy = False
        self._turns = 0
        self._sent = 0
        self._acknowledged = 0
        self._reported_at = float("-inf")
        self._reported_busy = True
        self._is_report_stale = True
        self._report_now: Callable[[bool], None] = lambda busy: None

    # -- called from other threads ----------------------------------------------------------

    def attach(self, name: str, epoch: int, channel: Channel) -> None:
        """Take a new link; whoever waits on the old one is woken."""
        if self._newest is not None:
            self._newest.shutdown()
        self._newest = channel
        self._inbox.append(Attached(epoch, channel))
        self._driver.wake()

    def order(self, order: "Order") -> None:
        """Take an order of the operator."""
        self._inbox.append(order)
        self._driver.wake()

    # -- the pump ---------------------------------------------------------------------------

    def run(self) -> None:
        """Pump until the worker is to stop, then deliver what is at hand."""
        while not self._runtime.stop_requested.is_set():
            if self._turn():
                self._is_report_stale = True
            else:
                self._report(busy=False)
                self._driver.wait(self._get_idle_wait_s())
        self._drain()

    def _get_idle_wait_s(self) -> float:
        if self._is_report_stale:
            return _REPORT_EVERY_S
        waits_for_acks = any(lane.unacknowledged for lane in self._lanes.values())
        if waits_for_acks or self._channel is None:
            return _WAITING_S
        due_s = self._audits.get_due_s()
        return _IDLE_S if due_s is None else min(_IDLE_S, max(0.0, due_s - self._now()))

    def _drain(self) -> None:
        """Deliver what was read, within half of the grace time; what stays behind is looked at again next time."""
        deadline = self._now() + self._runtime.grace_s / 2
        while self._now() < deadline and self._channel is not None and self._session is not None:
            if self._turn():
                continue
            if not any(lane.unacknowledged for lane in self._lanes.values()):
                break
            self._driver.wait(min(0.1, max(0.0, deadline - self._now())))

    def _turn(self) -> bool:
        """Do one round; returns whether anything moved."""
        self._turns += 1
        self._report(busy=True)
        moved = False
        while self._inbox:
            self._take(self._inbox.popleft())
            moved = True
        if self._audit is None and not self._lanes[MessageSource.AUDIT].unacknowledged:
            self._audits.settle(self._now())
        if self._channel is None or self._session is None:
            return moved
        self._realtime_was_busy = self._pump_messages()
        moved = self._realtime_was_busy or moved
        # A walk that a stop cuts off begins anew with the next start: going on would only delay the stop.
        return moved if self._runtime.stop_requested.is_set() else self._pump_walks() or moved

    def _pump_walks(self) -> bool:
        done: list[Pumped] = []
        if self._scans and self._lanes[MessageSource.ON_DEMAND].is_open:
            done.append(self._pump(MessageSource.ON_DEMAND, self._scans[0], _BATCH_ROWS))
            if done[-1] is Pumped.ENDED:
                self._scans.popleft()
        if self._checks and self._lanes[MessageSource.SENTINEL].is_open:
            done.append(self._pump(MessageSource.SENTINEL, self._checks[0], _BATCH_ROWS))
            if done[-1] is Pumped.ENDED:
                self._checks.popleft()
        rows = _SHARED_BATCH_ROWS if self._realtime_was_busy else _BATCH_ROWS
        if self._snapshot is not None and self._lanes[MessageSource.SNAPSHOT].is_open:
            done.append(self._pump(MessageSource.SNAPSHOT, self._snapshot, rows))
            if done[-1] is Pumped.ENDED:
                self._snapshot = None
        self._start_due_audit()
        if self._audit is not None and self._lanes[MessageSource.AUDIT].is_open:
            done.append(self._pump(MessageSource.AUDIT, self._audit, rows))
            if done[-1] is Pumped.ENDED:
                self._audit = None
        return any(each is not Pumped.NOTHING for each in done)

    def _pump_messages(self) -> bool:
        lane = MessageSource.REALTIME
        if not self._lanes[lane].is_open:
            return False
        batch: list[Item] = []
        rows = 0
        moved = False
        for item in self._messages:
            if item is None:
                break
            moved = True
            if isinstance(item, Barrier):
                self._send_batch(lane, batch, rows)
                batch, rows = [], 0
                self._send(link.BarrierReached(item.token))
                if not self._lanes[lane].is_open:
                    break
            else:
                batch.append(item)
                rows += _count_rows(item)
                if rows >= _BATCH_ROWS:
                    break
        self._send_batch(lane, batch, rows)
        return moved

    def _pump(self, lane: MessageSource, items: Iterator[Item | None], max_rows: int) -> Pumped:
        """Send one batch on a lane that is open, if there is something to send."""
        batch: list[Item] = []
        rows = 0
        for item in items:
            if item is None:
                break
            batch.append(item)
            rows += _count_rows(item)
            if rows >= max_rows:
                break
        else:
            self._send_batch(lane, batch, rows)
            return Pumped.ENDED
        self._send_batch(lane, batch, rows)
        return Pumped.SENT if batch else Pumped.NOTHING

    def _send_batch(self, lane: MessageSource, batch: list[Item], rows: int) -> None:
        if not batch:
            return
        positions = [item.position for item in batch if item.position is not None]
        for item in batch:
            if isinstance(item, SnapshotEnd):
                self._snapshot_end = item
            elif isinstance(item, AuditEnd):
                self._audits.end(complete=item.complete)
        seq = self._lanes[lane].send(positions, rows)
        items = msgspec.Raw(encode_items(batch))
        self._sent += rows
        if lane is MessageSource.SNAPSHOT:
            self._snapshot_report = msgspec.structs.replace(
                self._snapshot_report, rows=self._snapshot_report.rows + rows
            )
        session = self._session.id if self._session is not None else ""
        self._send(link.BatchMessage(lane, seq, rows, items, session))

    def _send(self, message: link.FromSource) -> None:
        if self._channel is None:
            return  # what is under way is recovered when the next link comes
        try:
            self._channel.send(link.encode(message))
        except LinkClosed:
            self._channel = None

    # -- the inbox --------------------------------------------------------------------------

    def _take(self, entry: "Attached | FromLink | Order") -> None:
        match entry:
            case Attached():
                self._begin_epoch(entry.epoch, entry.channel)
            case FromLink():
                if entry.epoch == self._epoch:
                    self._hear(entry.message)
            case _:
                self._obey(entry)

    def _begin_epoch(self, epoch: int, channel: Channel) -> None:
        self._epoch = epoch
        self._channel = channel
        self._session = None
        if self._lanes[MessageSource.AUDIT].unacknowledged:
            self._audits.lose_end()
        for lane in self._lanes.values():
            for position in lane.reset():
                self._driver.recover(position)
        threading.Thread(target=self._read_link, args=(epoch, channel), name="link-reader", daemon=True).start()
        self._send(link.SourceHello(epoch, self._driver.schema))

    def _read_link(self, epoch: int, channel: Channel) -> None:
        try:
            while (payload := channel.recv()) is not None:
                self._inbox.append(FromLink(epoch, link.decode_from_pusher(payload)))
                self._driver.wake()
        except Exception as err:  # the edge of a thread: a source that hears nothing is worse than none
            _log.exception("link unreadable epoch=%d", epoch)
            self._runtime.fail(f"{type(err).__name__}: {err}", permanent=False)
        channel.close()

    def _hear(self, message: link.FromPusher) -> None:
        match message:
            case link.SessionNews():
                self._session = message
                self._take_role(message)
            case link.Ack(epoch=epoch, lane=lane, seq=seq, refused=refused):
                if epoch == self._epoch:
                    self._refused += refused
                    self._refused_since_start += refused
                    for position in self._lanes[lane].acknowledge(seq):
                        self._acknowledge(position)
            case link.LookAgain(epoch=epoch, lane=lane, seq=seq):
                if epoch == self._epoch:
                    if lane is MessageSource.AUDIT:
                        self._audits.lose_end()
                    for position in self._lanes[lane].take_one(seq):
                        self._driver.recover(position)
            case link.Do(command=command):
                self._do(command)
            case link.PusherHello():
                pass

    def _acknowledge(self, position: bytes) -> None:
        self._acknowledged += 1
        self._driver.acknowledge(position)
        if self._snapshot_end is not None and position == self._snapshot_end.position:
            state = "failed"
            if self._snapshot_end.complete:
                # It looked at every place again: what was refused before it began is settled, one way or the other.
                state, self._refused = "done", self._refused_since_start
            self._audits.accept_snapshot(self._now())
            self._snapshot_end = None
            self._snapshot_report = msgspec.structs.replace(
                self._snapshot_report, state=state, finished_at=format_now()
            )
            _log.info("snapshot accepted rows=%d", self._snapshot_report.rows)

    def _take_role(self, news: link.SessionNews) -> None:
        self._audits.wish(news.audit_interval_s)
        if news.role is Role.LEADER:
            if news.id != self._snapshot_session:
                self._snapshot_session = news.id
                self._cut_audit_off()
                self._start_snapshot()
            self._is_following = False
        elif not self._is_following:
            self._is_following = True
            self._snapshot_session = ""
            self._snapshot = None
            self._cut_audit_off()
            self._snapshot_report = SnapshotReport()
            self._refused = self._refused_since_start = 0  # a follower looks at every place again
            self._driver.follow()

    def _start_snapshot(self) -> None:
        self._snapshot_report = SnapshotReport(state="running")
        self._snapshot_end = None  # the end of an earlier one finishes nothing
        self._refused_since_start = 0
        self._snapshot = self._driver.get_snapshot_iterator()
        _log.info("snapshot started")

    def _do(self, command: Command) -> None:
        match command:
            case Sync(token=token):
                try:
                    self._driver.barrier(token)
                except Unavailable as err:
                    self._send(link.BarrierReached(token, str(err)))
            case Scan(path=path, recursive=recursive, job_id=job_id):
                self._scans.append(self._driver.scan_path(path, recursive=recursive, job_id=job_id))
            case Verify(paths=paths):
                self._checks.append(self._driver.perform_sentinel_check(paths))
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
        if self._audit is not None or self._lanes[MessageSource.AUDIT].unacknowledged:
            return "an audit is running already; wait until it has ended"
        try:
            self._audit = self._driver.get_audit_iterator(kind)
        except NotImplementedError as err:
            return str(err)
        self._audits.begin(kind)
        _log.info("audit started kind=%s", kind)
        return None

    def _start_due_audit(self) -> None:
        if self._snapshot is not None or self._audit is not None or self._lanes[MessageSource.AUDIT].unacknowledged:
            return
        kind = self._audits.find_due(self._now())
        if kind is not None and self._start_audit(kind) is not None:
            self._audits.cut_off()  # it can never be: nothing is due before the next session

    def _cut_audit_off(self) -> None:
        self._audit = None
        self._audits.cut_off()

    def _obey(self, order: "Order") -> None:
        problem: str | None = None
        match order.action:
            case "snapshot":
                if self._session is None or self._session.role is not Role.LEADER:
                    problem = "only a leader sends snapshots, and there is no session yet or another leads"
                else:
                    self._start_snapshot()
            case "audit":
                problem = self._start_audit(order.target or "full")
            case "rescan":
                self._driver.rescan(order.target.encode("utf-8", "surrogateescape"))
            case _:
                problem = f'a source does not know the action "{order.action}"'
        self._runtime.reply(order.id, problem or f"{order.action} started", ok=problem is None)

    # -- reports ----------------------------------------------------------------------------

    def _report(self, *, busy: bool) -> None:
        """Say whether work is under way, at once, and how far it is, at most every quarter second."""
        now = self._now()
        if now - self._reported_at >= _REPORT_EVERY_S:
            self._reported_at = now
            self._is_report_stale = False
            self._report_now = self._make_report()
        elif busy == self._reported_busy:
            return
        self._reported_busy = busy
        self._report_now(busy)

    def _make_report(self) -> Callable[[bool], None]:
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
            snapshot=self._snapshot_report,
            refused=self._refused,
            audit=self._audits.describe(status.audit),
            skipped=dict(status.skipped),
            details=dict(status.details),
        )
        counters = {
            "turns": self._turns,
            "captured": status.captured,
            "overflows": status.overflows,
            "sent": self._sent,
            "acknowledged": self._acknowledged,
        }
        detail = msgspec.msgpack.encode(report)
        return lambda busy: self._runtime.report(counters, phase=report.phase, detail=detail, owed=busy)

    def _get_phase(self) -> str:
        if self._session is None:
            return "waiting"
        if self._snapshot is not None:
            return "snapshot"
        return "audit" if self._audit is not None else "realtime"

    def _why_not_current(self, driver_says: str | None) -> str | None:
        if self._channel is None:
            return "the pusher is not attached"
        if self._session is None:
            return "there is no session with the receiver yet"
        return driver_says


def _count_rows(item: Item) -> int:
    return len(item.rows) if isinstance(item, EventBase) else 0
