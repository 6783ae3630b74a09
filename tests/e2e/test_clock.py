"""A wall clock that is stepped by a day, forth and back, decides nothing."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from faketime import StepClock, find_faketime
from released import NotInstallable

from agent import AgentUnderTest
from oracle import differences, walk
from treeops import RandomTree

_DAY_S = 86_400


@pytest.fixture
def clock(tmp_path: Path) -> StepClock:
    try:
        return StepClock(find_faketime(), tmp_path / "offset")
    except NotInstallable as err:
        pytest.skip(str(err))


def test_steps_of_the_wall_clock_change_nothing(
    tmp_path: Path, clock: StepClock, start_agent: Callable[..., AgentUnderTest]
) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    seed = random.randrange(1 << 30)
    writer = RandomTree(inside, outside, random.Random(seed))
    agent = start_agent(watch=inside, env=clock.environment)
    agent.wait_ready()

    def assert_exact() -> None:
        for _ in range(60):
            writer.step()
        found = differences(walk(bytes(inside)), agent.export(), link_counts=False)
        assert not found, f"seed {seed}\n" + "\n".join(found)

    workers, session = agent.worker_pids(), agent.status()["pipes"][0]["session_id"]
    for offset_s in (_DAY_S, -_DAY_S, 0):
        clock.step_to(offset_s)
        assert_exact()
        agent.wait_ready()
        shown = agent.command("status")
        assert shown.returncode == 0, shown.stdout
        status = agent.status()
        assert agent.worker_pids() == workers
        assert status["pipes"][0]["session_id"] == session
        assert status["pipes"][0]["audit"]["state"] == "none"  # the next one is a long time off
        assert 0 <= status["agent"]["uptime_s"] < _DAY_S
    for offset_s in (_DAY_S, -_DAY_S):
        agent.stop()
        clock.step_to(offset_s)
        agent.start()
        agent.wait_ready()
        assert_exact()
