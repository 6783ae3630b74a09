"""A Fusion that is away while very much happens, and a burst that no queue holds: bounded memory, each path once."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import AgentUnderTest
from fusion import FusionUnderTest
from oracle import differences, walk
from processes import read_number
from waiting import until

_CHAOS = [pytest.mark.chaos, pytest.mark.timeout(3600)]
_DIRECTORIES = 50
_CHANGED = 1_000
_WITHIN_S = 600.0
_CEILING_KB = 64_000
"""Of the source and of the pusher, shared pages counted in each, whatever happens while Fusion is away."""


class Away:
    """
    An agent whose Fusion is away.

    Args:
        agent: Its pipe has nothing to send but one row, for which it waits for Fusion.
        tree: Holds `d0`, `d1`, and so on.
        fusion: Was stopped.
    """

    def __init__(self, agent: AgentUnderTest, tree: Path, fusion: FusionUnderTest) -> None:
        self.agent = agent
        self.tree = tree
        self.fusion = fusion
        self._pushed = self._pipe()["counters"]["pushed"]

    def come_back(self) -> int:
        """Start Fusion and wait until its view is the tree; returns how many rows were pushed for that."""
        self.fusion.start()
        self.agent.wait_ready(_WITHIN_S)
        assert differences(walk(bytes(self.tree)), self.fusion.export(sync_s=_WITHIN_S)) == []
        until(self._rests, within_s=_WITHIN_S, what="nothing to be owed")
        return int(self._pipe()["counters"]["pushed"] - self._pushed)

    def assert_small(self) -> None:
        """Check the most memory that source and pusher have ever had."""
        pids = self.agent.worker_pids()
        peaks = {name: read_number(pids[name], "status", "VmHWM") for name in ("p.source", "p.pusher")}
        assert max(peaks.values()) < _CEILING_KB, peaks

    def _pipe(self) -> Any:
        pipe, = self.agent.status()["pipes"]
        return pipe

    def _rests(self) -> bool:
        counters = self._pipe()["counters"]
        return counters["acknowledged"] == counters["pushed"] and not counters["pending"] + counters["dirty"]


@pytest.fixture
def away(tmp_path: Path, start_agent: Callable[..., AgentUnderTest], no_process_is_left: None) -> Iterator[Away]:
    tree = tmp_path / "tree"
    for number in range(_DIRECTORIES):
        (tree / f"d{number}").mkdir(parents=True)
    for number in range(_CHANGED):
        (tree / f"d{number % _DIRECTORIES}" / f"file{number}").touch()
    fusion = FusionUnderTest(tmp_path / "fusion").start()
    config = fusion.write_agent_config(tmp_path / "agent-config.yaml", tree)
    try:
        agent = start_agent(config=config)
        agent.wait_ready()
        fusion.stop()
        away = Away(agent, tree, fusion)
        (tree / "d0" / "file0").chmod(0o600)  # one row: what comes after it waits in the source
        until(lambda: "cannot connect" in agent.readyz()[1], within_s=60, what="the reason")
        yield away
    finally:
        fusion.kill()


@pytest.mark.parametrize("changes", [50_000, pytest.param(1_000_000, marks=_CHAOS)])
def test_of_very_many_changes_while_fusion_is_away_each_file_is_sent_once(away: Away, changes: int) -> None:
    paths = [away.tree / f"d{number % _DIRECTORIES}" / f"file{number}" for number in range(_CHANGED)]
    files = [os.open(path, os.O_WRONLY) for path in paths]
    for number in range(changes):
        os.pwrite(files[number % _CHANGED], b"x", number)
    for file in files:
        os.close(file)
    assert away.come_back() == 1 + _CHANGED
    away.assert_small()


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=_CHAOS)])
def test_of_very_many_new_files_while_fusion_is_away_each_is_sent_once(away: Away, count: int) -> None:
    for number in range(count):
        path = away.tree / f"d{number % _DIRECTORIES}" / f"new{number}"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    rows = away.come_back()
    # Once: beyond 100,000 places a directory is listed, with what was in it before; its own row comes thrice at most.
    assert count <= rows <= count + _CHANGED + 3 * _DIRECTORIES, rows
    away.assert_small()
