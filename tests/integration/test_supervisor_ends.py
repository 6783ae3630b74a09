"""Nothing outlives its parent, and nothing is left over."""

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fustor_supervisor import ForkRefused, LinkSpec, RestartPolicy, Runtime, Supervisor, WorkerSpec
from fustor_supervisor.procfs import measure_memory
from fustor_supervisor.testing import are_running, find_worker, is_process_gone, list_descriptors, turn_until
from namespaces import unshare

NOW = RestartPolicy(first_s=0.0, base_s=0.0)
DEADLINE_S = 20.0

# Two workers, one of which holds the interpreter for ever, each with a child of its own in its group.
PROGRAM = """
import itertools, os, re, signal
from fustor_supervisor import RequestResult, Supervisor, WorkerSpec

def fork_child(runtime):
    pid = os.fork()
    while pid == 0:
        signal.pause()
    runtime.ready()
    runtime.request("note", f"{os.getpid()} {pid}")

def wait(runtime):
    fork_child(runtime)
    runtime.stop_requested.wait()

def hold(runtime):
    fork_child(runtime)
    re.match(r"(a+)+$", "a" * 60 + "b")

def note(request):
    noted.append(request.target)
    if len(noted) == 2:
        print(*noted, flush=True)
    return RequestResult("")

noted = []
supervisor = Supervisor(next_epoch=itertools.count(1).__next__, on_request=note)
supervisor.apply([WorkerSpec("wait", wait), WorkerSpec("hold", hold)], [])
supervisor.run()
"""

# A worker whose children leave children of their own behind, in sessions of their own; they end.
ORPHANS = """
import itertools, os, re
from fustor_supervisor import Runtime, Supervisor, WorkerSpec, leave
from fustor_supervisor.testing import find_worker, turn_until

def main(runtime):
    for _ in range(20):
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os.setsid()
            os._exit(0)
        os.waitpid(child, 0)
    runtime.report({"orphans": 20})
    runtime.ready()
    runtime.stop_requested.wait()

def list_children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]

supervisor = Supervisor(next_epoch=itertools.count(1).__next__)
supervisor.apply([WorkerSpec("a", main)], [])
supervisor.start()
turn_until(supervisor, lambda: find_worker(supervisor, "a").counters)
turn_until(supervisor, lambda: list_children() == [find_worker(supervisor, "a").pid])
os.kill(find_worker(supervisor, "a").pid, 9)
turn_until(supervisor, lambda: find_worker(supervisor, "a").generation == 2 and find_worker(supervisor, "a").counters)
assert find_worker(supervisor, "a").last_exit.signal == "SIGKILL"
turn_until(supervisor, lambda: list_children() == [find_worker(supervisor, "a").pid])
supervisor.stop()
while supervisor.turn():
    pass
supervisor.close()
print("pid", os.getpid(), "is clean", flush=True)
leave(0)
"""


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not all(map(is_process_gone, pids)):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if not is_process_gone(pid)]}"


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor(next_epoch=itertools.count(1).__next__)
    yield supervisor
    supervisor.stop(0.0)
    while supervisor.turn():
        pass
    supervisor.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_workers_and_their_children_die_with_the_supervisor(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 4
        os.kill(process.pid, number)
        process.wait(DEADLINE_S)
        wait_until_gone(pids)
        process.stdout.read()  # end of file: nobody holds the other end any more


def test_the_first_process_of_a_container_reaps_what_its_workers_leave_behind() -> None:
    words = [*unshare("--pid", "--fork", "--kill-child", "--mount-proc"), sys.executable, "-c", ORPHANS]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    assert done.stdout == "pid 1 is clean\n"


def fork_child() -> int:
    """Fork a process that holds all that the worker holds, its links too."""
    pid = os.fork()
    while pid == 0:
        signal.pause()
    return pid


def start_program() -> int:
    """Start a program, which holds none of it."""
    return os.posix_spawnp("sleep", ["sleep", "600"], os.environ)


@pytest.mark.parametrize("start_grandchild", [fork_child, start_program])
def test_what_a_worker_started_dies_with_it(supervisor: Supervisor, start_grandchild: Callable[[], int]) -> None:
    def main(runtime: Runtime) -> None:
        runtime.report({"grandchild": start_grandchild()})
        runtime.ready()
        runtime.stop_requested.wait()

    supervisor.apply([WorkerSpec("a", main, restart=NOW)], [])
    supervisor.start()
    turn_until(supervisor, lambda: find_worker(supervisor, "a").counters and are_running(supervisor))
    status = find_worker(supervisor, "a")
    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    turn_until(supervisor, lambda: find_worker(supervisor, "a").generation == 2)
    wait_until_gone([status.counters["grandchild"]])


@pytest.mark.parametrize("restarts", [200, pytest.param(10_000, marks=[pytest.mark.chaos, pytest.mark.timeout(1800)])])
def test_restarts_leave_no_descriptor_no_zombie_and_no_memory(
    supervisor: Supervisor, restarts: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # what is captured is kept in memory

    def main(runtime: Runtime) -> None:
        runtime.on_attach = lambda link, epoch, channel: os.kill(os.getpid(), signal.SIGKILL)
        runtime.ready()
        runtime.stop_requested.wait()

    def peer(runtime: Runtime) -> None:
        runtime.on_attach = lambda link, epoch, channel: channel.close()
        runtime.ready()
        runtime.stop_requested.wait()

    supervisor.apply(
        [WorkerSpec("mayfly", main, restart=NOW), WorkerSpec("peer", peer)], [LinkSpec("link", "mayfly", "peer")]
    )
    supervisor.start()
    counts, sizes = [], []
    for generation in (20, 20 + restarts // 2, 20 + restarts):
        turn_until(
            supervisor, lambda at=generation: find_worker(supervisor, "mayfly").generation >= at, timeout_s=restarts
        )
        supervisor.set_up("mayfly", False)
        turn_until(supervisor, lambda: find_worker(supervisor, "mayfly").state == "stopped")
        peer_pid = find_worker(supervisor, "peer").pid
        counts.append((len(list_descriptors()), len(os.listdir(f"/proc/{peer_pid}/fd"))))
        sizes.append(measure_memory(os.getpid()) or 0)
        supervisor.set_up("mayfly", True)
    assert len(set(counts)) == 1
    assert sizes[2] - sizes[1] < 1_000_000  # the first half still fills free lists and the ring of deaths
    assert find_worker(supervisor, "peer").generation == 1
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert len(children) <= 2


def test_a_worker_holds_nothing_that_is_not_its_own(supervisor: Supervisor) -> None:
    def main(runtime: Runtime) -> None:
        kinds: Counter[str] = Counter()
        for fd in list_descriptors() - inherited:
            kinds[os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]] += 1
        runtime.report(kinds)
        runtime.ready()
        runtime.stop_requested.wait()

    inherited = list_descriptors()
    names = [f"worker {number}" for number in range(5)]
    links = [LinkSpec(f"link {number}", names[number], names[number - 1]) for number in range(5)]
    supervisor.apply([WorkerSpec(name, main, restart=NOW) for name in names], links)
    supervisor.start()
    turn_until(supervisor, lambda: all(worker.counters for worker in supervisor.status().workers))
    last = find_worker(supervisor, names[-1])
    assert last.pid is not None
    os.kill(last.pid, signal.SIGKILL)  # its successor is forked while all the others live
    turn_until(
        supervisor,
        lambda: find_worker(supervisor, names[-1]).generation == 2 and find_worker(supervisor, names[-1]).counters,
    )
    counters = find_worker(supervisor, names[-1]).counters
    # the control link, both ends of the wakeup, and up to two link ends that had been attached by then
    assert counters.pop("socket") in (3, 4, 5)
    assert counters.pop("pipe") == 1  # the lifeline
    assert counters.pop("/dev/null", 1) == 1  # standard input, as multiprocess leaves it
    assert counters == {}


def test_the_program_may_close_what_is_its_own_in_every_child(tmp_path: Path) -> None:
    def main(runtime: Runtime) -> None:
        runtime.report({"closed": int(file.closed)})
        runtime.ready()
        runtime.stop_requested.wait()

    with open(tmp_path / "pid", "w") as file:
        supervisor = Supervisor(next_epoch=itertools.count(1).__next__, in_child=file.close)
        supervisor.apply([WorkerSpec("a", main)], [])
        supervisor.start()
        turn_until(supervisor, lambda: find_worker(supervisor, "a").counters == {"closed": 1})
        supervisor.stop()
        while supervisor.turn():
            pass
        supervisor.close()
        assert not file.closed


def test_a_worker_leads_a_session_of_its_own(supervisor: Supervisor) -> None:
    def main(runtime: Runtime) -> None:
        runtime.report({"group": os.getpgrp(), "session": os.getsid(0)})
        runtime.ready()
        runtime.stop_requested.wait()

    supervisor.apply([WorkerSpec("a", main)], [])
    supervisor.start()
    turn_until(supervisor, lambda: find_worker(supervisor, "a").counters)
    status = find_worker(supervisor, "a")
    assert status.counters == {"group": status.pid, "session": status.pid}


def test_a_process_with_threads_refuses_to_fork() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    supervisor = Supervisor(next_epoch=itertools.count(1).__next__)
    supervisor.apply([WorkerSpec("a", lambda runtime: None)], [])
    try:
        with pytest.raises(ForkRefused):
            supervisor.run()
    finally:
        release.set()
        thread.join()
    assert find_worker(supervisor, "a").generation == 0


def test_a_thread_that_starts_later_stops_forks_but_not_the_supervisor(supervisor: Supervisor) -> None:
    def main(runtime: Runtime) -> None:
        runtime.ready()
        runtime.stop_requested.wait()

    supervisor.apply([WorkerSpec("a", main, restart=NOW)], [])
    supervisor.start()
    turn_until(supervisor, lambda: are_running(supervisor))
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="intruder")
    thread.start()
    pid = find_worker(supervisor, "a").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    try:
        turn_until(supervisor, lambda: "intruder" in (find_worker(supervisor, "a").last_error or ""))
    finally:
        release.set()
        thread.join()
    turn_until(supervisor, lambda: are_running(supervisor))
