"""Memory and processor time of the agent's processes, measured by whoever shows a status."""

import time
from collections.abc import Callable

import msgspec
import psutil

from fustor_agent.statusmodel import AgentStatus, WorkerInfo


class UsageMeter:
    """
    Measures processes; remembers the last measurement, so that percentages are of the time in between.

    Args:
        clock: Monotonic seconds; injected in tests.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[tuple[int, float], tuple[float, float]] = {}

    def add_usage(self, status: AgentStatus) -> AgentStatus:
        """
        Fill in `rss_bytes` and `cpu_percent` of all workers that have a process.

        The first measurement of a process gives its average since it started.
        """
        seen: dict[tuple[int, float], tuple[float, float]] = {}
        workers = [self._measure(worker, seen) for worker in status.workers]
        self._last = seen
        return msgspec.structs.replace(status, workers=workers)

    def _measure(self, worker: WorkerInfo, seen: dict[tuple[int, float], tuple[float, float]]) -> WorkerInfo:
        if worker.pid is None:
            return worker
        try:
            process = psutil.Process(worker.pid)
            started_at = process.create_time()
            times = process.cpu_times()
            rss = process.memory_info().rss
        except psutil.Error:
            return worker  # It ended between the status and this look.
        now, used = self._clock(), times.user + times.system
        # A number can be reused: the start time tells two processes of one number apart.
        key = (worker.pid, started_at)
        seen[key] = (now, used)
        since, before = self._last.get(key, (now - max(time.time() - started_at, 0.01), 0.0))
        percent = round(100 * max(used - before, 0.0) / max(now - since, 0.01), 1)
        return msgspec.structs.replace(worker, rss_bytes=rss, cpu_percent=percent)
