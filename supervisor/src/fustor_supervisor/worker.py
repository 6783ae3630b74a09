"""
One worker: its state, its deadline and its deaths.

Decides, and carries nothing out: every method that can change something takes the time
and returns decisions, which the staff carries out in order. So the whole life of a worker
can be tested without a process.

A worker has one deadline, whose meaning follows from the state:

    starting, running   none (what it owes is looked at with each ping)
    stopping            SIGKILL; after SIGKILL: give it up
    backoff             start again
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from fustor_supervisor import messages, policy
from fustor_supervisor.account import Account
from fustor_supervisor.causes import add_condition, explain_exit, explain_growth, explain_stop
from fustor_supervisor.decisions import Decision, Dump, Inspect, Kill, Send, Spawn, Wait
from fustor_supervisor.exitcodes import ExitCode
from fustor_supervisor.process import Exit
from fustor_supervisor.specs import WorkerSpec
from fustor_supervisor.states import ALIVE, WorkerEvent, WorkerState, advance
from fustor_supervisor.status import Death, WorkerStatus

MAX_DEATHS: Final = 10
DUMP_S: Final = 0.2  # for a stuck worker to write its stacks before it is killed
KILL_LIMIT_S: Final = 5.0  # a process that SIGKILL did not end in this time is in uninterruptible sleep
FORK_RETRY_S: Final = 0.1  # what refused a fork will not have changed at once
_log = logging.getLogger(__name__)



class Worker:
    """
    The life of one worker through all its processes.

    Args:
        spec: What it is.
        rand: Returns 0.0 ≤ x < 1.0, for the jitter.
        wall: Returns the time for people: UTC, ISO 8601.
        deaths: How its processes ended in the runs before, oldest first.
        kill_limit_s: After SIGKILL, until it is given up.

    Attributes:
        changes: Grows with everything that is worth publishing.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        rand: Callable[[], float],
        wall: Callable[[], str],
        deaths: Sequence[Death] = (),
        kill_limit_s: float = KILL_LIMIT_S,
    ) -> None:
        self.spec = spec
        self.state = WorkerState.STOPPED
        self.up = spec.up
        self.is_removed = False
        self.generation = 0
        self.pid: int | None = None
        self.last_error = next((death.reason for death in reversed(deaths) if not death.asked), None)
        self._rand = rand
        self._wall = wall
        self._kill_limit_s = kill_limit_s
        self._failures = 0
        self._spawned_at = 0.0
        self._ready_at: float | None = None
        self._deadline: float | None = None
        self._was_killed = False
        self._fault: str | None = None
        self._said: str | None = None
        self._deaths: deque[Death] = deque(deaths, maxlen=MAX_DEATHS)
        self._account = Account()
        self._memory_bytes: int | None = None
        self._concern: str | None = None
        self.changes = 0

    # -- what an operator wants -----------------------------------------------------------

    def set_up(self, up: bool, now: float, *, grace_s: float | None = None) -> list[Decision]:
        """Start it if it shall run and does not, stop it if it shall not."""
        self.up = up
        if not up:
            return self._ask_stop(now, grace_s)
        if self.state is WorkerState.FATAL:
            self._move(WorkerEvent.STOP_ASKED)
        return self._settle()

    def restart(self, now: float) -> list[Decision]:
        """Stop it if it runs, and start it, at once if it is waiting."""
        self.up = True
        return [*self._ask_stop(now, None), *self._settle()]

    def change(self, spec: WorkerSpec, now: float) -> list[Decision]:
        """Take a newer spec: restart if its fingerprint changed, retry if the old one was fatal."""
        old, self.spec = self.spec, spec
        was_removed, self.is_removed = self.is_removed, False
        if was_removed or old.up != spec.up:
            self.up = spec.up
        if not self.up:
            return self._ask_stop(now, None)
        if old.fingerprint != spec.fingerprint:
            self._failures = 0
            return self.restart(now)
        if self.state is WorkerState.FATAL:
            self._move(WorkerEvent.RELOADED)
        return self._settle()

    def remove(self, now: float) -> list[Decision]:
        """Stop it; it may be forgotten once it has no process."""
        self.is_removed = True
        return self.set_up(False, now)

    def kill_now(self, now: float) -> list[Decision]:
        """Stop it without grace."""
        self.up = False
        if self.state not in (WorkerState.STARTING, WorkerState.RUNNING, WorkerState.STOPPING):
            return self._ask_stop(now, None)
        self._move(WorkerEvent.STOP_ASKED)
        return [] if self._was_killed else self._kill(now)

    @property
    def has_process(self) -> bool:
        """Whether there is a process, however useless."""
        return self.state in ALIVE

    @property
    def deaths(self) -> list[Death]:
        """The last ends of its processes, oldest first."""
        return list(self._deaths)

    # -- what the loop did ----------------------------------------------------------------

    def begin_spawn(self, now: float) -> None:
        """Note that the next process is being forked."""
        self._move(WorkerEvent.SPAWNED)
        self.generation += 1
        self._spawned_at = now
        self._ready_at = None
        self._was_killed = False
        self._fault = self._said = self._concern = None
        self._memory_bytes = None
        self._account.open(self.generation, now)

    def on_spawned(self, pid: int) -> None:
        """Note the process that was forked."""
        self.pid = pid
        _log.info("worker spawned name=%s generation=%d pid=%d", self.spec.name, self.generation, pid)

    def on_spawn_failed(self, error: str, now: float) -> list[Decision]:
        """Treat a fork that failed like a death."""
        self._said = f"cannot be forked: {error}"
        return self.on_died(Exit(None), now, min_delay_s=FORK_RETRY_S)

    # -- what happened to the process -----------------------------------------------------

    def on_message(self, message: messages.FromWorkerMessage, now: float) -> list[Decision]:
        """Take in what the worker says; replies and requests are the loop's business."""
        match message:
            case messages.Ready() if self.state is WorkerState.STARTING:
                self._move(WorkerEvent.READY)
                self._ready_at = now
                self._account.take_ready(now)
            case messages.Progress():
                self._take_report(message, now)
            case messages.Pong(n=n, progress=progress):
                self._account.take_pong(n)
                self._take_report(progress, now)
            case messages.Failed(error=error):
                self._said = self.last_error = error
            case messages.Reply(id=id):
                self._account.take_reply(id)
            case _:
                pass
        return []

    def note_command(self, id: int, now: float) -> None:
        """Note that the worker owes a reply."""
        self._account.note_command(id, now)

    def on_ping_time(self, now: float) -> list[Decision]:
        """Look at what the worker owes; ask again if it answered the last ping."""
        if self.state not in (WorkerState.STARTING, WorkerState.RUNNING):
            return []
        verdict = self._judge()
        if verdict is not None and verdict.at <= now:
            return self.on_stuck(verdict.reason, now)
        number = self._account.note_ping(now)
        return [] if number is None else [Send(messages.Ping(n=number))]

    def get_stuck_at(self) -> float:
        """Return when it will count as stuck if nothing changes; infinity if it owes nothing."""
        verdict = self._judge() if self.state in (WorkerState.STARTING, WorkerState.RUNNING) else None
        return float("inf") if verdict is None else verdict.at

    def on_stuck(self, reason: str, now: float) -> list[Decision]:
        """Give up on the process: stacks, SIGKILL, and a new one."""
        if self.state not in (WorkerState.STARTING, WorkerState.RUNNING):
            return []
        self._fault = reason
        self._move(WorkerEvent.STUCK)
        return [Inspect(), Dump(by_signal=self._account.owes_pong), self._wait(now + DUMP_S)]

    def on_measured(self, memory_bytes: int | None, now: float) -> list[Decision]:
        """Compare what it uses with its soft ceiling; one that is above is stopped once it owes no work."""
        if self.state is not WorkerState.RUNNING or memory_bytes is None:
            return []
        self._memory_bytes = memory_bytes
        concern = explain_growth(memory_bytes, self.spec.resources)
        if concern is not None and self._concern is None:
            _log.warning("worker too large name=%s pid=%s reason=%s", self.spec.name, self.pid, concern)
        if concern != self._concern:
            self._concern = concern
            self.changes += 1
        if concern is None or self._account.owes_work:
            return []
        self._fault = concern
        self._move(WorkerEvent.OUTGREW)
        grace_s = self.spec.stop_grace_s
        return [Send(messages.Stop(grace_s=grace_s)), self._wait(now + grace_s)]

    def on_lost_time(self, now: float) -> None:
        """Start all limits anew: the machine or the supervisor stood still, so the worker may have too."""
        self._account.start_limits_anew(now)

    def on_died(
        self, exit: Exit, now: float, *, output: str = "", min_delay_s: float = 0.0
    ) -> list[Decision]:
        """
        Note a death and decide what follows.

        Args:
            exit: How the process ended.
            now: When.
            output: The last that it wrote to standard error.
            min_delay_s: A restart waits for this time at least.
        """
        was_stopping = self.state in (WorkerState.STOPPING, WorkerState.ABANDONED)
        self._note_death(exit, now, output, asked=was_stopping and self._fault is None)
        decisions: list[Decision] = [self._wait(None)]
        if was_stopping:
            is_failure = self.state is WorkerState.STOPPING and self._fault is not None and self.up
            self._move(WorkerEvent.DIED_FAULTY if is_failure else WorkerEvent.DIED)
        elif exit.code == ExitCode.PERMANENT:
            self._move(WorkerEvent.DIED_FOR_GOOD)
        else:
            self._move(WorkerEvent.DIED)
        if self.state is WorkerState.BACKOFF:
            decisions += self._back_off(now, min_delay_s)
        return [*decisions, *self._settle()]

    def on_deadline(self, now: float) -> list[Decision]:
        """Do what the state's deadline means; nothing if it was put off meanwhile."""
        if self._deadline is None or now < self._deadline:
            return []
        self._deadline = None
        if self.state is WorkerState.BACKOFF:
            self._move(WorkerEvent.DELAY_OVER)
            return self._settle()
        if self.state is WorkerState.STOPPING and not self._was_killed:
            return self._kill(now)
        if self.state is WorkerState.STOPPING:
            self._move(WorkerEvent.WILL_NOT_DIE)
            return [Inspect()]
        return []

    def on_inspected(self, condition: str | None) -> None:
        """Take in what the process is doing, if that is known: the cause, as far as one can see from outside."""
        if self.state is WorkerState.ABANDONED:
            self._fault = self.last_error = add_condition("SIGKILL does not end it", condition)
        elif self._fault is not None:
            self._fault = add_condition(self._fault, condition)
        _log.error("worker %s name=%s pid=%s reason=%s", self.state.value, self.spec.name, self.pid, self._fault)

    # -- how it stands --------------------------------------------------------------------

    def describe(self, now: float) -> WorkerStatus:
        """Return how the worker stands."""
        report = self._account.report
        retry_in_s = None
        if self.state is WorkerState.BACKOFF and self._deadline is not None:
            retry_in_s = max(0.0, self._deadline - now)
        return WorkerStatus(
            name=self.spec.name,
            state=self.state.value,
            up=self.up,
            pid=self.pid,
            generation=self.generation,
            restarts=max(0, self.generation - 1),
            uptime_s=now - self._spawned_at if self.has_process else 0.0,
            retry_in_s=retry_in_s,
            last_exit=self._deaths[-1] if self._deaths else None,
            deaths=self.deaths,
            last_error=self.last_error,
            failures=self._failures,
            fault=self._fault,
            memory_bytes=self._memory_bytes,
            concern=self._concern,
            phase=report.phase,
            counters=report.counters,
            totals=self._account.totals,
            owed=report.owed,
            detail=report.detail,
        )

    # -- inside ---------------------------------------------------------------------------

    def _move(self, event: WorkerEvent) -> None:
        old, self.state = self.state, advance(self.state, event)
        self.changes += 1
        if old is not self.state:
            _log.info("worker %s name=%s event=%s was=%s", self.state.value, self.spec.name, event.value, old.value)

    def _settle(self) -> list[Decision]:
        """Start it if it shall run and nothing is in the way."""
        return [Spawn()] if self.up and self.state is WorkerState.STOPPED else []

    def _judge(self) -> policy.Verdict | None:
        return self._account.judge(policy.give_time(self.spec.limits, self._failures))

    def _wait(self, until: float | None) -> Wait:
        self._deadline = until
        return Wait(until)

    def _kill(self, now: float) -> list[Decision]:
        self._was_killed = True
        return [Kill(), self._wait(now + self._kill_limit_s)]

    def _ask_stop(self, now: float, grace_s: float | None) -> list[Decision]:
        had_process = self.has_process
        old = self.state
        self._move(WorkerEvent.STOP_ASKED)
        if not had_process:
            return [self._wait(None)]
        if old in (WorkerState.STOPPING, WorkerState.ABANDONED):
            return []
        grace_s = self.spec.stop_grace_s if grace_s is None else grace_s
        return [Send(messages.Stop(grace_s=grace_s)), self._wait(now + grace_s)]

    def _back_off(self, now: float, min_delay_s: float) -> list[Decision]:
        ready_s = None if self._ready_at is None else now - self._ready_at
        self._failures = policy.count_failures(self._failures, ready_s, self.spec.restart)
        delay_s = max(min_delay_s, policy.next_delay(self._failures, self.spec.restart, self._rand))
        _log.warning(
            "worker restarts name=%s in_s=%.2f failures=%d reason=%s",
            self.spec.name,
            delay_s,
            self._failures,
            self._deaths[-1].reason,
        )
        if delay_s <= 0:
            self._move(WorkerEvent.DELAY_OVER)
            return []
        return [self._wait(now + delay_s)]

    def _note_death(self, exit: Exit, now: float, output: str, *, asked: bool) -> None:
        if asked:
            reason = explain_stop(self._was_killed)
        else:
            reason = self._fault or explain_exit(exit, self._said, self.spec.resources)
            self.last_error = reason
        death = Death(
            at=self._wall(),
            code=exit.code,
            signal=exit.signal,
            reason=reason,
            uptime_s=now - self._spawned_at,
            generation=self.generation,
            asked=asked,
            output="" if asked else output,
        )
        self._deaths.append(death)
        self.pid = None
        self._account.close()

    def _take_report(self, report: messages.Progress, now: float) -> None:
        if self._account.take_report(report, now):
            self.changes += 1
