"""The latest status, as the console shows it."""

import time
from collections.abc import Callable

import msgspec

from fustor_agent.statusmodel import AgentStatus, decode
from fustor_agent.usage import UsageMeter

# Percentages of a processor over less than this are noise.
_MEASURE_EVERY_S = 1.0
# The supervisor publishes at least every five seconds; after this it does not work any more.
_STALE_S = 20.0


class StatusBoard:
    """
    Takes each published status and adds what is measured here.

    `put` may be called from any thread, everything else from one.

    Args:
        meter: Measures the workers.
        clock: Monotonic seconds; injected in tests.
    """

    def __init__(self, meter: UsageMeter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter = meter
        self._clock = clock
        self._published: tuple[bytes, float] | None = None
        self._shown: AgentStatus | None = None
        self._shown_of: bytes | None = None
        self._measured_at_s = float("-inf")

    def put(self, snapshot: bytes) -> None:
        """Take a published status."""
        self._published = (snapshot, self._clock())

    def get(self) -> AgentStatus | None:
        """Return the latest status with memory and processor time; None before the first, or if it is damaged."""
        published = self._published
        if published is None:
            return None
        now = self._clock()
        if published[0] is self._shown_of and now - self._measured_at_s < _MEASURE_EVERY_S:
            return self._shown
        try:
            status = decode(published[0])
        except msgspec.DecodeError:
            return None
        if now - self._measured_at_s >= _MEASURE_EVERY_S:
            status = self._meter.add_usage(status)
            self._measured_at_s = now
        elif self._shown is not None:
            status = _keep_usage(status, self._shown)
        self._shown, self._shown_of = status, published[0]
        return status

    def explain_unhealthy(self) -> str | None:
        """Say why the agent does not seem to run; None when it does."""
        if self._published is None:
            return "the agent has not published a status yet"
        age_s = self._clock() - self._published[1]
        return f"the agent has not published a status for {age_s:.0f} s" if age_s > _STALE_S else None


def _keep_usage(status: AgentStatus, shown: AgentStatus) -> AgentStatus:
    """Carry the last measurement over to a status that came less than an interval after it."""
    before = {worker.pid: worker for worker in shown.workers if worker.pid is not None}
    workers = [
        msgspec.structs.replace(
            worker, rss_bytes=before[worker.pid].rss_bytes, cpu_percent=before[worker.pid].cpu_percent
        )
        if worker.pid in before
        else worker
        for worker in status.workers
    ]
    return msgspec.structs.replace(status, workers=workers)
