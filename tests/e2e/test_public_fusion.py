"""The whole agent against the released public Fusion 0.8.17: its view holds the paths and sizes of the tree."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from public_fusion import PublicFusion
from released import NotInstallable

from agent import AgentUnderTest
from configfile import write_config
from oracle import walk
from treeops import RandomTree
from waiting import until

_WITHIN_S = 60.0
_STEADY_S = 120.0
_PAUSE_S = 0.25


class UniqueNames(RandomTree):
    """
    Random operations whose outcome a public Fusion can show.

    It has no inodes, so what is written through one name of a file is not seen at another; and a
    byte that is not UTF-8 stands in its view as `?`, so each such name gets a part of its own.
    """

    def __init__(self, inside: Path, outside: Path, rng: random.Random) -> None:
        super().__init__(inside, outside, rng)
        self._operations = [each for each in self._operations if each[1] != self.link]

    def _name(self) -> bytes:
        name = super()._name()
        try:
            name.decode()
        except UnicodeDecodeError:
            return name[:60] + b"%x" % self.rng.getrandbits(60)
        return name


class Pushed:
    """A tree, a place outside it, the public Fusion, and an agent between them."""

    def __init__(self, agent: AgentUnderTest, fusion: PublicFusion, inside: Path, outside: Path) -> None:
        self.agent = agent
        self.fusion = fusion
        self.inside = inside
        self.outside = outside

    def assert_same(self, what: object = "") -> None:
        """Wait until the view holds what the tree holds; nobody may be writing."""
        expected = {_sanitise(path): entry.size for path, entry in walk(bytes(self.inside)).items()}

        def seen() -> dict[str, int] | None:
            nodes = self.fusion.nodes()
            return None if nodes is None else {path: node["size"] for path, node in nodes.items()}

        try:
            until(lambda: seen() == expected, within_s=_WITHIN_S, what="the view")
        except TimeoutError:
            found = seen() or {}
            missing = sorted(expected.keys() - found.keys())[:10]
            surplus = sorted(found.keys() - expected.keys())[:10]
            both = expected.keys() & found.keys()
            sizes = [(path, found[path], expected[path]) for path in both if found[path] != expected[path]]
            pytest.fail(f"{what}\nmissing {missing}\nonly in the view {surplus}\nsizes (is, should be) {sizes[:10]}")

    def pipe(self) -> dict[str, object]:
        pipe = self.agent.status()["pipes"][0]
        assert isinstance(pipe, dict)
        return pipe


def _sanitise(path: bytes) -> str:
    """Show each byte that is not UTF-8 as `?`, as the pusher's documentation says."""
    return "".join("?" if "\udc80" <= char <= "\udcff" else char for char in os.fsdecode(path))


@pytest.fixture
def fusion(tmp_path: Path, no_process_is_left: None) -> Iterator[PublicFusion]:
    peer = PublicFusion(tmp_path / "public-fusion")
    try:
        peer.start()
    except NotInstallable as err:
        pytest.skip(f"the public Fusion cannot be installed here: {err}")
    yield peer
    peer.stop()


@pytest.fixture
def pushed(tmp_path: Path, fusion: PublicFusion, start_agent: Callable[..., AgentUnderTest]) -> Pushed:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    for number in range(20):
        below = inside / f"d{number}" / "sub"
        below.mkdir(parents=True)
        for name in range(10):
            (below / f"f{name}").write_text("x" * name)
    config = write_config(
        tmp_path / "agent.yaml",
        sources={"tree": ("fs", {"uri": str(inside)})},
        senders={"public": ("fusion", {"endpoint": fusion.endpoint, "credential": fusion.push_key})},
        pipes={"p": ("tree", "public")},
    )
    agent = start_agent(config=config)
    agent.wait_ready()
    return Pushed(agent, fusion, inside, outside)


def test_the_view_is_the_tree_after_the_snapshot(pushed: Pushed) -> None:
    assert pushed.fusion.nodes() is not None, "current means that the view can be read"
    pushed.assert_same()
    assert pushed.pipe()["role"] == "leader"


def test_the_view_follows_every_kind_of_change(pushed: Pushed) -> None:
    (pushed.inside / "created").write_text("new")
    with (pushed.inside / "d1" / "sub" / "f1").open("a") as file:
        file.write("more and more")
    (pushed.inside / "d2").rename(pushed.inside / "d3" / "renamed")
    shutil.rmtree(pushed.inside / "d4")
    (pushed.inside / "d5").rename(pushed.outside / "moved")
    pushed.assert_same("after the first changes")
    (pushed.outside / "moved" / "grown").write_text("outside")
    (pushed.outside / "moved").rename(pushed.inside / "d6" / "moved in")
    shutil.rmtree(pushed.inside / "d3")
    (pushed.inside / "d3").mkdir()
    (pushed.inside / "d3" / "again").write_text("3")
    os.truncate(pushed.inside / "d1" / "sub" / "f1", 1)
    with open(os.path.join(bytes(pushed.inside), b"not UTF-8 \xff\xfe"), "wb") as raw:
        raw.write(b"1234")
    pushed.assert_same("after the second changes")


@pytest.mark.parametrize("rounds", [5, pytest.param(150, marks=[pytest.mark.chaos, pytest.mark.timeout(1800)])])
def test_random_operations_end_as_the_tree(pushed: Pushed, rounds: int) -> None:
    seed = random.randrange(1 << 30)
    writer = UniqueNames(pushed.inside, pushed.outside, random.Random(seed))
    for round_number in range(rounds):
        for _ in range(40):
            writer.step()
        pushed.assert_same(f"seed {seed}, round {round_number}\n" + "\n".join(writer.log[-40:]))


def test_two_minutes_of_steady_writing_cost_no_heartbeat_and_no_change(pushed: Pushed) -> None:
    seed = random.randrange(1 << 30)
    writer = UniqueNames(pushed.inside / "d0", pushed.outside, random.Random(seed))  # "log" is no name of the writer's
    before = pushed.pipe()
    deadline = time.monotonic() + _STEADY_S
    while time.monotonic() < deadline:
        writer.step()
        with (pushed.inside / "log").open("a") as file:  # never older than the receiver's clock ticks
            file.write("a line\n")
        time.sleep(_PAUSE_S)  # what is tested is a writer that goes on for a time
    after = pushed.pipe()
    assert (after["session_id"], after["role"]) == (before["session_id"], "leader")
    assert [worker["restarts"] for worker in pushed.agent.status()["workers"]] == [0, 0, 0]
    pushed.assert_same(f"seed {seed}\n" + "\n".join(writer.log[-40:]))


@pytest.mark.parametrize("worker", ["p.pusher", "p.source"])
def test_a_killed_worker_costs_no_change(pushed: Pushed, worker: str) -> None:
    seed = random.randrange(1 << 30)
    writer = UniqueNames(pushed.inside, pushed.outside, random.Random(seed))
    with writer.at_work(pause_s=0.02):
        for _ in range(3):
            pid = pushed.agent.kill(worker, signal.SIGKILL)
            until(
                lambda pid=pid: pushed.agent.worker_pids().get(worker, pid) != pid, within_s=30, what=f"a new {worker}"
            )
    pushed.agent.wait_ready()
    pushed.assert_same(f"seed {seed}\n" + "\n".join(writer.log[-40:]))


def test_a_restarted_public_fusion_gets_a_new_session_and_all_of_the_tree(pushed: Pushed) -> None:
    before = pushed.pipe()["session_id"]
    shutil.rmtree(pushed.inside / "d7")
    pushed.fusion.stop()
    (pushed.inside / "d8").rename(pushed.inside / "while it was away")
    (pushed.inside / "d9" / "sub" / "f1").unlink()
    pushed.fusion.start()
    pushed.assert_same()
    pushed.agent.wait_ready()
    assert pushed.pipe()["session_id"] not in (None, before)
    (pushed.inside / "later").write_text("1")
    pushed.assert_same("after it came back")
