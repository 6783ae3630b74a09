"""
All workers of the plan, with their processes and the links between them.

The one place that carries out what workers decide; what is decided leads to further
decisions here, a fork that failed or a queue that is full for example. Without a crew,
before the start, nothing is carried out; `start` asks every worker again.
"""

import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from fustor_supervisor import messages
from fustor_supervisor.channel import make_link
from fustor_supervisor.crew import Crew
from fustor_supervisor.decisions import Decision, Dump, Inspect, Kill, Send, Spawn, Wait
from fustor_supervisor.errors import ForkRefused, QueueFull, UnknownWorker
from fustor_supervisor.links import Links
from fustor_supervisor.procfs import describe_process, measure_memory
from fustor_supervisor.specs import LinkSpec, StuckLimits, WorkerSpec
from fustor_supervisor.states import LINKED, WorkerState
from fustor_supervisor.timers import Timer, Timers
from fustor_supervisor.worker import Worker

LINK_RETRY_S: Final = 1.0
_log = logging.getLogger(__name__)


class Staff:
    """
    Workers by name, in the order of the plan.

    Args:
        next_epoch: Returns a number that grows for ever; names the next data link.
        make_worker: Makes a worker of a spec.
        clock: Monotonic seconds.
        timers: Gets the deadlines of the workers under their names, and those of `Timer` that are the staff's.
    """

    def __init__(
        self,
        *,
        next_epoch: Callable[[], int],
        make_worker: Callable[[WorkerSpec], Worker],
        clock: Callable[[], float],
        timers: Timers[Timer | str],
    ) -> None:
        self._next_epoch = next_epoch
        self._make_worker = make_worker
        self._clock = clock
        self._timers = timers
        self._workers: dict[str, Worker] = {}
        self._links = Links()
        self._crew: Crew | None = None

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._workers.values()))

    def find(self, name: str) -> Worker:
        """
        Return a worker.

        Raises:
            UnknownWorker: No worker has this name.
        """
        try:
            return self._workers[name]
        except KeyError:
            known = ", ".join(self._workers) or "none"
            raise UnknownWorker(f'no worker is called "{name}"; known are: {known}') from None

    def list_alive(self) -> list[Worker]:
        """Return the workers that can still end."""
        return [worker for worker in self if worker.has_process and worker.state is not WorkerState.ABANDONED]

    def is_settled(self) -> bool:
        """Tell whether nobody is on the way up: each is ready, being retried, or not wanted."""
        return not any(
            worker.state is WorkerState.STARTING or (worker.up and worker.state is WorkerState.STOPPED)
            for worker in self
        )

    # -- the plan ---------------------------------------------------------------------------

    def apply(self, workers: Sequence[WorkerSpec], links: Sequence[LinkSpec], now: float) -> None:
        """Start what is new, stop what is gone, restart what changed, leave the rest alone."""
        self._links.change(links)
        wanted = {spec.name: spec for spec in workers}
        for worker in self:
            if worker.spec.name not in wanted:
                self.carry_out(worker, worker.remove(now))
        for name, spec in wanted.items():
            known = self._workers.get(name)
            if known is None:
                known = self._workers[name] = self._make_worker(spec)
                self.carry_out(known, known.set_up(spec.up, now))
            else:
                self.carry_out(known, known.change(spec, now))
        self.forget_removed()
        self._set_ping_timer(now)
        self.attach_links(now)

    def start(self, crew: Crew, now: float) -> None:
        """Carry out from now on, by this crew, and start every worker that shall run."""
        self._crew = crew
        self._set_ping_timer(now)
        for worker in self:
            self.carry_out(worker, worker.set_up(worker.up, now))
        self.attach_links(now)

    def forget_removed(self) -> None:
        """Drop the workers that the plan names no more and that have ended."""
        for worker in self:
            if worker.is_removed and not worker.has_process:
                self._timers.cancel(worker.spec.name)
                del self._workers[worker.spec.name]

    # -- decisions --------------------------------------------------------------------------

    def carry_out(self, worker: Worker, decisions: list[Decision]) -> None:
        """Do what a worker decided, in order."""
        if self._crew is None:
            return
        name = worker.spec.name
        for decision in decisions:
            match decision:
                case Spawn():
                    self._spawn(worker, self._crew)
                case Send(message=message):
                    self.send(name, message)
                case Inspect():
                    worker.on_inspected(describe_process(worker.pid) if worker.pid is not None else None)
                case Dump(by_signal=by_signal):
                    _log.warning("stacks follow name=%s", name)
                    if by_signal:
                        self._crew.signal(signal.SIGUSR2, name)
                    else:
                        self.send(name, messages.DumpStacks())
                case Kill():
                    self._crew.kill(name)
                case Wait(until=None):
                    self._timers.cancel(name)
                case Wait(until=until) if until is not None:
                    self._timers.set(name, until)

    def send(
        self,
        name: str,
        message: messages.ToWorkerMessage,
        *,
        generation: int | None = None,
        descriptor: socket.socket | None = None,
    ) -> None:
        """Queue a message to a worker's process, if it has one, and this generation; one that never reads is stuck."""
        if self._crew is None:
            return
        try:
            self._crew.send(name, message, generation=generation, descriptor=descriptor)
        except QueueFull as err:
            worker = self.find(name)
            self.carry_out(worker, worker.on_stuck(str(err), self._clock()))

    def send_status(self, snapshot: bytes) -> None:
        """Send the published status to those who want it; who has not read the last one gets the next one instead."""
        for worker in self:
            name = worker.spec.name
            if worker.spec.wants_status and self._crew is not None and self._crew.is_reading(name):
                self.send(name, messages.Status(snapshot=snapshot))

    def attach_links(self, now: float) -> None:
        """Make the links that are missing and hand out their ends."""
        for link in self._links.take_due(self._is_linked):
            try:
                epoch = self._next_epoch()
                source, target = make_link()
            except Exception as err:  # a callback's edge, or no descriptors: the pipe waits, all else goes on
                _log.warning("link not made name=%s retry_s=%g error=%s", link.name, LINK_RETRY_S, err)
                self._links.put_back(link)
                self._timers.set(Timer.LINKS, now + LINK_RETRY_S)
                continue
            _log.info("link made name=%s epoch=%d", link.name, epoch)
            attach = messages.Attach(link=link.name, epoch=epoch)
            self.send(link.source, attach, descriptor=source)
            self.send(link.target, attach, descriptor=target)

    def _spawn(self, worker: Worker, crew: Crew) -> None:
        now = self._clock()
        worker.begin_spawn(now)
        try:
            pid = crew.spawn(worker.spec, worker.generation)
        except (OSError, ForkRefused) as err:
            self.carry_out(worker, worker.on_spawn_failed(str(err), now))
            return
        worker.on_spawned(pid)
        self._links.note_spawned(worker.spec.name)

    def _is_linked(self, name: str) -> bool:
        return self._crew is not None and name in self._crew and self._workers[name].state in LINKED

    # -- deadlines --------------------------------------------------------------------------

    def take_deadline(self, due: Timer | str, now: float) -> None:
        """Do what is due: the pings, or what a worker waited for."""
        if due is Timer.PING:
            for worker in self:
                self.carry_out(worker, worker.on_ping_time(now))
                if worker.spec.resources.soft_memory_bytes is not None and worker.pid is not None:
                    self.carry_out(worker, worker.on_measured(measure_memory(worker.pid), now))
            self._set_ping_timer(now)
        elif isinstance(due, str) and due in self._workers:
            worker = self._workers[due]
            self.carry_out(worker, worker.on_deadline(now))
        # LINKS only ends the wait; every turn attaches what is due

    def kill_all(self, now: float) -> None:
        """Stop every worker without grace."""
        for worker in self:
            self.carry_out(worker, worker.kill_now(now))

    def _set_ping_timer(self, now: float) -> None:
        period_s = min((worker.spec.limits.ping_s for worker in self), default=StuckLimits().ping_s)
        stuck_at = min((worker.get_stuck_at() for worker in self), default=float("inf"))
        self._timers.set(Timer.PING, max(now, min(now + period_s, stuck_at)))
