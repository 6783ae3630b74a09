"""The life of a worker without a process: times are given, decisions are compared."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fustor_supervisor import messages
from fustor_supervisor.decisions import Dump, Inspect, Kill, Send, Spawn, Wait
from fustor_supervisor.exitcodes import ExitCode
from fustor_supervisor.process import Exit
from fustor_supervisor.specs import ResourceLimits, RestartPolicy, StuckLimits, WorkerSpec
from fustor_supervisor.states import LINKED, WorkerState
from fustor_supervisor.worker import DUMP_S, FORK_RETRY_S, KILL_LIMIT_S, Worker

KILLED = Exit(None, "SIGKILL")
SPEC = WorkerSpec("w", lambda runtime: None, restart=RestartPolicy(jitter=0.0), stop_grace_s=3.0)


@pytest.fixture
def worker() -> Worker:
    return make_worker()


def make_worker(spec: WorkerSpec = SPEC) -> Worker:
    return Worker(spec, rand=lambda: 0.5, wall=lambda: "now")


def spawn(worker: Worker, now: float = 0.0, *, ready: bool = True) -> None:
    worker.begin_spawn(now)
    worker.on_spawned(4711)
    if ready:
        worker.on_message(messages.Ready(generation=worker.generation), now)


def report(worker: Worker, now: float, rows: int, *, owed: bool = False) -> None:
    worker.on_message(messages.Progress(generation=worker.generation, counters={"rows": rows}, owed=owed), now)


def answer(worker: Worker, ping: object, now: float) -> None:
    assert isinstance(ping, Send)
    assert isinstance(ping.message, messages.Ping)
    progress = messages.Progress(generation=worker.generation, counters={})
    worker.on_message(messages.Pong(generation=worker.generation, n=ping.message.n, progress=progress), now)


def test_a_worker_that_shall_run_is_spawned_and_one_that_shall_not_is_not(worker: Worker) -> None:
    assert worker.set_up(True, 0.0) == [Spawn()]
    assert make_worker().set_up(False, 0.0) == [Wait(None)]


def test_the_first_death_restarts_at_once_and_the_next_ones_wait(worker: Worker) -> None:
    spawn(worker)
    assert worker.on_died(KILLED, 1.0) == [Wait(None), Spawn()]
    spawn(worker, 1.0)
    assert worker.on_died(KILLED, 2.0) == [Wait(None), Wait(2.25)]
    assert worker.state is WorkerState.BACKOFF
    assert worker.on_deadline(2.25) == [Spawn()]
    spawn(worker, 2.25)
    assert worker.on_died(KILLED, 3.0) == [Wait(None), Wait(3.5)]


def test_a_worker_that_was_ready_for_long_starts_counting_anew(worker: Worker) -> None:
    for now in (0.0, 1.0):
        spawn(worker, now)
        worker.on_died(KILLED, now)
        if worker.state is WorkerState.BACKOFF:
            worker.on_deadline(now + 60.0)
    spawn(worker, 100.0)
    assert worker.on_died(KILLED, 110.0) == [Wait(None), Spawn()]


def test_a_permanent_exit_waits_for_a_newer_plan(worker: Worker) -> None:
    spawn(worker)
    worker.on_message(messages.Failed(generation=1, error="bad key", permanent=True), 0.0)
    assert worker.on_died(Exit(ExitCode.PERMANENT), 1.0) == [Wait(None)]
    assert worker.state is WorkerState.FATAL
    assert worker.last_error == "bad key"
    assert worker.change(SPEC, 2.0) == [Spawn()]


def test_a_stop_asks_then_kills_then_gives_up(worker: Worker) -> None:
    spawn(worker)
    assert worker.set_up(False, 10.0) == [Send(messages.Stop(grace_s=3.0)), Wait(13.0)]
    assert worker.set_up(False, 11.0) == []  # asking again does not prolong it
    assert worker.on_deadline(13.0) == [Kill(), Wait(13.0 + KILL_LIMIT_S)]
    assert worker.on_deadline(13.0 + KILL_LIMIT_S) == [Inspect()]
    assert worker.state is WorkerState.ABANDONED
    worker.on_inspected("it is in uninterruptible sleep")
    assert worker.last_error == "SIGKILL does not end it; it is in uninterruptible sleep"
    assert worker.on_died(KILLED, 99.0) == [Wait(None)]
    assert worker.state is WorkerState.STOPPED


def test_a_deadline_that_was_put_off_does_nothing_at_its_old_time(worker: Worker) -> None:
    spawn(worker)
    worker.set_up(False, 0.0)
    worker.kill_now(3.0)
    assert worker.on_deadline(3.0) == []
    assert worker.state is WorkerState.STOPPING


def test_a_worker_that_is_wanted_again_while_it_stops_is_started_when_it_has(worker: Worker) -> None:
    spawn(worker)
    worker.set_up(False, 0.0)
    assert worker.set_up(True, 1.0) == []
    assert worker.on_died(Exit(0), 2.0) == [Wait(None), Spawn()]


def test_a_stuck_worker_writes_its_stacks_is_killed_and_counts_as_failed(worker: Worker) -> None:
    spawn(worker)
    report(worker, 0.0, 1, owed=True)
    answer(worker, worker.on_ping_time(5.0)[0], 5.0)
    report(worker, 5.0, 1, owed=True)
    answer(worker, worker.on_ping_time(10.0)[0], 10.0)
    report(worker, 10.0, 1, owed=True)
    # the pong said for a moment that nothing is owed
    assert worker.get_stuck_at() == 22.0
    assert worker.on_ping_time(20.0) == [Send(messages.Ping(n=3))]
    assert worker.on_ping_time(22.0) == [Inspect(), Dump(by_signal=True), Wait(22.0 + DUMP_S)]
    worker.on_inspected("it is busy")
    assert worker.on_deadline(22.0 + DUMP_S) == [Kill(), Wait(22.0 + DUMP_S + KILL_LIMIT_S)]
    assert worker.on_died(KILLED, 23.0) == [Wait(None), Spawn()]
    assert worker.last_error == "it owes work, and no progress, for 12 s; it is busy"


def test_a_stuck_worker_whose_control_thread_answers_is_asked_for_its_stacks(worker: Worker) -> None:
    spawn(worker)
    worker.note_command(1, 0.0)
    answer(worker, worker.on_ping_time(5.0)[0], 5.0)
    assert worker.on_ping_time(15.0) == [Inspect(), Dump(by_signal=False), Wait(15.0 + DUMP_S)]


def test_work_that_moves_is_never_stuck_however_long_it_is_owed(worker: Worker) -> None:
    spawn(worker)
    for tick in range(1, 100):
        ping = worker.on_ping_time(tick * 5.0)
        answer(worker, ping[0], tick * 5.0)
        report(worker, tick * 5.0, tick, owed=True)
    assert worker.state is WorkerState.RUNNING


def test_lost_time_is_nobodys_fault(worker: Worker) -> None:
    spawn(worker)
    worker.on_ping_time(5.0)
    worker.on_lost_time(1000.0)
    assert worker.on_ping_time(1000.0) == []
    assert worker.on_ping_time(1000.0 + SPEC.limits.answer_s)[1] == Dump(by_signal=True)


def test_a_late_pong_of_an_earlier_ping_pays_no_debt(worker: Worker) -> None:
    spawn(worker)
    old = worker.on_ping_time(5.0)[0]
    answer(worker, old, 5.0)
    worker.on_ping_time(10.0)
    answer(worker, old, 10.0)
    assert worker.on_ping_time(25.0)[1] == Dump(by_signal=True)


def test_a_fork_that_fails_is_a_death_that_never_restarts_at_once(worker: Worker) -> None:
    worker.begin_spawn(0.0)
    assert worker.on_spawn_failed("no processes left", 0.0) == [Wait(None), Wait(FORK_RETRY_S)]
    assert worker.state is WorkerState.BACKOFF
    assert worker.describe(0.0).deaths[0].reason == "cannot be forked: no processes left"


def test_a_changed_fingerprint_restarts_and_forgets_failures(worker: Worker) -> None:
    for _ in range(3):
        spawn(worker)
        worker.on_died(KILLED, 0.0)
        worker.on_deadline(99.0)
    spawn(worker)
    worker.on_died(KILLED, 0.0)
    assert worker.state is WorkerState.BACKOFF
    assert worker.change(replace(SPEC, fingerprint="new"), 1.0) == [Wait(None), Spawn()]
    spawn(worker, 1.0)
    assert worker.on_died(KILLED, 2.0) == [Wait(None), Spawn()]


def test_new_limits_alone_do_not_restart(worker: Worker) -> None:
    spawn(worker)
    assert worker.change(replace(SPEC, limits=StuckLimits(owed_s=1.0)), 1.0) == []
    assert worker.spec.limits.owed_s == 1.0


def test_messages_of_a_worker_that_is_being_stopped_move_nothing(worker: Worker) -> None:
    spawn(worker, ready=False)
    worker.set_up(False, 0.0)
    worker.on_message(messages.Ready(generation=1), 0.0)
    assert worker.state is WorkerState.STOPPING
    assert worker.on_ping_time(100.0) == []


LARGE = replace(SPEC, resources=ResourceLimits(soft_memory_bytes=100_000_000))


def test_a_worker_above_its_soft_ceiling_is_reported_and_stopped_once_it_owes_no_work() -> None:
    worker = make_worker(LARGE)
    spawn(worker)
    assert worker.on_measured(99_000_000, 1.0) == []
    report(worker, 2.0, 1, owed=True)
    assert worker.on_measured(150_000_000, 5.0) == []
    status = worker.describe(5.0)
    assert (status.state, status.memory_bytes) == ("running", 150_000_000)
    assert status.concern == "it uses 150 MB of memory, its soft ceiling is 100 MB"
    report(worker, 6.0, 1)
    assert worker.on_measured(150_000_000, 10.0) == [Send(messages.Stop(grace_s=3.0)), Wait(13.0)]
    assert worker.on_died(Exit(0), 11.0) == [Wait(None), Spawn()]
    assert worker.deaths[-1].reason == "it uses 150 MB of memory, its soft ceiling is 100 MB"
    assert not worker.deaths[-1].asked
    spawn(worker, 11.0)
    assert worker.describe(11.0).concern is None


def test_a_worker_that_is_too_large_from_the_start_is_not_restarted_without_pause() -> None:
    worker = make_worker(LARGE)
    waits = []
    for _ in range(3):
        spawn(worker)
        worker.on_measured(150_000_000, 5.0)
        waits += [each for each in worker.on_died(Exit(0), 5.0) if isinstance(each, Wait) and each.until is not None]
        worker.on_deadline(99.0)
    assert waits == [Wait(5.25), Wait(5.5)]


def test_a_worker_that_shrinks_again_is_no_concern_any_more() -> None:
    worker = make_worker(LARGE)
    spawn(worker)
    report(worker, 1.0, 1, owed=True)
    worker.on_measured(150_000_000, 5.0)
    worker.on_measured(50_000_000, 10.0)
    assert worker.describe(10.0).concern is None
    assert worker.on_measured(None, 15.0) == []


def test_running_out_of_memory_names_the_hard_ceiling() -> None:
    worker = make_worker(replace(SPEC, resources=ResourceLimits(hard_memory_bytes=100_000_000)))
    spawn(worker)
    worker.on_message(messages.Failed(generation=1, error="MemoryError: "), 1.0)
    worker.on_died(Exit(1), 1.0)
    assert worker.last_error == "it needs more memory than its hard ceiling of 100 MB: MemoryError: "


class Lives(RuleBasedStateMachine):
    """Whatever happens in whatever order: no illegal move, one process at most, no way to get lost."""

    def __init__(self) -> None:
        super().__init__()
        self.worker = make_worker(LARGE)
        self.now = 0.0
        self.has_process = False
        self.deadline: float | None = None
        self.carry_out(self.worker.set_up(True, self.now))

    def carry_out(self, decisions: object) -> None:
        assert isinstance(decisions, list)
        for decision in decisions:
            if isinstance(decision, Spawn):
                assert not self.has_process
                spawn(self.worker, self.now, ready=False)
                self.has_process = True
            elif isinstance(decision, Wait):
                self.deadline = decision.until
            else:
                assert self.has_process

    @rule(seconds=st.floats(0.0, 20.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        if self.deadline is not None and self.deadline <= self.now:
            self.deadline = None
            self.carry_out(self.worker.on_deadline(self.now))

    @rule()
    def ping(self) -> None:
        self.carry_out(self.worker.on_ping_time(self.now))

    @precondition(lambda self: self.has_process)
    @rule(owed=st.booleans(), rows=st.integers(0, 2))
    def work(self, owed: bool, rows: int) -> None:
        self.carry_out(self.worker.on_message(messages.Ready(generation=self.worker.generation), self.now))
        report(self.worker, self.now, rows, owed=owed)

    @precondition(lambda self: self.has_process)
    @rule(exit=st.sampled_from([Exit(0), Exit(1), Exit(78), KILLED, Exit(None)]))
    def die(self, exit: Exit) -> None:
        self.has_process = False
        self.carry_out(self.worker.on_died(exit, self.now))

    @rule(up=st.booleans())
    def want(self, up: bool) -> None:
        self.carry_out(self.worker.set_up(up, self.now))

    @rule()
    def restart(self) -> None:
        self.carry_out(self.worker.restart(self.now))

    @rule(fingerprint=st.sampled_from("ab"), up=st.booleans())
    def change(self, fingerprint: str, up: bool) -> None:
        self.carry_out(self.worker.change(replace(LARGE, fingerprint=fingerprint, up=up), self.now))

    @precondition(lambda self: self.has_process)
    @rule(memory=st.sampled_from([None, 1, 150_000_000]))
    def measure(self, memory: int | None) -> None:
        self.carry_out(self.worker.on_measured(memory, self.now))

    @rule()
    def kill(self) -> None:
        self.carry_out(self.worker.kill_now(self.now))

    @invariant()
    def state_says_whether_there_is_a_process(self) -> None:
        assert self.worker.has_process == self.has_process

    @invariant()
    def a_worker_that_is_wanted_has_a_process_or_a_date(self) -> None:
        if self.worker.up and self.worker.state is not WorkerState.FATAL:
            assert self.has_process or self.deadline is not None

    @invariant()
    def a_worker_that_is_unwanted_is_gone_or_going(self) -> None:
        if not self.worker.up:
            assert self.worker.state not in LINKED
            assert self.worker.state is not WorkerState.STOPPING or self.deadline is not None


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
