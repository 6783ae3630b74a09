import os
import time

from fustor_agent.statusmodel import AgentInfo, AgentStatus, WorkerInfo
from fustor_agent.usage import UsageMeter


def make_status(*pids: int | None) -> AgentStatus:
    workers = [WorkerInfo(f"w{n}", "source", None, pid, "running", 0, 1.0) for n, pid in enumerate(pids)]
    return AgentStatus(AgentInfo("1", 1, "running", "", 0.0), workers, [])


def test_a_living_process_has_memory_and_processor_time() -> None:
    (worker,) = UsageMeter().add_usage(make_status(os.getpid())).workers
    assert worker.rss_bytes is not None
    assert worker.rss_bytes > 1_000_000
    assert worker.cpu_percent is not None


def test_the_percentage_is_of_the_time_since_the_last_measurement() -> None:
    now = [0.0]
    meter = UsageMeter(clock=lambda: now[0])
    meter.add_usage(make_status(os.getpid()))
    used = time.process_time()
    while time.process_time() < used + 0.1:
        pass
    now[0] = 10.0
    (worker,) = meter.add_usage(make_status(os.getpid())).workers
    # At least 0.1 s of work in what the clock says were ten seconds; a hundredth is the kernel's grain.
    assert worker.cpu_percent is not None
    assert 0.7 <= worker.cpu_percent < 50


def test_a_process_that_is_not_there_has_neither() -> None:
    gone, none = UsageMeter().add_usage(make_status(2**22 + 1, None)).workers
    assert (gone.rss_bytes, gone.cpu_percent, none.rss_bytes, none.cpu_percent) == (None, None, None, None)
