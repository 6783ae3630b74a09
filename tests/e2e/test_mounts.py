"""Mounts below the root of the whole agent, which come and go without an event: after a sync the view is the tree."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import AgentUnderTest
from namespaces import enter, unshare, wrap_agent
from oracle import differences, walk


class Mounted:
    """
    An agent with mounts of its own.

    Args:
        agent: Watches `inside`, in a mount namespace.
        inside: The tree; holds `place` and `second`.
        outside: A directory to be mounted.
    """

    def __init__(self, agent: AgentUnderTest, inside: Path, outside: Path) -> None:
        self.agent = agent
        self.inside = inside
        self.outside = outside

    def see(self, path: Path) -> Path:
        """Return a path by which this process reaches what the agent sees there."""
        assert self.agent.process is not None
        return Path(f"/proc/{self.agent.process.pid}/root{path}")

    def run(self, *words: str | Path) -> None:
        """Run a command where the agent has its mounts; then the view must be the tree."""
        assert self.agent.process is not None
        subprocess.run([*enter(self.agent.process.pid), *words], check=True)
        self.assert_exact(words)

    def assert_exact(self, what: object) -> None:
        found = differences(walk(bytes(self.see(self.inside))), self.agent.export())
        assert not found, f"{what}\n" + "\n".join(found)


@pytest.fixture
def mounted(tmp_path: Path, start_agent: Callable[..., AgentUnderTest]) -> Mounted:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for path in (inside / "place", inside / "second", outside / "deep" / "deeper"):
        path.mkdir(parents=True)
    (inside / "place" / "covered").touch()
    (outside / "deep" / "leaf").touch()
    (outside / "linked").hardlink_to(outside / "deep" / "leaf")
    agent = start_agent(watch=inside, program=wrap_agent(tmp_path / "agent", unshare("--mount")))
    agent.wait_ready()
    return Mounted(agent, inside, outside)


def test_binds_and_file_systems_that_come_move_and_go_are_in_the_view(mounted: Mounted) -> None:
    place, second = mounted.inside / "place", mounted.inside / "second"
    mounted.run("mount", "--bind", mounted.outside, place)
    (mounted.outside / "deep" / "leaf").write_text("through neither")
    mounted.assert_exact("a change behind a bind mount")
    mounted.run("mount", "--bind", mounted.outside / "deep", second)
    (mounted.see(second) / "both").write_text("seen at two places")
    mounted.assert_exact("a change at two places")
    mounted.run("mv", place / "deep", place / "renamed")
    mounted.run("mv", second / "deeper", second / "else")
    mounted.run("rm", place / "renamed" / "leaf")
    mounted.run("umount", second)
    (mounted.see(place) / "renamed" / "still").touch()
    mounted.assert_exact("a change where one of two places is left")
    mounted.run("umount", place)
    mounted.run("mount", "-t", "tmpfs", "none", place)
    (mounted.see(place) / "in memory").touch()
    mounted.assert_exact("a change on another file system")
    mounted.run("mount", "--bind", mounted.outside, place)
    mounted.run("umount", place)
    mounted.run("umount", place)
    (place / "covered").write_text("tells again")
    mounted.assert_exact("a change of what was covered")
