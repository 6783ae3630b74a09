"""
The supervisor: one thread, one selector, one heap of deadlines.

Workers decide (`worker`), the staff carries it out (`staff`) by the crew of processes,
which tells what happens to them (`crew`). A turn waits for the next happening or
deadline, hears what came, does what is due, makes the links that are missing and
publishes the status. Nothing here blocks; what a worker is sent waits in a bounded queue.

Signals: TERM and INT stop (a second one kills), HUP reloads, USR1 reopens logs, also in
the workers, USR2 has everyone write its stacks to standard error.
"""

import enum
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from fustor_supervisor import messages
from fustor_supervisor.bulletin import Bulletin
from fustor_supervisor.crew import Babbled, Crew, Died, Happening, Readable, Said, Signalled
from fustor_supervisor.history import History
from fustor_supervisor.notifier import Notifier
from fustor_supervisor.requests import OnReply, OnRequest, PendingCommands, RequestResult, call_program
from fustor_supervisor.shutdown import choose_to_stop, sum_graces
from fustor_supervisor.specs import LinkSpec, WorkerSpec, check_plan
from fustor_supervisor.staff import Staff
from fustor_supervisor.states import LINKED
from fustor_supervisor.status import Publisher, SupervisorStatus, format_utc
from fustor_supervisor.timers import Timer, Timers
from fustor_supervisor.worker import Worker

LOST_TIME_S: Final = 2.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_log = logging.getLogger(__name__)


class _Phase(enum.Enum):
    """The supervisor's own life."""

    NEW = "new"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


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
        history_path: Where the deaths of workers are kept from one run to the next; None forgets them.
        on_request: Answers a worker's request; None means that `answer` follows later.
        on_reload: Called on SIGHUP.
        on_reopen_logs: Called on SIGUSR1.
        in_child: Called in each new process before its main; closes what the program holds open.
        notifier: Tells the service manager when every worker is ready or being retried for the first
            time, when the stop begins, and that the loop turns. Whoever reloads tells that itself.
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
        history_path: Path | None = None,
        on_request: OnRequest | None = None,
        on_reload: Callable[[], None] | None = None,
        on_reopen_logs: Callable[[], None] | None = None,
        in_child: Callable[[], None] | None = None,
        notifier: Notifier | None = None,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._history = History(history_path) if history_path is not None else None
        self._on_request = on_request
        self._on_reload = on_reload
        self._on_reopen_logs = on_reopen_logs
        self._in_child = in_child
        self._notifier = notifier or Notifier({})
        self._clock = clock
        self._rand = rand
        self._wall = wall
        self._phase = _Phase.NEW
        self._started_at = clock()
        self._started_wall = wall()
        self._timers: Timers[Timer | str] = Timers()
        self._staff = Staff(next_epoch=next_epoch, make_worker=self._make_worker, clock=clock, timers=self._timers)
        self._bulletin = Bulletin(
            self._staff,
            self.status,
            self._timers,
            publisher=Publisher(publish, status_path) if publish is not None else None,
            history=self._history,
            notifier=self._notifier,
        )
        self._crew: Crew | None = None
        self._pending = PendingCommands()
        self._stop_at = float("inf")

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
        self._staff.apply(workers, links, self._clock())

    def set_up(self, name: str, up: bool) -> None:
        """
        Start or stop a worker for as long as nobody says otherwise.

        Raises:
            UnknownWorker: No worker has this name.
        """
        worker = self._staff.find(name)
        if not self.is_stopping:
            self._staff.carry_out(worker, worker.set_up(up, self._clock()))

    def restart(self, name: str) -> None:
        """
        Stop a worker and start it again, at once if it is waiting.

        Raises:
            UnknownWorker: No worker has this name.
        """
        worker = self._staff.find(name)
        if not self.is_stopping:
            self._staff.carry_out(worker, worker.restart(self._clock()))

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
        worker = self._staff.find(name)
        number = self._pending.add(name, on_reply)
        if worker.state not in LINKED:
            self._pending.fail_all(name, worker.generation, f"worker {name} is {worker.state.value}")
            return
        worker.note_command(number, self._clock())
        self._staff.send(name, messages.Command(id=number, action=action, target=target))

    def answer(self, request: messages.Request, result: RequestResult) -> None:
        """Answer a request for which `on_request` returned None; dropped if the asking process is gone."""
        self._staff.send(
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
            grace_s = sum_graces(worker.spec for worker in self._staff.list_alive())
        if not self.is_stopping:
            _log.info("supervisor stopping grace_s=%g", grace_s)
            self._phase = _Phase.STOPPING
            self._notifier.stopping()
        if now + grace_s < self._stop_at:
            self._stop_at = now + grace_s
            self._timers.set(Timer.STOP_LIMIT, self._stop_at)
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
            workers=[worker.describe(now) for worker in self._staff],
            made_s=now,
            problems=self._bulletin.problems,
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
            self._staff.start(self._crew, now)
        self._bulletin.tell_alive(now)
        self._bulletin.publish_changes(now)

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
            for worker in self._staff:
                worker.on_lost_time(now)
        for happening in happenings:
            self._take(happening, now)
        for due in self._timers.pop_due(now):
            self._take_deadline(due, now)
        self._staff.attach_links(now)
        self._staff.forget_removed()
        if self.is_stopping:
            self._stop_next_rank(now)
        else:
            self._bulletin.tell_settled()
        self._bulletin.publish_changes(now)
        return not self._is_stopped

    def close(self) -> None:
        """Kill what is left, publish the last status, and put signals and descriptors back."""
        self._phase = _Phase.STOPPED
        self._bulletin.publish(self._clock())
        if self._crew is not None:
            self._crew.close()
            self._crew = None

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
                worker = self._staff.find(name)
                self._staff.carry_out(worker, worker.on_stuck(f"sent a malformed message: {error}", now))
            case Died(name=name, pid=pid, generation=generation, exit=exit, output=output):
                _log.info("worker died name=%s pid=%d code=%s signal=%s", name, pid, exit.code, exit.signal)
                worker = self._staff.find(name)
                decisions = worker.on_died(exit, now, output=output)
                self._pending.fail_all(name, generation, f"worker {name} died before it replied")
                self._staff.carry_out(worker, decisions)

    def _take_message(self, name: str, message: messages.FromWorkerMessage, now: float) -> None:
        self._staff.find(name).on_message(message, now)
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

    def _take_deadline(self, due: Timer | str, now: float) -> None:
        if due is Timer.STATUS:
            self._bulletin.publish(now)
        elif due is Timer.STOP_LIMIT:
            self._staff.kill_all(now)
        elif due is Timer.WATCHDOG:
            self._bulletin.tell_alive(now)
        else:
            self._staff.take_deadline(due, now)

    # -- stopping -------------------------------------------------------------------------

    @property
    def _is_stopped(self) -> bool:
        return self.is_stopping and not self._staff.list_alive()

    def _stop_next_rank(self, now: float) -> None:
        """Ask the lowest rank that is alive to stop; higher ranks go on serving it until it has."""
        rank = choose_to_stop(worker.spec for worker in self._staff.list_alive())
        for worker in self._staff:
            if rank is not None and worker.spec.stop_rank > rank:
                continue
            if worker.up:
                grace_s = max(0.0, min(worker.spec.stop_grace_s, self._stop_at - now))
                self._staff.carry_out(worker, worker.set_up(False, now, grace_s=grace_s))

    # -- small things ---------------------------------------------------------------------

    def _make_worker(self, spec: WorkerSpec) -> Worker:
        deaths = self._history.recall(spec.name) if self._history is not None else ()
        return Worker(spec, rand=self._rand, wall=self._format_now, deaths=deaths)

    def _format_now(self) -> str:
        return format_utc(self._wall())
