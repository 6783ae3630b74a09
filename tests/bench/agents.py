"""What the measurements of a running agent share."""

import time
from collections.abc import Callable

import psutil

from agent import AgentUnderTest
from bench import Stopwatch

MB = 1_000_000


def find_processes(agent: AgentUnderTest) -> dict[str, int]:
    """Return the pids of the supervisor and its workers."""
    assert agent.process is not None
    return {"supervisor": agent.process.pid, **agent.worker_pids()}


def measure_memory(agent: AgentUnderTest) -> dict[str, float]:
    """Return the PSS of each process in MB, and `all`, their sum."""
    found = {name: psutil.Process(pid).memory_full_info().pss / MB for name, pid in find_processes(agent).items()}
    return {**found, "all": sum(found.values())}


def measure_idle(agent: AgentUnderTest, *, for_s: float) -> dict[str, float]:
    """Return the processor time in percent of a core that each process uses while nothing happens, and `all`."""
    time.sleep(5)  # what starting left to do is over by then
    pids = find_processes(agent)
    before = {name: read_cpu_s(pid) for name, pid in pids.items()}
    time.sleep(for_s)
    used = {name: 100 * (read_cpu_s(pid) - before[name]) / for_s for name, pid in pids.items()}
    return {**used, "all": sum(used.values())}


def read_cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    return sum(psutil.Process(pid).cpu_times()[:2])


def ask(agent: AgentUnderTest, question: str) -> tuple[float, bytes]:
    """Ask the embedded Fusion; returns the seconds until the whole answer was there, and the answer."""
    with Stopwatch() as watch, agent.query(question) as answer:
        body = answer.read()
    return watch.s, body


def wait_until(is_so: Callable[[], bool], *, within_s: float) -> float:
    """Ask every millisecond until something is so; returns the seconds that it took."""
    with Stopwatch() as watch:
        while not is_so():
            if watch.s > within_s:
                raise SystemExit(f"not so within {within_s:g} s")
            time.sleep(0.001)
    return watch.s
