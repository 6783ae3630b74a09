"""The whole agent with far fewer watches than directories: it says so, and misses nothing for longer than a round."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import AgentUnderTest
from configfile import write_config
from namespaces import limit_inotify, unshare_limits, wrap_agent
from oracle import differences, walk
from processes import list_watched
from waiting import until

_CHAOS = [pytest.mark.chaos, pytest.mark.timeout(1800)]
_OLD_S = 1_000_000_000
_PLENTY = 1_000_000
_WITHIN_S = 300.0

Start = Callable[..., AgentUnderTest]


@pytest.fixture
def start_limited(tmp_path: Path, start_agent: Start) -> Start:
    """Start an agent on a tree of which the kernel grants so few `watches` or `instances`, until they are raised."""

    def start(tree: Path, **limits: int) -> AgentUnderTest:
        params = {"poll_interval_s": 1.0, "audit_rows_per_s": 0}
        config = write_config(
            tmp_path / "agent-config.yaml",
            sources={"tree": ("fs", {"uri": str(tree), "driver_params": params})},
            senders={"fusion": ("fusion", {"endpoint": "embedded"})},
            pipes={"watch": ("tree", "fusion")},
        )
        limit = "".join(f"echo {count} > /proc/sys/user/max_inotify_{name} && " for name, count in limits.items())
        words = [*unshare_limits(), "sh", "-c", f"'{limit} exec \"$@\"'", "sh"]
        return start_agent(config=config, program=wrap_agent(tmp_path / "agent", words))

    return start


def make(tree: Path, count: int) -> list[Path]:
    """Make directories in which nothing has happened for long."""
    made = [tree / f"{number // 100}" / f"{number}" for number in range(count)]
    for path in made:
        path.mkdir(parents=True)
        (path / "file").touch()
        for each in (path / "file", path):
            os.utime(each, (_OLD_S, _OLD_S))
    return made


def await_rest(agent: AgentUnderTest) -> dict[str, Any]:
    """Wait until all that was found is sent, though not everything is watched; returns the pipe's status."""

    def look() -> dict[str, Any] | None:
        pipe, = agent.status()["pipes"]
        return pipe if pipe["snapshot"]["state"] == "done" and pipe["counters"]["dirty"] == 0 else None

    until(lambda: agent.readyz()[0] == 503 and look() is not None, within_s=_WITHIN_S, what="the snapshot")
    return until(look, within_s=_WITHIN_S, what="what is covered") or {}


def await_exact(agent: AgentUnderTest, tree: Path) -> None:
    def is_exact() -> bool:
        return not differences(walk(bytes(tree)), agent.export(sync=None))

    until(is_exact, within_s=_WITHIN_S, what="the view to be the tree")


def await_watched(agent: AgentUnderTest, paths: list[Path]) -> None:
    """Wait until the kernel has a watch of the source for each of these directories."""
    pid = agent.worker_pids()["watch.source"]
    wanted = {path.stat().st_ino for path in paths}
    until(lambda: not wanted - list_watched(pid), within_s=_WITHIN_S, what="watches where something happens")


def raise_limits(agent: AgentUnderTest, tree: Path) -> None:
    """Grant all that is wanted; the agent must find that out and be exact."""
    assert agent.process is not None
    limit_inotify(agent.process.pid, watches=_PLENTY, instances=_PLENTY)
    agent.wait_ready(_WITHIN_S)
    assert differences(walk(bytes(tree)), agent.export()) == []


@pytest.mark.parametrize(("watches", "directories"), [(100, 1_000), pytest.param(2_000, 20_000, marks=_CHAOS)])
def test_with_a_tenth_of_the_watches_it_watches_what_is_hot_covers_all_and_says_how(
    tmp_path: Path, start_limited: Start, watches: int, directories: int
) -> None:
    tree = tmp_path / "tree"
    cold = make(tree, directories)
    random.shuffle(cold)
    hot, cold = cold[: watches // 3], cold[watches // 3 :]
    for path in hot:
        os.utime(path)
    agent = start_limited(tree, watches=watches)
    pipe = await_rest(agent)
    count = 1 + directories // 100 + directories
    said = {name: pipe["details"][name] for name in ("directories", "watches", "unwatched")}
    assert said == {"directories": count, "watches": watches, "unwatched": count - watches}
    assert f"{count - watches} directories are not watched but looked at every 1 s" in pipe["not_current_because"]
    await_watched(agent, hot)
    for _ in range(2):
        hot, cold = cold[: watches // 3], cold[watches // 3 :]
        for path in hot:
            (path / "file").write_text("activity moves")
        await_watched(agent, hot)
    for path in hot:
        (path / "new" / "deep").mkdir(parents=True)
    await_exact(agent, tree)
    raise_limits(agent, tree)


def test_without_an_instance_it_says_so_and_looks_at_everything_until_there_are_some(
    tmp_path: Path, start_limited: Start
) -> None:
    tree = tmp_path / "tree"
    made = make(tree, 50)
    agent = start_limited(tree, instances=0)
    pipe = await_rest(agent)
    assert pipe["details"]["shards"] == pipe["details"]["watches"] == 0
    assert "directories are not watched but looked at every 1 s" in pipe["not_current_because"]
    assert "raise fs.inotify.max_user_instances" in pipe["not_current_because"]
    (made[7] / "file").write_text("nobody tells")
    (made[8] / "new" / "deep").mkdir(parents=True)
    (made[9] / "file").unlink()
    await_exact(agent, tree)
    raise_limits(agent, tree)
    await_watched(agent, made)
