"""A wall clock that is stepped by a day, forth and back, decides nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faketime import StepClock, find_faketime
from released import NotInstallable

from agent import AgentUnderTest
from oracle import differences, walk

_DAY_S = 86_400


@pytest.fixture
def clock(tmp_path: Path) -> StepClock:
    try:
        return StepClock(find_faketime(), tmp_path / "offset")
    except NotInstallable as err:
        pytest.skip(str(err))


def change(tree: Path) -> None:
    """Do some of everything to a tree, anew to what earlier calls have left."""
    shutil.rmtree(tree / "moved", ignore_errors=True)
    (tree / "made" / "deep").mkdir(parents=True)
    for number in range(20):
        (tree / "made" / f"file-{number}").write_text("x" * number)
        with (tree / f"kept-{number}").open("a") as file:
            file.write("more")
    (tree / "made").rename(tree / "moved")
    (tree / "moved" / "file-7").unlink()
    (tree / "kept-3").replace(tree / "moved" / "file-8")


def test_steps_of_the_wall_clock_change_nothing(
    tmp_path: Path, clock: StepClock, start_agent: Callable[..., AgentUnderTest]
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    agent = start_agent(watch=tree, env=clock.environment)
    agent.wait_ready()

    def assert_exact() -> None:
        change(tree)
        assert differences(walk(bytes(tree)), agent.export()) == []

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
