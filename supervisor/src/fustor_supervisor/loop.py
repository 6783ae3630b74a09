"""
The supervisor: one thread, one selector, one heap of deadlines.

Workers decide (`worker`), this carries it out. A turn waits for the next happening or
deadline, then reads what came, reaps who died, does what is due, makes the links that
are missing and publishes the status. Nothing here blocks; what a worker is sent waits in
a bounded queue.

Signals: TERM and INT stop (a second one kills), HUP reloads, USR1 reopens logs, also in
the workers, USR2 has everyone write its stacks to standard error.
"""

import contextlib
import enum
import faulthandler
import gc
import logging
import os
import random
import selectors
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from fustor_supervisor import messages
from fustor_supervisor.channel import make_link
from fustor_supervisor.errors import ForkRefused, FrameTooLong, QueueFull, UnknownWorker
from fustor_supervisor.links import Links
from fustor_supervisor.pending import OnReply, PendingCommands
from fustor_supervisor.process import Exit, ForkedProcess
from fustor_supervisor.specs import LinkSpec, StuckLimits, WorkerSpec, check_plan
from fustor_supervisor.states import LINKED, WorkerState
from fustor_supervisor.status import (
    CHANGED_EVERY_S,
    UNCHANGED_EVERY_S,
    Publisher,
    SupervisorStatus,
    format_utc,
)
from fustor_supervisor.timers import Timers
from fustor_supervisor.wakeup import SignalWatch, Wakeup
from fustor_supervisor.worker import Decision, Dump, Kill, Send, Spawn, Wait, Worker

LINK_RETRY_S: Final = 1.0
LOST_TIME_S: Final = 2.0
_STDERR: Final = 2
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_log = logging.getLogger(__name__)


class RequestResult(msgspec.Struct, frozen=True):
    """What the program answers to a worker's request."""

    result: str
    ok: bool = True


class _Phase(enum.Enum):
    """The supervisor's own life."""

    NEW = "new"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


class _Timer(enum.Enum):
    """Deadlines that belong to no worker."""

    PING = "ping"
    STATUS = "status"
    LINKS = "links"
    STOP_LIMIT = "stop limit"


class _Source(enum.Enum):
    """Where a selector event comes from, in the order in which a turn looks at them."""

    SIGNALS = 0
    CONTROL = 1
    DEATH = 2


@dataclass(frozen=True)
class _Watched:
    """What a descriptor in the selector belongs to."""

    source: _Source
    name: str = ""
    process: ForkedProcess | None = None


class Supervisor:
    """
    Runs workers and the links between them until it is stopped.

    All methods belong to the thread that calls `run`; the callbacks run there too and
    must not block. Leave the process by `leave` after `run`: the exit hook of
    multiprocess would wait for a worker that cannot die.

    Args:
        next_epoch: Returns a number that grows for ever; names the next data link.
        publish: Renders the status for `status_path` and for workers that want it.
        status_path: The status file.
        on_request: Answers a worker's request; None means that `answer` follows later.
        on_reload: Called on SIGHUP.
        on_reopen_logs: Called on SIGUSR1.
        in_child: Called in each new process before its main; closes what the program holds open.
        clock: Monotonic seconds.
        rand: Returns 0.0 ≤ x < 1.0.
        wall: Seconds since the epoch, for people.
    """

    def __init__(
        self,
        *,
        next_epoch: Callable[[], int],
        publish: Callable[[SupervisorStatus], bytes] | None = None,
        status_path: Path | None = None,
        on_request: Callable[[messages.Request], RequestResult | None] | None = None,
        on_reload: Callable[[], None] | None = None,
        on_reopen_logs: Callable[[], None] | None = None,
        in_child: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._next_epoch = next_epoch
        self._publisher = Publisher(publish, status_path) if publish is not None else None
        self._on_request = on_request
        self._on_reload = on_reload
        self._on_reopen_logs = on_reopen_logs
        self._in_child = in_child
        self._clock = clock
        self._rand = rand
        self._wall = wall
        self._phase = _Phase.NEW
        self._started_at = clock()
        self._started_wall = wall()
        self._workers: dict[str, Worker] = {}
        self._processes: dict[str, ForkedProcess] = {}
        self._links = Links()
        self._pending = PendingCommands()
        self._timers: Timers[_Timer | str] = Timers()
        self._open: contextlib.ExitStack | None = None
        self._stop_at = float("inf")
        self._published_changes = -1

    # -- what the program asks for --------------------------------------------------------

    def apply(self, workers: Sequence[WorkerSpec], links: Sequence[LinkSpec]) -> None:
        """
        Take a plan: start what is new, stop what is gone, restart what changed, leave the rest alone.

        Raises:
            InvalidPlan: Nothing was changed.
        """
        check_plan(workers, links)
        if self._is_stopping:
            _log.warning("plan ignored reason=stopping")
            return
        now = self._clock()
        self._links.change(links)
        wanted = {spec.name: spec for spec in workers}
        for name, worker in list(self._workers.items()):
            if name not in wanted:
                self._carry_out(name, worker.remove(now))
        for name, spec in wanted.items():
            known = self._workers.get(name)
            if known is None:
                self._workers[name] = Worker(spec, rand=self._rand, wall=self._format_now)
                self._carry_out(name, self._workers[name].set_up(spec.up, now))
            else:
                self._carry_out(name, known.change(spec, now))
        self._forget_removed()
        self._set_ping_timer(now)
        self._attach_links(now)

    def set_up(self, name: str, up: bool) -> None:
        """
        Start or stop a worker for as long as nobody says otherwise.

        Raises:
            UnknownWorker: No worker has this name.
        """
        worker = self._find(name)
        if not self._is_stopping:
            self._carry_out(name, worker.set_up(up, self._clock()))

    def restart(self, name: str) -> None:
        """
        Stop a worker and start it again, at once if it is waiting.

        Raises:
            UnknownWorker: No worker has this name.
        """
        worker = self._find(name)
        if not self._is_stopping:
            self._carry_out(name, worker.restart(self._clock()))

    def command(self, name: str, action: str, target: str = "", on_reply: OnReply | None = None) -> None:
        """
        Ask a worker to do something.

        Args:
            name: Which worker.
            action: What to do.
            target: To what.
            on_reply: Called once, with `ok` False if the worker is down or dies before it replies.

        Raises:
            UnknownWorker: No worker has this name.
        """
        worker = self._find(name)
        number = self._pending.add(name, on_reply)
        if worker.state not in LINKED:
            self._pending.fail_all(name, worker.generation, f"worker {name} is {worker.state.value}")
            return
        worker.note_command(number, self._clock())
        self._send(name, messages.Command(id=number, action=action, target=target))

    def answer(self, request: messages.Request, result: RequestResult) -> None:
        """Answer a request for which `on_request` returned None; dropped if the asking process is gone."""
        process = self._processes.get(request.worker)
        if process is not None and process.generation == request.generation:
            self._send(request.worker, messages.Answer(id=request.id, result=result.result, ok=result.ok))

    def stop(self, grace_s: float | None = None) -> None:
        """
        Stop all workers, lower ranks first, then end `run`.

        Args:
            grace_s: Whoever is left after it is killed; None sums up what the ranks may take.
                A second call can only shorten it.
        """
        now = self._clock()
        if grace_s is None:
            grace_s = self._sum_graces()
        if not self._is_stopping:
            _log.info("supervisor stopping grace_s=%g", grace_s)
            self._phase = _Phase.STOPPING
        if now + grace_s < self._stop_at:
            self._stop_at = now + grace_s
            self._timers.set(_Timer.STOP_LIMIT, self._stop_at)
        self._stop_next_rank(now)

    def status(self) -> SupervisorStatus:
        """Return how everything stands."""
        now = self._clock()
        return SupervisorStatus(
            pid=os.getpid(),
            state=self._phase.value,
            started_at=format_utc(self._started_wall),
            uptime_s=now - self._started_at,
            workers=[worker.describe(now) for worker in self._workers.values()],
        )

    # -- running --------------------------------------------------------------------------

    def run(self) -> None:
        """
        Run until stopped; main thread only.

        Raises:
            ForkRefused: Another thread is running.
        """
        self.start()
        try:
            while self.turn():
                pass
        finally:
            self.close()

    def start(self) -> None:
        """
        Catch signals and start the workers; the first third of `run`, for those who turn the loop themselves.

        Raises:
            ForkRefused: Another thread is running.
        """
        if threading.active_count() > 1:
            raise ForkRefused("threads are running; a process that forks must not have any")
        with contextlib.ExitStack() as undo:
            self._selector = undo.enter_context(selectors.DefaultSelector())
            self._wakeup = undo.enter_context(contextlib.closing(Wakeup()))
            self._selector.register(self._wakeup, selectors.EVENT_READ, _Watched(_Source.SIGNALS))
            undo.callback(SignalWatch(self._wakeup, _SIGNALS).restore)
            # behind the empty handler and before it: stacks even if the loop hangs, then the loop's own work
            faulthandler.register(signal.SIGUSR2, file=_STDERR, all_threads=True, chain=True)
            undo.callback(faulthandler.unregister, signal.SIGUSR2)
            # where SIGCHLD is ignored, as some parents leave it, the kernel forgets exit codes
            undo.callback(_restore_signal, signal.SIGCHLD, signal.signal(signal.SIGCHLD, signal.SIG_DFL))
            # what is alive now is alive in every worker: keep the collector from touching, and so copying, it
            gc.collect()
            gc.freeze()
            undo.callback(gc.unfreeze)
            self._open = undo.pop_all()
        now = self._clock()
        if not self._is_stopping:
            self._phase = _Phase.RUNNING
            self._set_ping_timer(now)
            for name, worker in list(self._workers.items()):
                self._carry_out(name, worker.set_up(worker.up, now))
            self._attach_links(now)
        self._publish_changes(now)

    def turn(self, max_wait_s: float | None = None) -> bool:
        """
        Wait for the next happening or deadline, and do what follows.

        Args:
            max_wait_s: Return after this time even if nothing happened; None waits as long as it takes.

        Returns:
            False once everything has been stopped.
        """
        if self._is_stopped:
            return False
        next_at = self._timers.next_at()
        waits = [] if max_wait_s is None else [max_wait_s]
        if next_at is not None:
            waits.append(max(0.0, next_at - self._clock()))
        events = self._selector.select(min(waits, default=None))
        now = self._clock()
        if next_at is not None and now - next_at > LOST_TIME_S:
            for worker in self._workers.values():
                worker.on_lost_time(now)
        # deaths last: what a worker said before it died counts
        for key, mask in sorted(events, key=lambda event: event[0].data.source.value):
            self._take_event(key.data, mask, now)
        for due in self._timers.pop_due(now):
            self._take_deadline(due, now)
        self._attach_links(now)
        self._forget_removed()
        if self._is_stopping:
            self._stop_next_rank(now)
        self._publish_changes(now)
        return not self._is_stopped

    def close(self) -> None:
        """Kill what is left, publish the last status, and put signals and descriptors back."""
        for process in self._processes.values():
            process.kill()
            process.close_descriptors()
        self._processes.clear()
        self._phase = _Phase.STOPPED
        self._publish(self._clock())
        if self._open is not None:
            self._open.close()
            self._open = None

    # -- decisions ------------------------------------------------------------------------

    def _carry_out(self, name: str, decisions: list[Decision]) -> None:
        """Do what a worker decided, in order."""
        if self._open is None:  # not started: `start` asks every worker again
            return
        process = self._processes.get(name)
        for decision in decisions:
            match decision:
                case Spawn():
                    self._spawn(name)
                case Send(message=message):
                    self._send(name, message)
                case Dump(by_signal=by_signal) if process is not None:
                    _log.warning("stacks follow name=%s suspended=%s", name, process.is_suspended())
                    if by_signal:
                        process.signal(signal.SIGUSR2)
                    else:
                        self._send(name, messages.DumpStacks())
                case Kill() if process is not None:
                    process.kill()
                case Wait(until=None):
                    self._timers.cancel(name)
                case Wait(until=until) if until is not None:
                    self._timers.set(name, until)

    def _spawn(self, name: str) -> None:
        worker = self._workers[name]
        now = self._clock()
        worker.begin_spawn(now)
        try:
            process = ForkedProcess(worker.spec, worker.generation, self._close_in_child)
        except (OSError, ForkRefused) as err:
            self._carry_out(name, worker.on_spawn_failed(str(err), now))
            return
        self._processes[name] = process
        self._selector.register(process.control, selectors.EVENT_READ, _Watched(_Source.CONTROL, name, process))
        self._selector.register(process.pidfd, selectors.EVENT_READ, _Watched(_Source.DEATH, name, process))
        worker.on_spawned(process.pid)
        self._links.note_spawned(name)

    def _close_in_child(self) -> None:
        """Close, in a new child, what belongs to the supervisor and to the other children."""
        for process in self._processes.values():
            process.close_descriptors()
        self._selector.close()
        self._wakeup.close()
        if self._in_child is not None:
            self._in_child()

    def _send(self, name: str, message: messages.ToWorkerMessage) -> None:
        process = self._processes.get(name)
        if process is None:
            return
        try:
            process.send(message)
        except QueueFull as err:
            self._carry_out(name, self._workers[name].on_stuck(str(err), self._clock()))
        self._watch_control(name, process)

    def _watch_control(self, name: str, process: ForkedProcess) -> None:
        """Wait for room in the link only while messages wait for it, and for nothing once it has ended."""
        if process.control.fileno() < 0 or process.control not in self._selector.get_map():
            return
        if not process.has_link:
            self._selector.unregister(process.control)
            return
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if process.has_queued else 0)
        if self._selector.get_key(process.control).events != mask:
            self._selector.modify(process.control, mask, _Watched(_Source.CONTROL, name, process))

    def _attach_links(self, now: float) -> None:
        """Make the links that are missing and hand out their ends."""
        for link in self._links.take_due(self._is_linked):
            try:
                epoch = self._next_epoch()
                source, target = make_link()
            except Exception as err:  # a callback's edge, or no descriptors: the pipe waits, all else goes on
                _log.warning("link not made name=%s retry_s=%g error=%s", link.name, LINK_RETRY_S, err)
                self._links.put_back(link)
                self._timers.set(_Timer.LINKS, now + LINK_RETRY_S)
                return
            _log.info("link made name=%s epoch=%d", link.name, epoch)
            for name, end in ((link.source, source), (link.target, target)):
                process = self._processes[name]
                try:
                    process.send(messages.Attach(link=link.name, epoch=epoch), end)
                except QueueFull as err:
                    self._carry_out(name, self._workers[name].on_stuck(str(err), now))
                self._watch_control(name, process)

    def _is_linked(self, name: str) -> bool:
        return name in self._processes and self._workers[name].state in LINKED

    # -- happenings -----------------------------------------------------------------------

    def _take_event(self, watched: _Watched, mask: int, now: float) -> None:
        process = watched.process
        if process is None:
            for number in self._wakeup.drain():
                self._take_signal(number)
            return
        if self._processes.get(watched.name) is not process:
            return  # an earlier event of the same turn ended it
        if watched.source is _Source.DEATH:
            self._bury(watched.name, process, now)
            return
        if mask & selectors.EVENT_WRITE:
            process.flush()
        if mask & selectors.EVENT_READ:
            self._receive(watched.name, process, now)
        self._watch_control(watched.name, process)

    def _receive(self, name: str, process: ForkedProcess, now: float) -> bool:
        """Take what a worker said; False if there was nothing."""
        try:
            payloads = process.receive()
            for payload in payloads:
                message = messages.decode_from_worker(payload)
                if message.generation == process.generation:
                    self._take_message(name, message, now)
        except (FrameTooLong, msgspec.DecodeError) as err:
            process.has_link = False
            self._carry_out(name, self._workers[name].on_stuck(f"sent a malformed message: {err}", now))
            return False
        return bool(payloads)

    def _take_message(self, name: str, message: messages.FromWorkerMessage, now: float) -> None:
        self._carry_out(name, self._workers[name].on_message(message, now))
        if isinstance(message, messages.Reply):
            self._pending.finish(message)
        elif isinstance(message, messages.Request):
            self._take_request(msgspec.structs.replace(message, worker=name))

    def _take_request(self, request: messages.Request) -> None:
        result: RequestResult | None = RequestResult(f'nothing here knows "{request.action}"', ok=False)
        if self._on_request is not None:
            try:
                result = self._on_request(request)
            except Exception as err:  # a callback's edge: the program's fault must not end the supervisor
                _log.exception("request failed worker=%s action=%s", request.worker, request.action)
                result = RequestResult(f"{type(err).__name__}: {err}", ok=False)
        if result is not None:
            self.answer(request, result)

    def _bury(self, name: str, process: ForkedProcess, now: float) -> None:
        """Hear the last words of a dead process, collect its exit, and let the worker decide."""
        while process.has_link and self._receive(name, process, now):
            pass
        for descriptor in (process.control, process.pidfd):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        del self._processes[name]
        exit: Exit = process.reap()
        worker = self._workers[name]
        _log.info("worker died name=%s pid=%d code=%s signal=%s", name, process.pid, exit.code, exit.signal)
        decisions = worker.on_died(exit, now)
        self._pending.fail_all(name, process.generation, f"worker {name} died before it replied")
        self._carry_out(name, decisions)

    def _take_signal(self, number: signal.Signals) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self.stop(0.0 if self._is_stopping else None)
        elif number == signal.SIGHUP:
            self._call("on_reload", self._on_reload)
        elif number == signal.SIGUSR1:
            self._call("on_reopen_logs", self._on_reopen_logs)
            for process in self._processes.values():
                process.signal(number)
        elif number == signal.SIGUSR2:  # our own stacks were written by faulthandler already
            for process in self._processes.values():
                process.signal(number)

    def _call(self, what: str, callback: Callable[[], None] | None) -> None:
        if callback is None:
            return
        try:
            callback()
        except Exception:  # a callback's edge: the program's fault must not end the supervisor
            _log.exception("callback failed name=%s", what)

    # -- deadlines ------------------------------------------------------------------------

    def _take_deadline(self, due: _Timer | str, now: float) -> None:
        if due is _Timer.PING:
            self._ping_all(now)
        elif due is _Timer.STATUS:
            self._publish(now)
        elif due is _Timer.STOP_LIMIT:
            for name, worker in list(self._workers.items()):
                self._carry_out(name, worker.kill_now(now))
        elif isinstance(due, str) and due in self._workers:
            self._carry_out(due, self._workers[due].on_deadline(now))
        # LINKS only ends the wait; every turn attaches what is due

    def _ping_all(self, now: float) -> None:
        for name, worker in list(self._workers.items()):
            self._carry_out(name, worker.on_ping_time(now))
        self._set_ping_timer(now)

    def _set_ping_timer(self, now: float) -> None:
        periods = [worker.spec.limits.ping_s for worker in self._workers.values()]
        self._timers.set(_Timer.PING, now + min(periods, default=StuckLimits().ping_s))

    # -- stopping -------------------------------------------------------------------------

    @property
    def _is_stopping(self) -> bool:
        return self._phase in (_Phase.STOPPING, _Phase.STOPPED)

    @property
    def _is_stopped(self) -> bool:
        return self._is_stopping and not self._list_alive()

    def _list_alive(self) -> list[Worker]:
        """Return the workers that can still end."""
        return [
            worker
            for worker in self._workers.values()
            if worker.has_process and worker.state is not WorkerState.ABANDONED
        ]

    def _stop_next_rank(self, now: float) -> None:
        """Ask the lowest rank that is alive to stop; higher ranks go on serving it until it has."""
        rank = min((worker.spec.stop_rank for worker in self._list_alive()), default=None)
        for name, worker in list(self._workers.items()):
            if rank is not None and worker.spec.stop_rank > rank:
                continue
            if worker.up:
                grace_s = max(0.0, min(worker.spec.stop_grace_s, self._stop_at - now))
                self._carry_out(name, worker.set_up(False, now, grace_s=grace_s))

    def _sum_graces(self) -> float:
        longest: dict[int, float] = {}
        for worker in self._list_alive():
            rank = worker.spec.stop_rank
            longest[rank] = max(longest.get(rank, 0.0), worker.spec.stop_grace_s)
        return sum(longest.values())

    # -- status ---------------------------------------------------------------------------

    def _publish_changes(self, now: float) -> None:
        """Publish soon if something changed since the last time."""
        if self._publisher is None or self._count_changes() == self._published_changes:
            return
        self._published_changes = self._count_changes()
        self._timers.set(_Timer.STATUS, max(now, self._publisher.published_at + CHANGED_EVERY_S))

    def _count_changes(self) -> int:
        return sum(worker.changes + 1 for worker in self._workers.values()) + self._is_stopping

    def _publish(self, now: float) -> None:
        if self._publisher is None:
            return
        self._timers.set(_Timer.STATUS, now + UNCHANGED_EVERY_S)
        snapshot = self._publisher.publish(self.status(), now)
        if snapshot is None:
            return
        for name, worker in list(self._workers.items()):
            process = self._processes.get(name)
            # a worker that has not read the last one gets the next one instead
            if worker.spec.wants_status and process is not None and not process.has_queued:
                self._send(name, messages.Status(snapshot=snapshot))

    # -- small things ---------------------------------------------------------------------

    def _find(self, name: str) -> Worker:
        try:
            return self._workers[name]
        except KeyError:
            known = ", ".join(self._workers) or "none"
            raise UnknownWorker(f'no worker is called "{name}"; known are: {known}') from None

    def _forget_removed(self) -> None:
        for name, worker in list(self._workers.items()):
            if worker.is_removed and not worker.has_process:
                self._timers.cancel(name)
                del self._workers[name]

    def _format_now(self) -> str:
        return format_utc(self._wall())


def _restore_signal(number: signal.Signals, handler: object) -> None:
    signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]  # as it was returned
