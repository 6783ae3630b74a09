"""
The pusher worker: delivers what comes over the data link, under a session.

Batches are pushed one by one in the order in which the source sent them, so the receiver
sees observations in the order in which they were made. Five threads, of which none waits
for another's network call: one reads the link into the queue, one pushes, one sends
heartbeats on its own timer, one waits for commands, and the main thread opens sessions.
"""

import contextlib
import functools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fustor_agent import link
from fustor_agent.refused import record_refused
from fustor_agent.reports import PusherReport
from fustor_agent.sessionfile import SessionFile
from fustor_core.drivers import (
    Batch,
    Command,
    Differing,
    PusherContext,
    PusherDriver,
    RefusedRow,
    Role,
    Scan,
    Session,
    Verify,
)
from fustor_core.errors import ConfigError, FustorError, SessionLost, Unavailable, Uncertain
from fustor_core.retry import Backoff, next_delay
from fustor_supervisor.channel import Channel
from fustor_supervisor.errors import LinkClosed

if TYPE_CHECKING:
    from fustor_supervisor.messages import Command as Order
    from fustor_supervisor.runtime import Runtime

_POLL_S: Final = 25.0
_REPORT_EVERY_S: Final = 0.25
_BEATS_PER_TIMEOUT: Final = 3
_PUSH_BACKOFF: Final = Backoff(first_s=0.05, cap_s=5.0)
_SESSION_BACKOFF: Final = Backoff(first_s=0.25, cap_s=10.0)
_MANY_FAILURES: Final = 64
_MAX_SCANS: Final = 1_000
_SILENCE_S: Final = 5.0
_log = logging.getLogger(__name__)


class PusherSettings(msgspec.Struct, frozen=True):
    """
    What a pusher worker is given.

    Args:
        pipe_id: The pipe.
        type: The driver.
        config: The driver's part of the configuration, `embedded` resolved.
        session_file: Where the session is kept for a successor.
        refused_file: Where rows go that the receiver refuses for good.
    """

    pipe_id: str
    type: str
    config: dict[str, Any]
    session_file: Path
    refused_file: Path


class Entry(msgspec.Struct, frozen=True):
    """What waits to be delivered, behind all that was sent before it."""

    epoch: int
    message: link.Entry

    def belongs_to(self, session: Session) -> bool:
        """Tell whether it may be delivered under a session."""
        return isinstance(self.message, link.BarrierReached) or self.message.session == session.id


def main(runtime: "Runtime", settings: PusherSettings, context: PusherContext) -> None:
    """
    Run a pusher driver until the worker is to stop.

    Args:
        runtime: The worker's side of the control link.
        settings: Which driver, its configuration and files.
        context: What the driver is given.
    """
    # After the fork: no driver is ever imported in the supervisor.
    from fustor_agent.drivers import load_pusher

    worker: PusherWorker | None = None

    def note_progress(quiet_s: float = 0.0) -> None:
        if worker is not None:
            worker.note_progress(quiet_s)

    try:
        driver_type = load_pusher(settings.type)
        session_file = SessionFile(settings.session_file, settings.type, settings.config)
        context = msgspec.structs.replace(context, propose_session=session_file.propose, on_progress=note_progress)
        driver = driver_type(msgspec.convert(settings.config, driver_type.Config), context)
    except (ConfigError, msgspec.ValidationError) as err:
        runtime.fail(f'pipe "{settings.pipe_id}": {err}', permanent=True)
    except FustorError as err:
        runtime.fail(f'pipe "{settings.pipe_id}": {err}', permanent=False)
    worker = PusherWorker(runtime, driver, settings)
    runtime.on_attach = worker.attach
    runtime.on_command = worker.order
    runtime.on_stop(worker.wake)
    runtime.ready()
    worker.run()
    driver.close()


class PusherWorker:
    """
    The queue between link and receiver, and the session.

    Args:
        runtime: For reports and the request to stop.
        driver: Called from three threads, as its contract says.
        settings: Files and names.
        now: Monotonic seconds.
    """

    def __init__(
        self,
        runtime: "Runtime",
        driver: PusherDriver,
        settings: PusherSettings,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._driver = driver
        self._settings = settings
        self._now = now
        self._file = SessionFile(settings.session_file, settings.type, settings.config)
        self._newest: Channel | None = None
        # Of the thread for commands only.
        self._tasks_session = ""
        self._tasks_due_s = 0.0
        self._changed = threading.Condition()
        # All below is guarded by `_changed`.
        self._queue: deque[Entry] = deque()
        self._channel: Channel | None = None
        self._epoch = 0
        self._session: Session | None = None
        self._scans: dict[str, Scan] = {}
        """What the receiver asked for and no source has finished, by job, oldest first."""
        self._pushing_since: float | None = None
        """When the push under way last moved."""
        self._patience_s = 0.0
        self._is_resting = False
        self._main: threading.Thread | None = None
        self._opening_patience_s: float | None = None
        """While the main thread opens a session: for how much time its driver asked."""
        self._is_over = False
        self._error: str | None = None
        self._pushed = 0
        self._acknowledged = 0
        self._lost = 0
        self._steps = 0
        self._reported: tuple[dict[str, int], str | None] | None = None
        # Held while a report is made and given, so that an older one never comes last.
        self._reporting = threading.Lock()

    # -- links ------------------------------------------------------------------------------

    def attach(self, name: str, epoch: int, channel: Channel) -> None:
        """Take a new link: drop what is left of the old one, say hello, and read."""
        if self._newest is not None:
            self._newest.shutdown()  # before the lock is asked for: its owner may be blocked in a send
        self._newest = channel
        with self._changed:
            self._channel = channel
            self._epoch = epoch
            self._queue.clear()
            self._changed.notify_all()
            self._tell(link.PusherHello(epoch))
            if self._session is not None:
                self._tell(_make_news(self._session))
            for scan in self._scans.values():
                self._tell(link.Do(scan))  # the source that was asked may be gone
        read = functools.partial(self._read_link, epoch, channel)
        threading.Thread(target=self._guard, args=(read,), name="link-reader", daemon=True).start()

    def order(self, order: "Order") -> None:
        """Refuse an order: the operator's orders are for the source."""
        self._runtime.reply(order.id, f'a pusher does not know the action "{order.action}"', ok=False)

    def wake(self) -> None:
        """Make every waiting thread look again."""
        with self._changed:
            self._changed.notify_all()

    def note_progress(self, quiet_s: float = 0.0) -> None:
        """Note that a call of the driver moves, and how long it may take until it moves again."""
        is_main = threading.current_thread() is self._main
        with self._changed:
            if is_main and self._opening_patience_s is not None:
                self._steps += 1
                self._opening_patience_s = quiet_s
            elif self._pushing_since is not None:
                self._move(quiet_s)
        if is_main:
            self._report()

    def _read_link(self, epoch: int, channel: Channel) -> None:
        try:
            while (payload := channel.recv()) is not None:
                message = link.decode_from_source(payload)
                with self._changed:
                    if isinstance(message, link.ScanOver):
                        self._scans.pop(message.job_id, None)
                    elif epoch == self._epoch and not isinstance(message, link.SourceHello):
                        self._queue.append(Entry(epoch, message))
                        self._changed.notify_all()
        finally:
            with self._changed:
                if self._channel is channel:
                    self._channel = None
            channel.close()

    def _tell(self, message: link.FromPusher) -> None:
        """Send to the source; a link that is gone makes it moot. Call with `_changed` held."""
        if self._channel is None:
            return
        try:
            self._channel.send(link.encode(message))
        except LinkClosed:
            self._channel = None

    # -- the main thread: sessions ----------------------------------------------------------

    def run(self) -> None:
        """Keep a session until the worker is to stop; then deliver what is at hand and close it."""
        self._main = threading.current_thread()
        for target, name in ((self._push_all, "push"), (self._beat_all, "heartbeat"), (self._poll_all, "commands")):
            threading.Thread(target=self._guard, args=(target,), name=name, daemon=True).start()
        failures = 0
        while not self._is_stopping():
            self._report()
            if self._session is not None:
                self._runtime.stop_requested.wait(_REPORT_EVERY_S)  # not more often, however much is pushed
                with self._changed:
                    while self._session is not None and not self._is_report_due() and not self._is_stopping():
                        self._changed.wait()
                continue
            begun_s = self._now()
            try:
                with self._owing_session():
                    self._open_session()
                failures = 0
            except ConfigError as err:
                # The receiver may be told of the credential later: go on trying, at the cap.
                failures = _MANY_FAILURES
                self._wait_after(str(err), failures, _SESSION_BACKOFF)
            except Unavailable as err:
                # One that said nothing for long does not only start beside us: it is told of at once.
                failures += 2 if self._now() - begun_s >= _SILENCE_S else 1
                self._wait_after(str(err), failures, _SESSION_BACKOFF, err.retry_after_s)
        self._finish()

    @contextlib.contextmanager
    def _owing_session(self) -> Iterator[None]:
        """Owe a session while the driver opens it."""
        with self._changed:
            self._opening_patience_s = 0.0
        self._report()
        try:
            yield
        finally:
            with self._changed:
                self._opening_patience_s = None
            self._report()

    def _open_session(self) -> None:
        kept = self._file.load()
        if kept is not None:
            try:
                session = self._driver.resume_session(kept)
                self._begin_session(session, is_new=False)
                return
            except SessionLost:
                self._file.remove()
        session = self._driver.open_session()
        self._file.save(session)
        self._begin_session(session, is_new=True)

    def _begin_session(self, session: Session, *, is_new: bool) -> None:
        _log.info("session begun role=%s new=%s", session.role.value, is_new)
        with self._changed:
            self._session = session
            self._error = None
            self._tell(_make_news(session))
            if is_new:
                # What was meant for another session is looked at anew; the source sends a snapshot.
                self._scans.clear()
                while self._queue:
                    self._give_back(self._queue.popleft())
            self._changed.notify_all()

    def _give_back(self, entry: Entry) -> None:
        if isinstance(entry.message, link.BatchMessage):
            self._tell(link.LookAgain(entry.epoch, entry.message.lane, entry.message.seq))

    def _lose_session(self, session: Session, err: Exception) -> None:
        with self._changed:
            if self._session is not None and self._session.id == session.id:
                _log.warning("session lost reason=%s", err)
                self._session = None
                self._error = str(err)
                self._file.remove()
                self._changed.notify_all()

    def _finish(self) -> None:
        deadline = self._now() + self._runtime.grace_s / 2
        with self._changed:
            while self._owes() and self._session is not None and self._now() < deadline:
                self._changed.wait(max(0.0, deadline - self._now()))
            session, self._session = self._session, None
        if session is not None:
            try:
                self._driver.close_session(session)
                self._file.remove()
            except FustorError as err:
                _log.warning("session not closed reason=%s", err)
        self._report()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    # -- the push thread --------------------------------------------------------------------

    def _push_all(self) -> None:
        failures = 0
        while (taken := self._next_entry()) is not None:
            entry, session = taken
            try:
                self._deliver(entry, session)
                failures = 0
            except SessionLost as err:
                self._put_back(entry)
                self._lose_session(session, err)
            except ConfigError as err:
                # The credential may be put right at the receiver: go on trying, at the cap.
                self._put_back(entry)
                failures = _MANY_FAILURES
                self._rest_after(str(err), failures)
            except Unavailable as err:
                self._put_back(entry)
                failures += 1
                self._rest_after(str(err), failures, err.retry_after_s)
            except Uncertain as err:
                _log.warning("push not known to be applied, its places are looked at again reason=%s", err)
                with self._changed:
                    self._give_back(entry)
                failures += 1
                self._rest_after(str(err), failures)
            finally:
                with self._changed:
                    self._pushing_since = None
                    self._changed.notify_all()

    def _rest_after(self, error: str, failures: int, at_least_s: float | None = None) -> None:
        """Wait before the next push; while it waits on purpose, the worker owes nothing."""
        with self._changed:
            if self._describe_silence() is not None:
                self._error = error  # it was told of the silence; now it is known how that ended
            self._pushing_since = None
            self._is_resting = True
        self._wait_after(error, failures, _PUSH_BACKOFF, at_least_s)
        with self._changed:
            self._is_resting = False

    def _next_entry(self) -> tuple[Entry, Session] | None:
        """Wait for something to push and a session to push it in; None at the end of the worker."""
        with self._changed:
            while True:
                session = self._session
                if self._is_over:
                    return None
                if not self._queue or session is None:
                    self._changed.wait()
                    continue
                entry = self._queue.popleft()
                if entry.belongs_to(session):
                    self._move()
                    return entry, session
                # Sent before the source heard of this session; a snapshot's end, say, would be a lie here.
                self._give_back(entry)

    def _move(self, patience_s: float = 0.0) -> None:
        """Note that a push moves. Call with `_changed` held."""
        self._steps += 1
        self._pushing_since = self._now()
        self._patience_s = patience_s

    def _put_back(self, entry: Entry) -> None:
        with self._changed:
            if entry.epoch == self._epoch:
                self._queue.appendleft(entry)

    def _deliver(self, entry: Entry, session: Session) -> None:
        match message := entry.message:
            case link.BarrierReached():
                self._driver.report_barrier(session, message.token, error=message.error)
            case link.AuditBegins():
                self._driver.begin_audit(session)
            case link.AuditEnds():
                self._driver.end_audit(session, complete=message.complete)
            case link.BatchMessage():
                self._push(entry.epoch, message, session)

    def _push(self, epoch: int, message: link.BatchMessage, session: Session) -> None:
        batch = Batch(epoch, message.lane, message.seq, message.items, message.rows)
        not_taken = self._driver.push(session, batch)
        refused = [each for each in not_taken if isinstance(each, RefusedRow)]
        differing = tuple(each for each in not_taken if isinstance(each, Differing))
        if refused:
            self._record(refused)
        with self._changed:
            self._error = None
            self._pushed += message.rows
            self._acknowledged += message.rows - len(refused)
            self._lost += len(refused)
            self._tell(link.Ack(epoch, message.lane, message.seq, len(refused), differing))

    def _record(self, refused: Sequence[RefusedRow]) -> None:
        try:
            record_refused(self._settings.refused_file, self._settings.pipe_id, refused)
        except OSError as err:
            # The batch is accepted: failing here would only have it refused again.
            paths = [row.path for row in refused[:10]]
            _log.error("refused rows not recorded count=%d first=%r reason=%s", len(refused), paths, err)

    # -- the heartbeat and command threads --------------------------------------------------

    def _beat_all(self) -> None:
        while (session := self._await_session(lambda session: True)) is not None:
            can_realtime = self._channel is not None
            try:
                beat = self._driver.heartbeat(session, can_realtime=can_realtime)
                self._take_beat(session, beat.role)
                for command in beat.commands:
                    self._forward(command)
            except SessionLost as err:
                self._lose_session(session, err)
            except FustorError as err:
                _log.warning("heartbeat failed reason=%s", err)
                with self._changed:
                    self._error = str(err)
            self._sleep(session.timeout_s / _BEATS_PER_TIMEOUT)

    def _take_beat(self, session: Session, role: Role) -> None:
        with self._changed:
            if self._session is None or self._session.id != session.id:
                return
            if not self._queue:
                self._error = None
            if role is not session.role:
                _log.info("role changed role=%s", role.value)
                self._session = updated = msgspec.structs.replace(session, role=role)
                self._file.save(updated)
                self._tell(_make_news(updated))
            self._changed.notify_all()

    def _poll_all(self) -> None:
        failures = 0
        while (session := self._await_session(lambda session: session.has_commands or _has_tasks(session))) is not None:
            try:
                wait_s = self._take_tasks(session)
                if session.has_commands:
                    for command in self._driver.poll_commands(session, wait_s=wait_s):
                        self._forward(command)
                else:
                    self._sleep(wait_s)
                failures = 0
            except SessionLost as err:
                self._lose_session(session, err)
            except FustorError as err:
                failures += 1
                _log.debug("command poll failed reason=%s", err)
                self._sleep(next_delay(failures, _SESSION_BACKOFF, random.random))

    def _take_tasks(self, session: Session) -> float:
        """Ask for sentinel tasks if that is due; returns for how many seconds to wait for something else at most."""
        if not _has_tasks(session):
            return _POLL_S
        interval_s = session.sentinel_interval_s or 0.0
        if self._tasks_session != session.id:
            self._tasks_session, self._tasks_due_s = session.id, self._now() + interval_s
        if self._now() >= self._tasks_due_s:
            paths = self._driver.get_sentinel_tasks(session)
            if paths:
                self._forward(Verify(tuple(paths)))
            self._tasks_due_s = self._now() + interval_s
        return min(_POLL_S, max(0.0, self._tasks_due_s - self._now()))

    def _await_session(self, suits: Callable[[Session], bool]) -> Session | None:
        """Wait for a session; None at the end of the worker."""
        with self._changed:
            while self._session is None or not suits(self._session):
                if self._is_over:
                    return None
                self._changed.wait()
            return self._session

    def _forward(self, command: Command) -> None:
        with self._changed:
            if isinstance(command, Scan):
                self._scans[command.job_id] = command
                if len(self._scans) > _MAX_SCANS:
                    del self._scans[next(iter(self._scans))]
            self._tell(link.Do(command))

    # -- small things -----------------------------------------------------------------------

    def _guard(self, target: Callable[[], None]) -> None:
        """Run a thread's loop; what it does not expect ends the worker, which is started again."""
        try:
            target()
        except Exception as err:  # the edge of a thread: half a worker is worse than none
            _log.exception("thread failed name=%s", threading.current_thread().name)
            self._runtime.fail(f"{type(err).__name__}: {err}", permanent=False)

    def _is_stopping(self) -> bool:
        return self._runtime.stop_requested.is_set()

    def _sleep(self, seconds: float) -> None:
        """
        Wait, or until the session changes; without a session also until the worker is to stop.

        With one, the worker still delivers while it stops: then it keeps its intervals.
        """
        deadline = self._now() + seconds
        with self._changed:
            session = self._session
            while (left := deadline - self._now()) > 0 and self._session is session:
                if session is None and self._is_stopping():
                    break
                self._changed.wait(left)

    def _wait_after(self, error: str, failures: int, backoff: Backoff, at_least_s: float | None = None) -> None:
        delay_s = max(next_delay(failures, backoff, random.random), at_least_s or 0.0)
        if failures > 1:  # the first may be no more than a receiver that starts beside us
            with self._changed:
                self._error = error
            _log.warning("receiver unavailable retry_in_s=%.2f reason=%s", delay_s, error)
        self._report()
        self._sleep(delay_s)

    def _is_report_due(self) -> bool:
        return self._owes() or self._reported != (self._make_counters(), self._error)

    def _owes(self) -> bool:
        return bool(self._queue) or self._pushing_since is not None

    def _describe_silence(self) -> str | None:
        """Say that a push waits for long; whether the driver or the receiver is to blame cannot be known yet."""
        waited_s = 0.0 if self._pushing_since is None else self._now() - self._pushing_since
        if waited_s < _SILENCE_S:
            return None
        # in steps, so that the status does not change all the time
        return f"a push has been waiting for its answer for {waited_s // _SILENCE_S * _SILENCE_S:.0f} s"

    def _make_counters(self) -> dict[str, int]:
        return {
            "pushed": self._pushed,
            "acknowledged": self._acknowledged,
            "lost": self._lost,
            "steps": self._steps,
        }

    def _report(self) -> None:
        with self._reporting:
            with self._changed:
                session = self._session
                report = PusherReport(
                    role=session.role.value if session else None,
                    session=session.id[:8] if session else None,
                    pushed=self._pushed,
                    acknowledged=self._acknowledged,
                    lost=self._lost,
                    error=self._error or self._describe_silence(),
                )
                counters = self._make_counters()
                self._reported = (counters, self._error)
                is_delivering = self._owes() and session is not None and not self._is_resting
                owed = is_delivering or self._opening_patience_s is not None
                patience_s = self._opening_patience_s or 0.0
                if self._pushing_since is not None:
                    patience_s = max(patience_s, self._patience_s)
            phase = report.role or "connecting"
            detail = msgspec.msgpack.encode(report)
            self._runtime.report(counters, phase=phase, detail=detail, owed=owed, patience_s=patience_s)


def _has_tasks(session: Session) -> bool:
    return session.role is Role.LEADER and bool(session.sentinel_interval_s)


def _make_news(session: Session) -> link.SessionNews:
    return link.SessionNews(
        session.id, session.role, session.audit_interval_s, session.compares, session.takes_moves
    )
