"""What a machine can run out of: the agent stays up, says what is wrong, and recovers by itself when the cause goes."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent import AgentUnderTest
from configfile import write_config
from namespaces import enter, unshare
from oracle import differences, walk
from waiting import until

PROGRAM = Path(sys.executable).parent / "fustor-agent"
_WITHIN_S = 60.0


class MountedAgent(AgentUnderTest):
    """
    An agent in a mount namespace of its own.

    Args:
        directory: For its home and its program.
        mount: What is mounted in its namespace before it starts, `-t tmpfs none /proc`.
        watch: As in `AgentUnderTest`.
        config: As in `AgentUnderTest`.
    """

    def __init__(self, directory: Path, mount: str, *, watch: Path | None = None, config: Path | None = None) -> None:
        home, program = directory / "home", directory / "mounted"
        home.mkdir()
        program.write_text(
            f'#!/bin/sh\nexec {" ".join(unshare("--mount"))} sh -c \'mount {mount} && exec {PROGRAM} "$@"\' sh "$@"\n'
        )
        program.chmod(0o755)
        super().__init__(home, watch=watch, config=config, program=program)

    @property
    def seen_home(self) -> Path:
        """The home as the agent sees it."""
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/root{self.home}")

    def reader_key(self) -> str:
        return (self.seen_home / "state" / "fusion-reader.key").read_text().strip()

    def run_inside(self, *words: str | Path, code: int = 0) -> str:
        """Run a command in the agent's mount namespace, which must end with a code; returns all that it said."""
        assert self.process is not None
        done = subprocess.run(
            [*enter(self.process.pid), *words],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def problems(self) -> str:
        return "\n".join(self.status()["agent"]["problems"])


class Watched:
    """A tree and the agent that watches it."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        tree.mkdir()
        self._written = 0

    def change(self) -> None:
        for _ in range(20):
            self._written += 1
            (self.tree / f"file-{self._written}").write_text("x" * self._written)

    def assert_exact(self, agent: AgentUnderTest) -> None:
        assert differences(walk(bytes(self.tree)), agent.export()) == []


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "tree")


@pytest.fixture
def mounted(tmp_path: Path, watched: Watched, no_process_is_left: None) -> Iterator[MountedAgent]:
    mount = f"-t tmpfs -o size=8m none {tmp_path}/home"
    with MountedAgent(tmp_path, mount, watch=watched.tree) as agent:
        agent.wait_ready()
        yield agent


def fill_up(path: Path) -> None:
    """Write a file until its disk is full."""
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def await_error(agent: AgentUnderTest, name: str, *parts: str) -> None:
    """Wait until a worker is down for a reason that holds these parts."""

    def find_reason() -> bool:
        worker = next(each for each in agent.status()["workers"] if each["name"] == name)
        return worker["state"] != "running" and all(part in (worker["last_error"] or "") for part in parts)

    until(find_reason, within_s=_WITHIN_S, what=f"the error of {name}")


def test_a_full_disk_is_named_and_costs_no_change(mounted: MountedAgent, watched: Watched) -> None:
    fill = mounted.seen_home / "fill"
    fill_up(fill)
    watched.change()
    until(lambda: "No space left" in mounted.problems(), within_s=_WITHIN_S, what="the problem")
    until(lambda: "disk is full" in mounted.readyz()[1], within_s=_WITHIN_S, what="the reason")
    for worker in ("fusion", "watch.source"):
        mounted.kill(worker)
    watched.change()
    until(lambda: len(mounted.worker_pids()) == 4, within_s=_WITHIN_S, what="other workers")
    fill.unlink()
    mounted.wait_ready()
    watched.assert_exact(mounted)
    until(lambda: mounted.problems() == "", within_s=_WITHIN_S, what="no problem any more")


def test_a_home_that_becomes_read_only_is_named_and_costs_no_change(mounted: MountedAgent, watched: Watched) -> None:
    mounted.run_inside("mount", "--bind", mounted.home, mounted.home)
    mounted.run_inside("mount", "-o", "remount,ro,bind", mounted.home)
    for worker in ("fusion", "watch.pusher"):
        mounted.kill(worker)
    watched.change()
    until(lambda: "Read-only file system" in mounted.problems(), within_s=_WITHIN_S, what="the problem")
    await_error(mounted, "fusion", "its database cannot be opened", "is on a read-only file system; make it writable")
    assert "cannot be written" in mounted.run_inside(PROGRAM, "reload", code=1)
    mounted.run_inside("umount", mounted.home)
    mounted.wait_ready()
    watched.assert_exact(mounted)
    until(lambda: mounted.problems() == "", within_s=_WITHIN_S, what="no problem any more")


@contextmanager
def limited(pid: int, what: int, soft: int) -> Iterator[None]:
    """Lower a limit of a process for the time of a `with` block."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, before[1]))
    yield
    resource.prlimit(pid, what, before)


def test_a_lack_of_descriptors_is_named_and_costs_no_change(
    watched: Watched, start_agent: Callable[..., AgentUnderTest]
) -> None:
    agent = start_agent(watch=watched.tree)
    agent.wait_ready()
    assert agent.process is not None
    with limited(agent.process.pid, resource.RLIMIT_NOFILE, 3):
        agent.kill("watch.pusher")
        agent.kill("watch.source")
        watched.change()
        await_error(agent, "watch.pusher", "cannot be forked", "Too many open files")
    agent.wait_ready()
    watched.assert_exact(agent)


def test_without_proc_it_says_so_and_polls(tmp_path: Path, watched: Watched, no_process_is_left: None) -> None:
    watched.change()
    config = write_config(
        tmp_path / "agent-config.yaml",
        sources={"tree": ("fs", {"uri": str(watched.tree)})},
        senders={"fusion": ("fusion", {"endpoint": "embedded"})},
        pipes={"watch": ("tree", "fusion")},
    )
    config.write_text(config.read_text().replace('"id": "watch"', '"id": "watch", "audit_interval_s": 0.2'))
    with MountedAgent(tmp_path, "-t tmpfs none /proc", config=config) as agent:
        until(lambda: "/proc is not mounted; mount it" in agent.readyz()[1], within_s=_WITHIN_S, what="the reason")
        watched.change()
        until(lambda: differences(walk(bytes(watched.tree)), agent.export(sync=None)) == [], within_s=_WITHIN_S,
              what="the view of the tree")
        assert "without /proc nobody can tell by whom; mount it" in agent.run_inside(PROGRAM, "stop", code=1)
