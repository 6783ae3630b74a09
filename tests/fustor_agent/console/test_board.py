import os

import pytest

from fustor_agent.console.board import StatusBoard
from fustor_agent.statusmodel import AgentInfo, AgentStatus, WorkerInfo, encode
from fustor_agent.usage import UsageMeter


class CountingMeter(UsageMeter):
    measured = 0

    def add_usage(self, status: AgentStatus) -> AgentStatus:
        self.measured += 1
        return super().add_usage(status)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def make_snapshot(uptime_s: float, pid: int | None = None) -> bytes:
    worker = WorkerInfo("console", "console", None, pid or os.getpid(), "running", 0, uptime_s)
    return encode(AgentStatus(AgentInfo("1", 1, "running", "", uptime_s), [worker]))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter() -> CountingMeter:
    return CountingMeter()


@pytest.fixture
def board(clock: Clock, meter: CountingMeter) -> StatusBoard:
    return StatusBoard(meter, clock=clock)


def test_before_the_first_status_there_is_none(board: StatusBoard) -> None:
    assert board.get() is None
    assert board.explain_unhealthy() == "the agent has not published a status yet"


def test_the_latest_status_is_shown_with_memory_and_processor_time(board: StatusBoard) -> None:
    board.put(make_snapshot(1.0))
    board.put(make_snapshot(2.0))
    status = board.get()
    assert status is not None
    assert status.agent.uptime_s == 2.0
    assert (status.workers[0].rss_bytes or 0) > 0


def test_many_readers_cause_one_measurement_a_second(board: StatusBoard, meter: CountingMeter, clock: Clock) -> None:
    board.put(make_snapshot(1.0))
    for _ in range(10):
        board.get()
    assert meter.measured == 1
    clock.now_s += 1
    board.get()
    assert meter.measured == 2


def test_a_status_between_two_measurements_keeps_the_last_one(board: StatusBoard, meter: CountingMeter) -> None:
    board.put(make_snapshot(1.0))
    board.get()
    board.put(make_snapshot(2.0))
    status = board.get()
    assert status is not None
    assert (status.agent.uptime_s, meter.measured) == (2.0, 1)
    assert (status.workers[0].rss_bytes or 0) > 0


def test_a_damaged_status_is_none(board: StatusBoard) -> None:
    board.put(b'{"agent": ')
    assert board.get() is None


def test_a_supervisor_that_went_silent_is_unhealthy(board: StatusBoard, clock: Clock) -> None:
    board.put(make_snapshot(1.0))
    clock.now_s += 20
    assert board.explain_unhealthy() is None
    clock.now_s += 5
    assert board.explain_unhealthy() == "the agent has not published a status for 25 s"
