"""The stop, whenever it comes: whatever the workers are doing, all of them end, and nobody is started again."""

import itertools
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from fustor_supervisor import LinkSpec, RestartPolicy, Runtime, Supervisor, WorkerSpec
from fustor_supervisor.testing import are_running, find_worker, turn_until

NOW = RestartPolicy(first_s=0.0, base_s=0.0)
LATER = RestartPolicy(first_s=600.0, base_s=600.0, cap_s=600.0)
NEVER_S = 600.0

Start = Callable[..., Supervisor]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Supervisor] = []

    def start_with(workers: Sequence[WorkerSpec], links: Sequence[LinkSpec] = ()) -> Supervisor:
        supervisor = Supervisor(next_epoch=itertools.count(1).__next__)
        started.append(supervisor)
        supervisor.apply(workers, links)
        supervisor.start()
        return supervisor

    yield start_with
    for supervisor in started:
        supervisor.stop(0.0)
        finish(supervisor)


def finish(supervisor: Supervisor) -> None:
    """Turn until everything has been stopped; nothing may be left then."""
    while supervisor.turn():
        pass
    supervisor.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert {worker.state for worker in supervisor.status().workers} <= {"stopped"}


def ask_to_stop(*numbers: signal.Signals) -> None:
    """Send signals to the supervisor, which is this process."""
    for number in numbers:
        os.kill(os.getpid(), number)


def serve(runtime: Runtime) -> None:
    runtime.ready()
    runtime.stop_requested.wait()


def never_ready(runtime: Runtime) -> None:
    runtime.stop_requested.wait()


def ignore_stop(runtime: Runtime) -> None:
    runtime.ready()
    while True:
        signal.pause()


def crash(runtime: Runtime) -> None:
    raise ValueError("no reason")


def fail_for_good(runtime: Runtime) -> None:
    runtime.fail("no reason", permanent=True)


def test_it_reaches_workers_in_all_states_at_once(start: Start) -> None:
    supervisor = start([
        WorkerSpec("running", serve),
        WorkerSpec("starting", never_ready),
        WorkerSpec("stopping", ignore_stop, stop_grace_s=0.5),
        WorkerSpec("suspended", serve, stop_grace_s=0.5),
        WorkerSpec("backoff", crash, restart=LATER),
        WorkerSpec("fatal", fail_for_good),
        WorkerSpec("down", serve, up=False),
    ])
    turn_until(supervisor, lambda: are_running(supervisor, ["running", "stopping", "suspended"]))
    turn_until(supervisor, lambda: find_worker(supervisor, "backoff").state == "backoff")
    turn_until(supervisor, lambda: find_worker(supervisor, "fatal").state == "fatal")
    suspended = find_worker(supervisor, "suspended").pid
    assert suspended is not None
    os.kill(suspended, signal.SIGSTOP)
    supervisor.set_up("stopping", False)
    ask_to_stop(signal.SIGTERM)
    finish(supervisor)
    ends = {worker.name: worker.last_exit for worker in supervisor.status().workers}
    assert {name for name, end in ends.items() if end is not None and end.signal == "SIGKILL"} == {
        "stopping", "suspended",
    }
    assert {name for name, end in ends.items() if end is not None and end.code == 0} == {"running", "starting"}


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_a_second_one_hurries_even_in_the_same_moment(start: Start, numbers: tuple[signal.Signals, ...]) -> None:
    supervisor = start([WorkerSpec("deaf", ignore_stop, stop_grace_s=NEVER_S)])
    turn_until(supervisor, lambda: are_running(supervisor))
    ask_to_stop(*numbers)
    finish(supervisor)
    end = find_worker(supervisor, "deaf").last_exit
    assert end is not None
    assert end.signal == "SIGKILL"


def test_it_ends_a_start_that_has_only_begun(start: Start) -> None:
    supervisor = start([WorkerSpec(f"worker {number}", serve) for number in range(5)])
    ask_to_stop(signal.SIGTERM)
    finish(supervisor)
    assert {worker.generation for worker in supervisor.status().workers} == {1}


def test_it_ends_a_change_of_plan_that_has_only_begun(start: Start) -> None:
    specs = [WorkerSpec(name, serve) for name in ("a", "b", "gone")]
    supervisor = start(specs)
    turn_until(supervisor, lambda: are_running(supervisor))
    changed = [replace(spec, fingerprint="changed") for spec in specs[:2]]
    supervisor.apply([*changed, WorkerSpec("new", serve)], [])
    ask_to_stop(signal.SIGTERM)
    finish(supervisor)
    assert {worker.name: worker.generation for worker in supervisor.status().workers} == {"a": 1, "b": 1, "new": 1}


class Operator:
    """Does things to a supervisor at random, and stops it at any moment."""

    def __init__(self, supervisor: Supervisor, specs: list[WorkerSpec], rng: random.Random) -> None:
        self._supervisor = supervisor
        self._specs = specs
        self._rng = rng

    def act(self) -> None:
        name = self._rng.choice(self._specs).name
        pid = find_worker(self._supervisor, name).pid
        what = self._rng.randrange(6)
        if what == 0:
            self._supervisor.set_up(name, self._rng.random() < 0.5)
        elif what == 1:
            self._supervisor.restart(name)
        elif what == 2:
            self._specs = [replace(spec, fingerprint=str(self._rng.randrange(2))) for spec in self._specs]
            self._supervisor.apply(self._specs, [LinkSpec("link", "a", "b")])
        elif pid is not None:
            os.kill(pid, self._rng.choice((signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)))

    def turn(self) -> None:
        for _ in range(self._rng.randrange(4)):
            self._supervisor.turn(self._rng.choice((0.0, 0.01)))


def test_it_comes_at_any_moment_of_anything(start: Start) -> None:
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(12):
        mains = {"a": serve, "b": serve, "slow": never_ready, "crash": crash, "deaf": ignore_stop}
        specs = [WorkerSpec(name, main, restart=NOW, stop_grace_s=0.1) for name, main in mains.items()]
        supervisor = start(specs, [LinkSpec("link", "a", "b")])
        operator = Operator(supervisor, specs, rng)
        for _ in range(rng.randrange(12)):
            operator.act()
            operator.turn()
        ask_to_stop(*rng.choice(((signal.SIGTERM,), (signal.SIGTERM, signal.SIGTERM))))
        operator.turn()
        if rng.random() < 0.5:
            supervisor.apply(specs, [])
        finish(supervisor)
