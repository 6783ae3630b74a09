"""
The supervisor: one thread, one selector, one heap of deadlines.

Workers decide (`worker`), the crew of processes tells and does (`crew`), this is what
joins the two. A turn waits for the next happening or deadline, hears what came, does
what is due, makes the links that are missing and publishes the status. Nothing here
blocks; what a worker is sent waits in a bounded queue.

Signals: TERM and INT stop (a second one kills), HUP reloads, USR1 reopens logs, also in
the workers, USR2 has everyone write its stacks to standard error.
"""

import enum
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from fustor_supervisor import messages
from fustor_supervisor.channel import make_link
from fustor_supervisor.crew import Babbled, Crew, Died, Happening, Readable, Said, Signalled
from fustor_supervisor.errors import ForkRefused, QueueFull, UnknownWorker
from fustor_supervisor.links import Links
from fustor_supervisor.requests import OnReply, OnRequest, PendingCommands, RequestResult, call_program
from fustor_supervisor.shutdown import choose_to_stop, sum_graces
from fustor_supervisor.specs import LinkSpec, StuckLimits, WorkerSpec, check_plan
from fustor_supervisor.states import LINKED, WorkerState
from fustor_supervisor.status import UNCHANGED_EVERY_S, Publisher, SupervisorStatus, format_utc
from fustor_supervisor.timers import Timers
from fustor_supervisor.worker import Decision, Dump, Kill, Send, Spawn, Wait, Worker

LINK_RETRY_S: Final = 1.0
LOST_TIME_S: Final = 2.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_log = logging.getLogger(__name__)


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
        on_request: OnRequest | None = None,
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
        self._crew: Crew | None = None
        self._links = Links()
        self._pending = PendingCommands()
        self._timers: Timers[_Timer | str] = Timers()
        self._stop_at = float("inf")
        self._published: list[tuple[str, int]] = []

    # -- what the program asks for --------------------------------------------------------

    def apply(self, workers: Sequence[WorkerSpec], links: Sequence[LinkSpec]) -> None:
        """
        Take a plan: start what is new, stop what is gone, restart what changed, leave the rest alone.

        Raises:
            InvalidPlan: Nothing was changed.
        """
        check_plan(workers, links)
        if self.is_stopping:
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
        if not self.is_stopping:
            self._carry_out(name, worker.set_up(up, self._clock()))

    def restart(self, name: str) -> None:
        """
        Stop a worker and start it again, at once if it is waiting.

        Raises:
            UnknownWorker: No worker has this name.
        """
        worker = self._find(name)
        if not self.is_stopping:
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
        self._send(
            request.worker,
            messages.Answer(id=request.id, result=result.result, ok=result.ok),
            generation=request.generation,
        )

    def watch(self, descriptor: int, on_readable: Callable[[], None]) -> None:
        """
        Call back whenever a descriptor of the program is readable, while the supervisor runs.

        Args:
            descriptor: Stays the program's; `unwatch` it before closing it, and close it in
                workers by `in_child`.
            on_readable: Reads it, and must not block.
        """
        if self._crew is not None:
            self._crew.watch(descriptor, on_readable)

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor of the program."""
        if self._crew is not None:
            self._crew.unwatch(descriptor)

    def stop(self, grace_s: float | None = None) -> None:
        """
        Stop all workers, lower ranks first, then end `run`.

        Args:
            grace_s: Whoever is left after it is killed; None sums up what the ranks may take.
                A second call can only shorten it.
        """
        now = self._clock()
        if grace_s is None:
            grace_s = sum_graces(worker.spec for worker in self._list_alive())
        if not self.is_stopping:
            _log.info("supervisor stopping grace_s=%g", grace_s)
            self._phase = _Phase.STOPPING
        if now + grace_s < self._stop_at:
            self._stop_at = now + grace_s
            self._timers.set(_Timer.STOP_LIMIT, self._stop_at)
        self._stop_next_rank(now)

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop, or has stopped."""
        return self._phase in (_Phase.STOPPING, _Phase.STOPPED)

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
        self._crew = Crew(_SIGNALS, self._in_child)
        now = self._clock()
        if not self.is_stopping:
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
        if self._crew is None or self._is_stopped:
            return False
        next_at = self._timers.next_at()
        waits = [] if max_wait_s is None else [max_wait_s]
        if next_at is not None:
            waits.append(max(0.0, next_at - self._clock()))
        happenings = self._crew.wait(min(waits, default=None))
        now = self._clock()
        if next_at is not None and now - next_at > LOST_TIME_S:
            for worker in self._workers.values():
                worker.on_lost_time(now)
        for happening in happenings:
            self._take(happening, now)
        for due in self._timers.pop_due(now):
            self._take_deadline(due, now)
        self._attach_links(now)
        self._forget_removed()
        if self.is_stopping:
            self._stop_next_rank(now)
        self._publish_changes(now)
        return not self._is_stopped

    def close(self) -> None:
        """Kill what is left, publish the last status, and put signals and descriptors back."""
        self._phase = _Phase.STOPPED
        self._publish(self._clock())
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    # -- decisions ------------------------------------------------------------------------

    def _carry_out(self, name: str, decisions: list[Decision]) -> None:
        """Do what a worker decided, in order."""
        if self._crew is None:  # not started: `start` asks every worker again
            return
        for decision in decisions:
            match decision:
                case Spawn():
                    self._spawn(name, self._crew)
                case Send(message=message):
                    self._send(name, message)
                case Dump(by_signal=by_signal):
                    _log.warning("stacks follow name=%s suspended=%s", name, self._crew.is_suspended(name))
                    if by_signal:
                        self._crew.signal(signal.SIGUSR2, name)
                    else:
                        self._send(name, messages.DumpStacks())
                case Kill():
                    self._crew.kill(name)
                case Wait(until=None):
                    self._timers.cancel(name)
                case Wait(until=until) if until is not None:
                    self._timers.set(name, until)

    def _spawn(self, name: str, crew: Crew) -> None:
        worker = self._workers[name]
        now = self._clock()
        worker.begin_spawn(now)
        try:
            pid = crew.spawn(worker.spec, worker.generation)
        except (OSError, ForkRefused) as err:
            self._carry_out(name, worker.on_spawn_failed(str(err), now))
            return
        worker.on_spawned(pid)
        self._links.note_spawned(name)

    def _send(
        self,
        name: str,
        message: messages.ToWorkerMessage,
        *,
        generation: int | None = None,
        descriptor: socket.socket | None = None,
    ) -> None:
        if self._crew is None:
            return
        try:
            self._crew.send(name, message, generation=generation, descriptor=descriptor)
        except QueueFull as err:
            self._carry_out(name, self._workers[name].on_stuck(str(err), self._clock()))

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
                continue
            _log.info("link made name=%s epoch=%d", link.name, epoch)
            attach = messages.Attach(link=link.name, epoch=epoch)
            self._send(link.source, attach, descriptor=source)
            self._send(link.target, attach, descriptor=target)

    def _is_linked(self, name: str) -> bool:
        return self._crew is not None and name in self._crew and self._workers[name].state in LINKED

    # -- happenings -----------------------------------------------------------------------

    def _take(self, happening: Happening, now: float) -> None:
        match happening:
            case Signalled(number=number):
                self._take_signal(number)
            case Said(name=name, generation=generation, message=message) if message.generation == generation:
                self._take_message(name, message, now)
            case Readable(on_readable=on_readable):
                self._call("on_readable", on_readable)
            case Babbled(name=name, error=error):
                self._carry_out(name, self._workers[name].on_stuck(f"sent a malformed message: {error}", now))
            case Died(name=name, pid=pid, generation=generation, exit=exit):
                _log.info("worker died name=%s pid=%d code=%s signal=%s", name, pid, exit.code, exit.signal)
                decisions = self._workers[name].on_died(exit, now)
                self._pending.fail_all(name, generation, f"worker {name} died before it replied")
                self._carry_out(name, decisions)

    def _take_message(self, name: str, message: messages.FromWorkerMessage, now: float) -> None:
        self._workers[name].on_message(message, now)
        if isinstance(message, messages.Reply):
            self._pending.finish(message)
        elif isinstance(message, messages.Request):
            request = msgspec.structs.replace(message, worker=name)
            result = call_program(self._on_request, request)
            if result is not None:
                self.answer(request, result)

    def _take_signal(self, number: signal.Signals) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self.stop(0.0 if self.is_stopping else None)
        elif number == signal.SIGHUP:
            self._call("on_reload", self._on_reload)
        elif number == signal.SIGUSR1:
            self._call("on_reopen_logs", self._on_reopen_logs)
        if self._crew is not None and number in (signal.SIGUSR1, signal.SIGUSR2):
            self._crew.signal(number)  # our own stacks were written by faulthandler already

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
    def _is_stopped(self) -> bool:
        return self.is_stopping and not self._list_alive()

    def _list_alive(self) -> list[Worker]:
        """Return the workers that can still end."""
        return [
            worker
            for worker in self._workers.values()
            if worker.has_process and worker.state is not WorkerState.ABANDONED
        ]

    def _stop_next_rank(self, now: float) -> None:
        """Ask the lowest rank that is alive to stop; higher ranks go on serving it until it has."""
        rank = choose_to_stop(worker.spec for worker in self._list_alive())
        for name, worker in list(self._workers.items()):
            if rank is not None and worker.spec.stop_rank > rank:
                continue
            if worker.up:
                grace_s = max(0.0, min(worker.spec.stop_grace_s, self._stop_at - now))
                self._carry_out(name, worker.set_up(False, now, grace_s=grace_s))

    # -- status ---------------------------------------------------------------------------

    def _publish_changes(self, now: float) -> None:
        """Publish soon if something changed since the last time."""
        if self._publisher is None:
            return
        changes = [(name, worker.changes) for name, worker in self._workers.items()]
        if changes != self._published:
            self._published = changes
            self._timers.set(_Timer.STATUS, self._publisher.next_at(now))

    def _publish(self, now: float) -> None:
        if self._publisher is None:
            return
        self._timers.set(_Timer.STATUS, now + UNCHANGED_EVERY_S)
        snapshot = self._publisher.publish(self.status(), now)
        if snapshot is None or self._crew is None:
            return
        for name, worker in list(self._workers.items()):
            # a worker that has not read the last one gets the next one instead
            if worker.spec.wants_status and self._crew.is_reading(name):
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
