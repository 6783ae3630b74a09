"""A new start over a view that holds the tree already: only differences are sent, and the view is exact."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import AgentUnderTest
from bench import make_tree
from fusion import FusionUnderTest
from oracle import differences, walk
from processes import descendants, kill_all
from treeops import RandomTree
from waiting import until

DIRECTORIES, FILES_EACH = 50, 20
NAMES = 1 + DIRECTORIES * (1 + FILES_EACH)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for number in range(DIRECTORIES):
        below = root / f"d{number:03}"
        below.mkdir(parents=True)
        for name in range(FILES_EACH):
            (below / f"f{name:03}").write_text("x" * name)
    return root


@pytest.fixture
def agent(tree: Path, start_agent: Callable[..., AgentUnderTest]) -> AgentUnderTest:
    agent = start_agent(watch=tree)
    agent.wait_ready()
    return agent


def read_snapshot(agent: AgentUnderTest) -> dict[str, Any]:
    (pipe,) = agent.status()["pipes"]
    snapshot = pipe["snapshot"]
    assert isinstance(snapshot, dict)
    return snapshot


def count_pushed(agent: AgentUnderTest) -> int:
    (pipe,) = agent.status()["pipes"]
    return int(pipe["counters"]["pushed"])


@pytest.mark.parametrize("end", [AgentUnderTest.stop, AgentUnderTest.crash])
def test_a_restart_over_an_unchanged_tree_sends_no_row(tree: Path, agent: AgentUnderTest, end: Any) -> None:
    end(agent)
    agent.start().wait_ready()
    snapshot = read_snapshot(agent)
    assert (snapshot["state"], snapshot["rows"]) == ("done", 0)
    assert snapshot["compared"] == NAMES + DIRECTORIES  # a directory's row is part of two listings
    assert count_pushed(agent) == 0
    (tree / "d000" / "new").write_text("seen")
    assert agent.differences(tree) == []


def test_a_source_that_is_replaced_sends_no_row_of_what_is_unchanged(tree: Path, agent: AgentUnderTest) -> None:
    # The view may be current before it is told how many rows it took.
    before = until(lambda: (pushed := count_pushed(agent)) >= NAMES and pushed, within_s=60, what="all rows")
    agent.kill("watch.source")
    until(lambda: read_snapshot(agent)["compared"] == NAMES + DIRECTORIES and agent.readyz()[0] == 200,
          within_s=60, what="the snapshot of the new source")
    assert count_pushed(agent) == before
    assert agent.differences(tree) == []


def test_what_changed_meanwhile_is_sent_and_little_else(tree: Path, agent: AgentUnderTest) -> None:
    agent.crash()
    (tree / "d001" / "f001").write_text("in place")
    (tree / "d002" / "f002").unlink()
    (tree / "d003" / "new").mkdir()
    (tree / "d003" / "new" / "file").touch()
    (tree / "d004").rename(tree / "renamed")
    forged = tree / "d005" / "f005"
    before = forged.stat()
    forged.write_text("y" * before.st_size)
    os.utime(forged, ns=(before.st_atime_ns, before.st_mtime_ns))  # only its ctime tells
    replaced = tree / "d006" / "f006"
    replaced.unlink()
    replaced.write_text("x" * 6)  # on most file systems with the inode number of the old one
    agent.start().wait_ready()
    assert agent.differences(tree) == []
    # The root, seven directories, and the new one.
    assert read_snapshot(agent)["rows"] <= (1 + DIRECTORIES) + 7 * (FILES_EACH + 2) + 5


def test_a_snapshot_that_was_cut_off_goes_on_at_the_directory_where_it_was(
    tree: Path, tmp_path: Path, start_agent: Callable[..., AgentUnderTest], no_process_is_left: None
) -> None:
    make_tree(tree / "more", directories=300, files_each=100)
    there = walk(bytes(tree))
    fusion = FusionUnderTest(tmp_path / "fusion").start()
    try:
        agent = start_agent(config=fusion.write_agent_config(tmp_path / "agent-config.yaml", tree))
        processes = until(lambda: list_processes(agent), within_s=60, what="source, pusher and console")
        until(lambda: count_names(fusion) > 5_000, within_s=60, what="some of the tree in the view")
        kill_all(processes)  # at once: all these names take a tenth of a second
        agent.crash()
        fusion.stop()  # what it had accepted is applied
        held = fusion.start().export(sync_s=None)
        agent.start().wait_ready()
        assert differences(there, fusion.export()) == []
        sent = read_snapshot(agent)["rows"]
    finally:
        fusion.kill()
    empty = {path for path, entry in held.items() if entry.type == "directory"} - {parent(path) for path in held}
    missing = there.keys() - held.keys()
    assert missing, "the snapshot was over before it was cut off"
    # A directory that is listed for the first time may begin with its own row, which its parent's listing has as well.
    first = len(missing) + len(empty) + sum(there[path].type == "directory" for path in missing)
    assert len(missing) <= sent <= first + len(there) // 100


def parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def list_processes(agent: AgentUnderTest) -> set[int]:
    """Return the pids of the supervisor and its workers; none before there are three."""
    assert agent.process is not None
    workers = descendants(agent.process.pid)
    return {agent.process.pid, *workers} if len(workers) == 3 else set()


def count_names(fusion: FusionUnderTest) -> int:
    stats = fusion.ask("stats")
    return int(stats["files"]) + int(stats["directories"])


def test_random_changes_while_nobody_looks_are_found(
    tree: Path, tmp_path: Path, agent: AgentUnderTest
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    seed = random.randrange(1 << 30)
    changes = RandomTree(tree, outside, random.Random(seed))
    for _ in range(3):
        agent.crash()
        for _ in range(60):
            changes.step()
        agent.start().wait_ready()
        assert agent.differences(tree) == [], f"seed {seed}\n" + "\n".join(changes.log[-60:])


def test_a_view_that_was_lost_is_filled_anew(tree: Path, agent: AgentUnderTest) -> None:
    agent.crash()
    for path in (agent.home / "state").glob("fusion-watch.db*"):
        path.unlink()
    agent.start().wait_ready()
    assert agent.differences(tree) == []
    assert read_snapshot(agent)["rows"] >= NAMES
