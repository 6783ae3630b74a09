"""The whole agent with its embedded Fusion after the worst: all of it killed under load, its database damaged."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agent import AgentFailed, AgentUnderTest
from oracle import differences, walk
from treeops import RandomTree
from waiting import until


class Watched:
    """A tree, a place outside it, and an agent that watches it with the embedded Fusion."""

    def __init__(self, agent: AgentUnderTest, inside: Path, outside: Path) -> None:
        self.agent = agent
        self.inside = inside
        self.outside = outside
        self.database = agent.home / "state" / "fusion-watch.db"

    def assert_exact(self, what: str = "") -> None:
        found = differences(walk(bytes(self.inside)), self.agent.export())
        assert not found, f"{what}\n" + "\n".join(found)

    def stats(self) -> dict[str, Any]:
        with self.agent.query("stats") as answer:
            found = json.load(answer)
        assert isinstance(found, dict)
        return found

    @contextmanager
    def writing(self) -> Iterator[RandomTree]:
        """Change the tree for the time of a `with` block; at its end the view is compared with the tree."""
        seed = random.randrange(1 << 30)
        writer = RandomTree(self.inside, self.outside, random.Random(seed))
        with writer.at_work(pause_s=0.002):
            yield writer
        self.agent.wait_ready()
        self.assert_exact(f"seed {seed}\n" + "\n".join(writer.log[-40:]))


@pytest.fixture
def watched(tmp_path: Path, start_agent: Callable[..., AgentUnderTest]) -> Watched:
    inside, outside = tmp_path / "in", tmp_path / "out"
    outside.mkdir()
    for number in range(20):
        below = inside / f"d{number}" / "sub"
        below.mkdir(parents=True)
        for name in range(100):
            (below / f"f{name}").write_text("x" * name)
    agent = start_agent(watch=inside)
    agent.wait_ready()
    return Watched(agent, inside, outside)


@pytest.mark.parametrize("crashes", [3, pytest.param(60, marks=[pytest.mark.chaos, pytest.mark.timeout(1800)])])
def test_an_agent_that_is_killed_whole_under_load_again_and_again_ends_exact(watched: Watched, crashes: int) -> None:
    with watched.writing() as writer:
        for _ in range(crashes):
            seen = len(writer.log)
            until(lambda seen=seen: len(writer.log) > seen + 50, within_s=60, what="some changes")
            watched.agent.crash()
            watched.agent.start()
            watched.agent.wait_ready()


@pytest.mark.parametrize("damage", ["header", "middle", "empty"])
def test_a_database_that_is_damaged_at_the_start_is_set_aside_said_to_be_and_filled_anew(
    watched: Watched, damage: str
) -> None:
    generation = watched.stats()["generation"]
    watched.agent.stop()
    content = watched.database.read_bytes()
    spoilt = {"header": b"\xff" * 4096 + content[4096:], "middle": content[:4096] + b"\xff" * 8192, "empty": b"junk"}
    watched.database.write_bytes(spoilt[damage])
    shutil.rmtree(watched.inside / "d3")
    watched.agent.start()
    watched.agent.wait_ready()
    stats = watched.stats()
    assert "set aside" in stats["damage"]
    assert stats["generation"] != generation
    assert watched.database.with_name("fusion-watch.db.damaged-1").read_bytes() == spoilt[damage]
    watched.assert_exact()


def test_damage_that_is_met_only_while_the_database_is_used_has_it_set_aside_and_filled_anew(watched: Watched) -> None:
    watched.agent.stop()
    size = watched.database.stat().st_size
    with watched.database.open("r+b") as file:
        file.seek(size // 8192 * 4096)  # what is looked at when it is opened comes before
        file.write(b"\xff" * (size - file.tell()))
    watched.agent.start()
    aside = watched.database.with_name("fusion-watch.db.damaged-1")

    def is_set_aside() -> bool:
        with suppress(AgentFailed, OSError):  # a damaged page is met, or nobody serves just now
            watched.agent.export(sync=None)
        return aside.exists()

    until(is_set_aside, within_s=60, what="the damaged database to be set aside")
    watched.agent.wait_ready()
    assert "set aside" in watched.stats()["damage"]
    watched.assert_exact()
    worker = next(each for each in watched.agent.status()["workers"] if each["name"] == "fusion")
    assert "damaged" in worker["last_exit"]["reason"]
