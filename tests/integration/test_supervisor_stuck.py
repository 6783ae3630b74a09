import itertools
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from fustor_supervisor import RestartPolicy, Runtime, StuckLimits, Supervisor, WorkerSpec
from fustor_supervisor.process import ForkedProcess
from fustor_supervisor.testing import are_running, find_worker, turn_until

NOW = RestartPolicy(first_s=0.0, base_s=0.0)
SOON = StuckLimits(start_s=0.2, answer_s=0.2, owed_s=0.2, ping_s=0.05)
NEVER = StuckLimits(start_s=600.0, answer_s=600.0, owed_s=600.0, ping_s=0.05)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor(next_epoch=itertools.count(1).__next__)
    yield supervisor
    supervisor.stop(0.0)
    while supervisor.turn():
        pass
    supervisor.close()


def start(supervisor: Supervisor, specs: Sequence[WorkerSpec]) -> None:
    supervisor.apply(specs, [])
    supervisor.start()


def serve(runtime: Runtime) -> None:
    runtime.ready()
    runtime.stop_requested.wait()


def wait_for_replacement(supervisor: Supervisor, name: str = "a") -> str:
    """Wait for the second process; return why the first one ended."""
    turn_until(supervisor, lambda: find_worker(supervisor, name).generation == 2)
    death = find_worker(supervisor, name).deaths[0]
    assert death.signal == "SIGKILL"
    return death.reason


def hold_the_interpreter(runtime: Runtime) -> None:
    runtime.ready()
    if runtime.generation == 1:
        runtime.report({"entered": 1})
        re.match(r"(a+)+$", "a" * 60 + "b")  # takes ages, and no other thread may run meanwhile
    runtime.stop_requested.wait()


def test_a_suspended_worker_is_replaced(supervisor: Supervisor) -> None:
    start(supervisor, [WorkerSpec("a", serve, restart=NOW, limits=SOON), WorkerSpec("b", serve, limits=SOON)])
    turn_until(supervisor, lambda: are_running(supervisor))
    pid = find_worker(supervisor, "a").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert "ping" in wait_for_replacement(supervisor)
    assert find_worker(supervisor, "b").generation == 1


def test_a_worker_without_memory_is_replaced_although_it_goes_on(supervisor: Supervisor) -> None:
    def main(runtime: Runtime) -> None:
        runtime.ready()
        if runtime.generation == 1:
            resource.setrlimit(resource.RLIMIT_DATA, (2**20, 2**20))
        runtime.stop_requested.wait()

    start(supervisor, [WorkerSpec("a", main, restart=NOW, limits=SOON)])
    turn_until(supervisor, lambda: find_worker(supervisor, "a").generation == 2 and are_running(supervisor))
    assert "out of memory" in find_worker(supervisor, "a").deaths[0].reason


def test_a_worker_that_holds_the_interpreter_writes_its_stacks_and_is_replaced(
    supervisor: Supervisor, capfd: pytest.CaptureFixture[str]
) -> None:
    start(supervisor, [WorkerSpec("a", hold_the_interpreter, restart=NOW, limits=SOON)])
    assert "ping" in wait_for_replacement(supervisor)
    assert "in hold_the_interpreter" in capfd.readouterr().err


def test_a_worker_that_owes_work_and_does_not_move_writes_its_stacks_and_is_replaced(
    supervisor: Supervisor, capfd: pytest.CaptureFixture[str]
) -> None:
    def owe(runtime: Runtime) -> None:
        runtime.report({"rows": 1}, owed=runtime.generation == 1)
        serve(runtime)

    start(supervisor, [WorkerSpec("a", owe, restart=NOW, limits=SOON)])
    assert "owes work" in wait_for_replacement(supervisor)
    assert "in owe" in capfd.readouterr().err


def test_a_worker_that_owes_work_and_moves_is_left_alone(supervisor: Supervisor) -> None:
    def work(runtime: Runtime) -> None:
        runtime.ready()
        for rows in itertools.count():
            runtime.report({"rows": rows}, owed=True)
            if runtime.stop_requested.wait(0.01):
                return

    start(supervisor, [WorkerSpec("a", work, limits=StuckLimits(start_s=5.0, owed_s=1.0, ping_s=0.05))])
    turn_until(supervisor, lambda: find_worker(supervisor, "a").uptime_s > 2.0)
    assert find_worker(supervisor, "a").generation == 1


def test_a_worker_that_owes_work_may_ask_for_more_time(supervisor: Supervisor) -> None:
    def wait(runtime: Runtime) -> None:
        runtime.report({"requests": 1}, owed=True, patience_s=600.0 if runtime.name == "patient" else 0.0)
        serve(runtime)

    start(supervisor, [WorkerSpec(name, wait, restart=NOW, limits=SOON) for name in ("patient", "impatient")])
    turn_until(supervisor, lambda: find_worker(supervisor, "impatient").generation == 4)
    assert find_worker(supervisor, "patient").generation == 1


def test_a_main_that_hangs_while_it_owes_nothing_is_replaced_if_it_answers_pings_itself(
    supervisor: Supervisor,
) -> None:
    def main(runtime: Runtime) -> None:
        woken = threading.Event()
        runtime.on_ping = woken.set
        runtime.on_stop(woken.set)
        runtime.ready()
        if runtime.name == "hangs" and runtime.generation == 1:
            threading.Event().wait()
        while not runtime.stop_requested.is_set():
            woken.wait()
            woken.clear()
            runtime.alive()

    start(supervisor, [WorkerSpec(name, main, restart=NOW, limits=SOON) for name in ("hangs", "turns")])
    assert "ping" in wait_for_replacement(supervisor, "hangs")
    turn_until(supervisor, lambda: find_worker(supervisor, "hangs").uptime_s > 1.0)
    assert [find_worker(supervisor, name).generation for name in ("hangs", "turns")] == [2, 1]


def test_a_worker_that_never_replies_to_a_command_is_replaced(supervisor: Supervisor) -> None:
    start(supervisor, [WorkerSpec("a", serve, restart=NOW, limits=SOON)])
    turn_until(supervisor, lambda: are_running(supervisor))
    replies: list[str] = []
    supervisor.command("a", "scan", "/", lambda reply: replies.append(reply.result))
    assert "command" in wait_for_replacement(supervisor)
    assert replies == ["worker a died before it replied"]


def test_a_worker_that_never_becomes_ready_is_replaced_and_backs_off(supervisor: Supervisor) -> None:
    def dawdle(runtime: Runtime) -> None:
        runtime.stop_requested.wait()

    policy = RestartPolicy(first_s=0.0, base_s=600.0, cap_s=600.0)
    start(supervisor, [WorkerSpec("a", dawdle, restart=policy, limits=SOON)])
    turn_until(supervisor, lambda: find_worker(supervisor, "a").state == "backoff")
    assert ["start" in death.reason for death in find_worker(supervisor, "a").deaths] == [True, True]
    assert find_worker(supervisor, "a").deaths[-1].code in (None, 0)


def test_a_start_may_take_long_as_long_as_it_moves(supervisor: Supervisor) -> None:
    def walk(runtime: Runtime) -> None:
        for number in range(100):
            runtime.report({"entries": number})
            time.sleep(0.02)
        serve(runtime)

    start(supervisor, [WorkerSpec("a", walk, limits=StuckLimits(start_s=1.0, owed_s=1.0, ping_s=0.05))])
    turn_until(supervisor, lambda: are_running(supervisor))
    assert find_worker(supervisor, "a").generation == 1


def test_a_worker_that_babbles_is_replaced(supervisor: Supervisor) -> None:
    def babble(runtime: Runtime) -> None:
        runtime.ready()
        if runtime.generation == 1:
            runtime._control.channel.send(b"\xc1 is no msgpack")
        runtime.stop_requested.wait()

    start(supervisor, [WorkerSpec("a", babble, restart=NOW, limits=NEVER)])
    assert "malformed" in wait_for_replacement(supervisor)


def test_a_worker_that_does_not_read_its_link_is_replaced_and_the_supervisor_never_blocks(
    supervisor: Supervisor,
) -> None:
    start(supervisor, [WorkerSpec("a", serve, restart=NOW, limits=NEVER)])
    turn_until(supervisor, lambda: are_running(supervisor))
    pid = find_worker(supervisor, "a").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    sent = 0
    while find_worker(supervisor, "a").state == "running":
        supervisor.command("a", "x" * 10_000)
        sent += 1
        assert sent < 10_000
    assert "does not read" in wait_for_replacement(supervisor)


def test_a_stuck_worker_that_nobody_wants_any_more_is_not_replaced(supervisor: Supervisor) -> None:
    start(supervisor, [WorkerSpec("a", hold_the_interpreter, restart=NOW, limits=SOON)])
    turn_until(supervisor, lambda: find_worker(supervisor, "a").state == "stopping")
    supervisor.set_up("a", False)
    turn_until(supervisor, lambda: find_worker(supervisor, "a").state == "stopped")
    assert find_worker(supervisor, "a").generation == 1


def test_a_worker_that_cannot_die_is_abandoned_and_everything_else_goes_on(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Uninterruptible sleep cannot be had on demand: here SIGKILL is lost on its way to one process.
    real_kill = ForkedProcess.kill
    immortal = WorkerSpec("immortal", serve, limits=NEVER, stop_grace_s=0.05)
    supervisor.apply([immortal, WorkerSpec("b", serve)], [])
    supervisor._staff.find("immortal")._kill_limit_s = 0.1
    supervisor.start()
    turn_until(supervisor, lambda: are_running(supervisor))
    pid = find_worker(supervisor, "immortal").pid
    assert pid is not None

    def kill(process: ForkedProcess) -> None:
        if process.pid != pid:
            real_kill(process)

    monkeypatch.setattr(ForkedProcess, "kill", kill)
    os.kill(pid, signal.SIGSTOP)
    supervisor.restart("immortal")
    turn_until(supervisor, lambda: find_worker(supervisor, "immortal").state == "abandoned")
    other = find_worker(supervisor, "b").pid
    assert other is not None
    os.kill(other, signal.SIGKILL)
    turn_until(supervisor, lambda: find_worker(supervisor, "b").generation == 2 and are_running(supervisor, ["b"]))
    monkeypatch.undo()
    os.kill(pid, signal.SIGKILL)  # the mount is back, the process dies at last
    turn_until(supervisor, lambda: find_worker(supervisor, "immortal").generation == 2 and are_running(supervisor))


def test_an_abandoned_worker_does_not_hold_up_the_end(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.apply([WorkerSpec("immortal", serve, limits=NEVER)], [])
    supervisor._staff.find("immortal")._kill_limit_s = 0.1
    supervisor.start()
    turn_until(supervisor, lambda: are_running(supervisor))
    pid = find_worker(supervisor, "immortal").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(ForkedProcess, "kill", lambda process: None)
    supervisor.stop(0.05)
    while supervisor.turn():
        pass
    assert find_worker(supervisor, "immortal").state == "abandoned"
    monkeypatch.undo()
    supervisor.close()
    os.waitpid(pid, 0)
