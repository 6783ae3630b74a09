"""A renamed directory is in the view at its new place with all below it, and is one event."""

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from agent import AgentUnderTest
from configfile import write_config

_AROUND = 20
"""The directories around a rename, and the one renamed, are looked at: their times change with it."""


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.chaos)])
def test_the_rename_of_a_large_directory_is_one_event(tmp_path: Path, count: int) -> None:
    tree = tmp_path / "tree"
    fill(tree / "other" / "place", 1)
    fill(tree / "large", count)
    with AgentUnderTest(tmp_path / "home", watch=tree) as agent:
        agent.wait_ready()
        for before, after in (("large", "other/moved"), ("other", "above"), ("above/moved", "large")):
            newest = find_newest(agent)
            os.rename(tree / before, tree / after)
            assert agent.differences(tree) == []
            assert count_sent(agent, newest) <= _AROUND
        newest = find_newest(agent)
        (tree / "large" / "s0" / "new").write_text("seen through the watch that came along")
        os.rename(tree / "large" / "s1", tree / "s1")
        (tree / "s1" / "f0").unlink()
        assert agent.differences(tree) == []
        assert count_sent(agent, newest) <= 2 * _AROUND


def test_what_is_moved_while_another_agent_pushes_into_the_view_is_listed_anew(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    fill(tree / "large", 300)
    with AgentUnderTest(tmp_path / "home", watch=tree) as agent:
        agent.wait_ready()
        key = (agent.home / "state" / "fusion-agent.key").read_text().strip()
        config = write_config(
            tmp_path / "second.yaml",
            sources={"tree": ("fs", {"uri": str(tree)})},
            senders={"fusion": ("fusion", {"endpoint": agent.fusion_url, "credential": key, "view": "watch"})},
            pipes={"watch": ("tree", "fusion")},
        )
        with AgentUnderTest(tmp_path / "second", config=config) as second:
            second.wait_ready()
            newest = find_newest(agent)
            os.rename(tree / "large", tree / "moved")
            assert agent.differences(tree) == []
            assert count_sent(agent, newest) > 300


def fill(directory: Path, count: int) -> None:
    """Make a directory with that many empty files, in ten directories."""
    for number in range(10):
        below = directory / f"s{number}"
        below.mkdir(parents=True)
        for name in range(max(1, count // 10)):
            os.close(os.open(below / f"f{name}", os.O_CREAT | os.O_WRONLY))


def find_newest(agent: AgentUnderTest) -> int:
    """Return the highest index of a row in the view."""
    return ask_database(agent, "SELECT max(idx) FROM nodes")


def count_sent(agent: AgentUnderTest, since: int) -> int:
    """Return how many rows of the view were sent since: what only moved along keeps its index."""
    return ask_database(agent, f"SELECT count(*) FROM nodes WHERE idx > {since}")


def ask_database(agent: AgentUnderTest, question: str) -> int:
    with contextlib.closing(sqlite3.connect(agent.home / "state" / "fusion-watch.db")) as db:
        (answer,) = db.execute(question).fetchone()
    return int(answer)
