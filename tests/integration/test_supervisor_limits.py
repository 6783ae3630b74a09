"""Forks that the kernel refuses, as it does in truth: for a limit of processes, and in a container that has ended."""

import ctypes
import itertools
import os
import resource
import traceback
from collections.abc import Callable

import multiprocess.connection  # noqa: F401 - now, since nobody may perhaps not read where it is

from fustor_supervisor import Runtime, Supervisor, WorkerSpec
from fustor_supervisor.testing import are_running, find_worker, turn_until
from namespaces import unshare

NOBODY = 65534
_CLONE_NEWPID, _CLONE_NEWUSER = 0x20000000, 0x10000000  # man 2 unshare


def run_in_child(check: Callable[[], None]) -> None:
    """Run a check in a process of its own, whose limits and namespaces are its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            check()
            status = 0
        except BaseException:  # the child must never return into the test run
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, "see what the child has printed"


def serve(runtime: Runtime) -> None:
    runtime.ready()
    runtime.stop_requested.wait()


def make_supervisor() -> Supervisor:
    supervisor = Supervisor(next_epoch=itertools.count(1).__next__)
    supervisor.apply([WorkerSpec("a", serve)], [])
    supervisor.start()
    return supervisor


def finish(supervisor: Supervisor) -> None:
    supervisor.stop()
    while supervisor.turn():
        pass
    supervisor.close()


def await_refusal(supervisor: Supervisor, reason: str) -> None:
    turn_until(supervisor, lambda: len(find_worker(supervisor, "a").deaths) >= 2)
    worker = find_worker(supervisor, "a")
    assert worker.last_error is not None
    assert worker.last_error.startswith("cannot be forked: ")
    assert reason in worker.last_error


def test_without_processes_left_it_says_so_and_goes_on_when_there_are_some() -> None:
    def check() -> None:
        if os.getuid() == 0:  # for whom there is no limit
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
        supervisor = make_supervisor()
        await_refusal(supervisor, "Resource temporarily unavailable")
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
        turn_until(supervisor, lambda: are_running(supervisor))
        finish(supervisor)

    run_in_child(check)


def test_where_no_memory_is_to_be_had_for_a_process_it_says_so_and_stays_up() -> None:
    def check() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        flags = _CLONE_NEWPID if os.getuid() == 0 else _CLONE_NEWPID | _CLONE_NEWUSER
        assert libc.unshare(flags) == 0, os.strerror(ctypes.get_errno())
        first = os.fork()
        if first == 0:
            os._exit(0)
        os.waitpid(first, 0)  # without its first process the namespace takes no other: ENOMEM (man 2 clone)
        supervisor = make_supervisor()
        await_refusal(supervisor, "Cannot allocate memory")
        finish(supervisor)

    unshare("--pid", "--fork")  # skips the test where that is not permitted
    run_in_child(check)
