"""For tests of programs that use the supervisor."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from fustor_supervisor.loop import Supervisor
from fustor_supervisor.status import WorkerStatus


def turn_until(supervisor: Supervisor, is_done: Callable[[], object], *, timeout_s: float = 20.0) -> None:
    """
    Turn a started supervisor until a condition holds.

    Raises:
        AssertionError: It did not hold in time; the message shows every worker.
    """
    deadline = time.monotonic() + timeout_s
    while not is_done():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            # without the deaths, which tell what they wrote at length; the last one is enough
            workers = "\n".join(str(replace(worker, deaths=[])) for worker in supervisor.status().workers)
            raise AssertionError(f"not so within {timeout_s:g} s:\n{workers}")
        # short, because a condition may also look at files and processes of which the loop knows nothing
        supervisor.turn(min(left_s, 0.05))


def find_worker(supervisor: Supervisor, name: str) -> WorkerStatus:
    """Return the status of one worker."""
    return next(worker for worker in supervisor.status().workers if worker.name == name)


def are_running(supervisor: Supervisor, names: Sequence[str] = ()) -> bool:
    """Tell whether these workers, without names all, are ready."""
    workers = [worker for worker in supervisor.status().workers if not names or worker.name in names]
    return all(worker.state == "running" for worker in workers)


def is_process_gone(pid: int) -> bool:
    """Tell whether a process has ended; a zombie has."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def list_descriptors() -> set[int]:
    """Return the open descriptors of this process."""
    found = set()
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the one by which they were listed
            os.fstat(number)
            found.add(number)
    return found
