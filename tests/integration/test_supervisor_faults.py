"""Faults by name: for each, the status says the right cause, the worker is back, and its neighbour did not notice."""

import ctypes
import itertools
import logging
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fustor_supervisor import Death, ResourceLimits, RestartPolicy, Runtime, StuckLimits, Supervisor, WorkerSpec
from fustor_supervisor.testing import are_running, find_worker, turn_until

NOW = RestartPolicy(first_s=0.0, base_s=0.0)
# Each limit is short only where it is meant to be reached: on a busy machine it would be reached by others too.
PATIENT = StuckLimits(start_s=60.0, answer_s=60.0, owed_s=60.0, ping_s=0.1)
SHORT_START, SHORT_ANSWER, SHORT_WORK = (replace(PATIENT, **{key: 1.0}) for key in ("start_s", "answer_s", "owed_s"))


MB = 1_000_000


@dataclass(frozen=True)
class Fault:
    """
    What a worker's first process does.

    Args:
        do: Called once it is ready, or instead of that if it is about the start.
        cause: Matches what the status says about it.
        wrote: Matches what it wrote last.
        limits: Of the worker.
        resources: Makes those of the worker.
    """

    do: Callable[[Runtime], object]
    cause: str
    wrote: str = ""
    limits: StuckLimits = PATIENT
    resources: Callable[[], ResourceLimits] = ResourceLimits


def read_own(field: str) -> int:
    """Return what this process, and so a fork of it, uses from the start, in bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


def kill_by(number: signal.Signals) -> Callable[[Runtime], object]:
    return lambda runtime: os.kill(os.getpid(), number)


def owe(runtime: Runtime) -> None:
    runtime.report({"turns": 1}, phase="stream", owed=True)


def loop_for_ever(runtime: Runtime) -> None:
    owe(runtime)
    while True:
        pass


def lock_twice(runtime: Runtime) -> None:
    owe(runtime)
    lock = threading.Lock()
    with lock, lock:
        pass


def sleep(runtime: Runtime) -> None:
    time.sleep(600)


def read_an_empty_pipe(runtime: Runtime) -> None:
    owe(runtime)
    os.read(os.pipe()[0], 1)


def hold_the_interpreter(runtime: Runtime) -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def overflow_the_stack(runtime: Runtime) -> None:
    overflow_the_stack(runtime)


def use_up_descriptors(runtime: Runtime) -> None:
    while True:
        os.open("/", os.O_RDONLY)


def use_up_memory(runtime: Runtime) -> None:
    held = bytearray()
    while True:
        held += bytes(16 * MB)


def leak_while_it_works(runtime: Runtime) -> None:
    runtime.report({"rows": 1}, owed=True)
    held = bytearray(os.urandom(1)) * (200 * MB)
    runtime.report({"rows": 2})
    runtime.stop_requested.wait()
    assert held
    runtime.report({"rows": 3})  # what it had read is delivered


def write_to_a_full_disk(runtime: Runtime) -> None:
    with open("/dev/full", "w") as file:
        file.write("x")


def abort_in_a_library(runtime: Runtime) -> None:
    os.write(2, b"terminate called after throwing an instance of 'std::logic_error'\n")
    ctypes.CDLL(None).abort()


def babble(runtime: Runtime) -> None:
    runtime._control.channel.send(b"\xc1 is no msgpack")
    time.sleep(600)


def break_the_control_thread(runtime: Runtime) -> None:
    runtime.on_stop(lambda: None)
    runtime._wakeup.drain = lambda: 1 // 0  # type: ignore[method-assign]  # that is the fault
    runtime.report({"turns": 1})
    time.sleep(600)


def leave_with_a_text(runtime: Runtime) -> None:
    os.write(2, b"cannot open the frobnicator\n")
    sys.exit("no frobnicator")


def crash_without_a_log(runtime: Runtime) -> None:
    class NoMemory(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise MemoryError

    logging.getLogger().addHandler(NoMemory())
    raise ValueError("no reason")


def use_what_is_not_installed(runtime: Runtime) -> None:
    import no_such_library  # type: ignore[import-not-found]  # noqa: F401


FAULTS = {
    "SIGKILL, as by the kernel when memory is short": Fault(kill_by(signal.SIGKILL), "^killed by SIGKILL$"),
    "SIGSEGV": Fault(kill_by(signal.SIGSEGV), "^killed by SIGSEGV$", "Segmentation fault(.|\n)* in kill_by|lambda"),
    "SIGBUS, as by a truncated mapped file": Fault(kill_by(signal.SIGBUS), "^killed by SIGBUS$", "Bus error"),
    "a library that aborts": Fault(abort_in_a_library, "^killed by SIGABRT$", "std::logic_error(.|\n)*Aborted"),
    "a real-time signal": Fault(kill_by(signal.Signals(signal.SIGRTMIN)), "^killed by SIGRTMIN$"),
    "an exception": Fault(lambda runtime: 1 // 0, "^ZeroDivisionError: integer division or modulo by zero$"),
    "an endless recursion": Fault(overflow_the_stack, "^RecursionError: maximum recursion depth"),
    "a library that is missing": Fault(use_what_is_not_installed, "^ModuleNotFoundError: .*no_such_library"),
    "a full disk": Fault(write_to_a_full_disk, "^OSError: .*No space left on device"),
    "too many open files": Fault(
        use_up_descriptors, "^OSError: .*Too many open files", resources=lambda: ResourceLimits(open_files=100)
    ),
    "more memory than the hard ceiling": Fault(
        use_up_memory,
        "^it needs more memory than its hard ceiling of .* MB: MemoryError",
        resources=lambda: ResourceLimits(hard_memory_bytes=read_own("VmData") + 200 * MB),
    ),
    "more memory than the soft ceiling": Fault(
        leak_while_it_works,
        "^it uses .* MB of memory, its soft ceiling is ",
        resources=lambda: ResourceLimits(soft_memory_bytes=read_own("RssAnon") + 100 * MB),
    ),
    "an exit code": Fault(lambda runtime: os._exit(3), "^exited with code 3$"),
    "an exit with a text": Fault(leave_with_a_text, "^no frobnicator$", "cannot open the frobnicator"),
    "a crash that cannot be logged": Fault(crash_without_a_log, "^ValueError: no reason$"),
    "a main that returns": Fault(lambda runtime: None, "^it ended without being asked to stop$"),
    "what it says itself": Fault(lambda runtime: runtime.fail("no key", permanent=False), "^no key$"),
    "SIGSTOP": Fault(
        kill_by(signal.SIGSTOP), "^a ping is unanswered.* for 1 s; a signal has stopped it", limits=SHORT_ANSWER
    ),
    "a library that holds the interpreter": Fault(
        hold_the_interpreter, "^a ping is unanswered.*; it is busy", "in hold_the_interpreter", SHORT_ANSWER
    ),
    "an endless loop": Fault(
        loop_for_ever, "^it owes work in stream, .*; it is busy", "in loop_for_ever", SHORT_WORK
    ),
    "a deadlock": Fault(lock_twice, "^it owes work in stream, .*; it is waiting", "in lock_twice", SHORT_WORK),
    "a read that hangs": Fault(
        read_an_empty_pipe, "^it owes work in stream, .*; it is waiting", "in read_an_empty_pipe", SHORT_WORK
    ),
    "a start that hangs": Fault(
        sleep, "^not ready, and no progress, for 1 s after the start; it is waiting", "in sleep", SHORT_START
    ),
    "a start that is suspended": Fault(
        kill_by(signal.SIGSTOP), "^not ready, .*; a signal has stopped it", limits=SHORT_START
    ),
    "a message that is none": Fault(babble, "^sent a malformed message: "),
    "a control thread that fails": Fault(break_the_control_thread, "^control thread: ZeroDivisionError"),
}


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor(next_epoch=itertools.count(1).__next__)
    yield supervisor
    supervisor.stop(0.0)
    while supervisor.turn():
        pass
    supervisor.close()


@pytest.mark.parametrize("name", FAULTS)
def test_the_status_names_the_cause(supervisor: Supervisor, name: str) -> None:
    fault = FAULTS[name]

    def main(runtime: Runtime) -> None:
        if runtime.generation == 1 and fault.limits is SHORT_START:
            fault.do(runtime)
        runtime.ready()
        if runtime.generation == 1:
            fault.do(runtime)
        else:
            runtime.stop_requested.wait()

    def neighbour(runtime: Runtime) -> None:
        runtime.ready()
        runtime.stop_requested.wait()

    faulty = WorkerSpec("a", main, restart=NOW, limits=fault.limits, resources=fault.resources())
    supervisor.apply([faulty, WorkerSpec("b", neighbour)], [])
    supervisor.start()
    turn_until(supervisor, lambda: find_worker(supervisor, "a").generation >= 2 and are_running(supervisor))
    status = find_worker(supervisor, "a")
    death: Death = status.deaths[0]
    assert re.search(fault.cause, death.reason), death.reason
    assert re.search(fault.wrote, death.output), death.output
    assert (death.generation, death.asked) == (1, False)
    assert status.last_error is not None
    assert find_worker(supervisor, "b").generation == 1


def test_limits_hold_in_the_worker_and_nowhere_else(supervisor: Supervisor) -> None:
    def main(runtime: Runtime) -> None:
        files, data = (resource.getrlimit(number)[0] for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA))
        runtime.report({"files": files, "data": data, "nice": os.nice(0)})
        runtime.ready()
        runtime.stop_requested.wait()

    before = resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_DATA), os.nice(0)
    limits = ResourceLimits(hard_memory_bytes=1 << 40, open_files=77, nice=3)
    supervisor.apply([WorkerSpec("a", main, resources=limits)], [])
    supervisor.start()
    turn_until(supervisor, lambda: find_worker(supervisor, "a").counters)
    wanted = {"files": 77, "data": 1 << 40, "nice": min(19, before[2] + 3)}
    assert find_worker(supervisor, "a").counters == wanted
    assert before == (resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_DATA), os.nice(0))


def test_a_limit_that_is_out_of_reach_waits_for_a_reload_and_says_so(supervisor: Supervisor) -> None:
    def main(runtime: Runtime) -> None:
        runtime.ready()
        runtime.stop_requested.wait()

    supervisor.apply([WorkerSpec("a", main, resources=ResourceLimits(open_files=1 << 40))], [])
    supervisor.start()
    turn_until(supervisor, lambda: find_worker(supervisor, "a").state == "fatal")
    error = find_worker(supervisor, "a").last_error or ""
    assert error.startswith("open_files = 1099511627776 is more than this process may have; use at most ")


def test_there_are_twenty_kinds_of_fault() -> None:
    assert len(FAULTS) >= 20
