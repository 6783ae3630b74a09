"""Two agents on one tree and one standalone Fusion: one leads, one follows, and whoever goes, the view ends exact."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faketime import StepClock, find_faketime
from released import NotInstallable

from agent import AgentUnderTest
from configfile import write_config
from fusion import FusionUnderTest
from oracle import differences, walk
from proxy import RecordingProxy, read_lane
from scripted import Request
from treeops import RandomTree
from waiting import until

_TIMEOUT_S = 4
_WITHIN_S = 60.0
_OF_LEADERS = {"snapshot", "audit"}


class Pair:
    """A tree, a standalone Fusion, and two agents, each behind a proxy that records what it sends."""

    def __init__(self, tmp_path: Path, start: Callable[..., AgentUnderTest], fusion: FusionUnderTest) -> None:
        self.inside, self.outside = tmp_path / "in", tmp_path / "out"
        self.outside.mkdir()
        for number in range(20):
            below = self.inside / f"d{number}" / "sub"
            below.mkdir(parents=True)
            for name in range(10):
                (below / f"f{name}").write_text("x" * name)
        self.fusion = fusion
        self.proxies = [RecordingProxy(fusion.port), RecordingProxy(fusion.port)]
        self._tmp_path = tmp_path
        self._start = start
        self.agents: list[AgentUnderTest] = []

    def start(self) -> None:
        """Start both; the first leads, the second follows and sees changes."""
        self.start_one()
        until(lambda: self.roles() == [("leader", True)], within_s=_WITHIN_S, what="the leader")
        until(lambda: self.fusion.ask("stats")["current"], within_s=_WITHIN_S, what="the snapshot")
        self.start_one()
        wanted = [("leader", True), ("follower", True)]
        until(lambda: self.roles() == wanted, within_s=_WITHIN_S, what="the follower")

    def start_one(self, **options: object) -> AgentUnderTest:
        number = len(self.agents)
        config = write_config(
            self._tmp_path / f"agent-{number}.yaml",
            sources={"tree": ("fs", {"uri": str(self.inside)})},
            senders={
                "fusion": (
                    "fusion",
                    {
                        "endpoint": self.proxies[number].endpoint,
                        "credential": self.fusion.agent_key,
                        "session_timeout_s": _TIMEOUT_S,
                    },
                )
            },
            pipes={"p": ("tree", "fusion")},
        )
        self.agents.append(self._start(config=config, **options))
        return self.agents[-1]

    def roles(self) -> list[tuple[str, bool]]:
        """Return role and whether it sees changes of each session, oldest first."""
        return [(one["role"], one["can_realtime"]) for one in self.fusion.sessions()]

    def wait_leader(self, number: int) -> None:
        """Wait until one of the agents leads and its snapshot is complete."""
        proxy = self.proxies[number]

        def leads() -> bool:
            stats = self.fusion.ask("stats")
            leader = next((one["session_id"] for one in self.fusion.sessions() if one["role"] == "leader"), None)
            return bool(stats["current"] and leader and "snapshot" in proxy.list_lanes(leader))

        until(leads, within_s=_WITHIN_S, what=f"agent {number} to lead")

    def assert_exact(self, what: str = "") -> None:
        """Compare the view, after a sync, with the tree; nobody may be writing."""
        found = differences(walk(bytes(self.inside)), self.fusion.export())
        assert not found, f"{what}\n" + "\n".join(found)

    @contextmanager
    def writing(self) -> Iterator[RandomTree]:
        """Change the tree for the time of a `with` block; at its end the view is compared with the tree."""
        seed = random.randrange(1 << 30)
        writer = RandomTree(self.inside, self.outside, random.Random(seed))
        with writer.at_work(pause_s=0.005):  # steady, not as fast as can be: what is tested is the change of roles
            yield writer
        self.assert_exact(f"seed {seed}\n" + "\n".join(writer.log[-40:]))


@pytest.fixture
def pair(tmp_path: Path, start_agent: Callable[..., AgentUnderTest]) -> Iterator[Pair]:
    fusion = FusionUnderTest(tmp_path / "fusion").start()
    pair = Pair(tmp_path, start_agent, fusion)
    yield pair
    for agent in pair.agents:
        agent.stop()
    for proxy in pair.proxies:
        proxy.stop()
    fusion.stop()


def _proves_life(request: Request) -> bool:
    return "/heartbeat" in request.path or "/commands" in request.path


def _opens_session(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("/session/")


def _has_console(agent: AgentUnderTest) -> bool:
    try:
        return bool(agent.status())
    except OSError:
        return False


def _is_snapshot_batch(request: Request) -> bool:
    return read_lane(request) == "snapshot"


def test_a_follower_sends_changes_and_nothing_that_only_a_leader_may(pair: Pair) -> None:
    pair.start()
    with pair.writing() as writer:
        until(lambda: len(writer.log) > 300, within_s=_WITHIN_S, what="some changes")
        pair.agents[1].command("pipe", "snapshot", "p")
        pair.agents[1].command("pipe", "audit", "p")
        until(lambda: len(writer.log) > 600, within_s=_WITHIN_S, what="more changes")
    lanes = pair.proxies[1].list_lanes()
    assert "realtime" in lanes
    assert not _OF_LEADERS & set(lanes)
    assert [role for role, _ in pair.roles()] == ["leader", "follower"]


def test_a_leader_that_is_killed_while_the_tree_changes_is_followed_within_its_time_out(pair: Pair) -> None:
    pair.start()
    with pair.writing() as writer:
        until(lambda: len(writer.log) > 100, within_s=_WITHIN_S, what="some changes")
        pair.agents[0].crash()
        # A moment more than the time-out: the questions of the test take time too.
        until(lambda: pair.roles() == [("leader", True)], within_s=_TIMEOUT_S + 5, what="the follower to lead")
        pair.wait_leader(1)
        seen = len(writer.log)
        until(lambda: len(writer.log) > seen + 100, within_s=_WITHIN_S, what="changes under the new leader")
    assert "snapshot" in pair.proxies[1].list_lanes()


@pytest.mark.parametrize("ahead", [0, 1], ids=["the first is ahead", "the second is ahead"])
def test_agents_whose_clocks_are_ten_minutes_apart_agree(pair: Pair, tmp_path: Path, ahead: int) -> None:
    try:
        clock = StepClock(find_faketime(), tmp_path / "offset")
    except NotInstallable as err:
        pytest.skip(str(err))
    clock.step_to(600)
    skewed = [{"env": clock.environment} if number == ahead else {} for number in range(2)]
    pair.start_one(**skewed[0])
    until(lambda: pair.fusion.ask("stats")["current"], within_s=_WITHIN_S, what="the snapshot")
    (pair.inside / "d1" / "sub" / "f1").write_text("seen by the first")
    pair.assert_exact("the first alone")
    pair.agents[0].crash()
    until(lambda: not pair.roles(), within_s=_TIMEOUT_S + 5, what="the end of the session")
    for name in ("d1/sub/f1", "d2/sub/f2"):
        (pair.inside / name).unlink()  # while nobody looks
    pair.start_one(**skewed[1])
    pair.wait_leader(1)
    pair.assert_exact("the second alone")
    pair.agents[0].start()
    until(lambda: pair.roles() == [("leader", True), ("follower", True)], within_s=_WITHIN_S, what="both")
    with pair.writing() as writer:
        until(lambda: len(writer.log) > 300, within_s=_WITHIN_S, what="changes that both see")


def test_what_a_killed_leader_had_not_pushed_is_in_the_view_all_the_same(pair: Pair) -> None:
    pair.start()
    pair.proxies[0].fail(lambda request: "/batch" in request.path, 503, times=1 << 30)
    with pair.writing() as writer:
        until(lambda: len(writer.log) > 200, within_s=_WITHIN_S, what="changes that the leader cannot push")
        pair.agents[0].crash()
        pair.wait_leader(1)


def test_a_leader_that_stops_gives_the_lead_away_at_once_and_follows_when_it_is_back(pair: Pair) -> None:
    pair.start()
    with pair.writing():
        pair.agents[0].stop()
        pair.wait_leader(1)
        before = len(pair.proxies[0].list_lanes())
        pair.agents[0].start()
        until(lambda: pair.roles() == [("leader", True), ("follower", True)], within_s=_WITHIN_S, what="both agents")
    assert not _OF_LEADERS & set(pair.proxies[0].list_lanes()[before:])


def test_a_leader_whose_heartbeats_are_lost_follows_under_a_new_session_and_sends_no_snapshot(pair: Pair) -> None:
    pair.start()
    old = pair.fusion.sessions()[0]["session_id"]
    with pair.writing():
        pair.proxies[0].fail(_proves_life, 503, times=1 << 30)
        pair.wait_leader(1)
        pair.proxies[0].pass_all()
        until(lambda: pair.roles() == [("leader", True), ("follower", True)], within_s=_WITHIN_S, what="both agents")
    follower = pair.fusion.sessions()[1]["session_id"]
    assert follower != old
    assert not _OF_LEADERS & set(pair.proxies[0].list_lanes(follower))


def test_a_session_that_ends_in_the_middle_of_a_snapshot_costs_nothing_but_time(pair: Pair) -> None:
    for number in range(8_000):
        (pair.inside / f"d{number % 20}" / f"n{number}").touch()
    passed = iter([True, True])  # the batches before the one that is refused
    pair.proxies[0].fail(lambda request: _is_snapshot_batch(request) and not next(passed, False), 419, times=1)
    pair.start_one()
    pair.wait_leader(0)
    lanes = [status for request, status in pair.proxies[0].answers if _is_snapshot_batch(request)]
    assert 419 in lanes
    pair.assert_exact()


def test_a_pusher_that_never_learnt_of_its_session_leads_by_it_all_the_same(pair: Pair) -> None:
    proxy = pair.proxies[0]
    proxy.lose_answers(_opens_session, times=2)
    agent = pair.start_one()
    opened = until(pair.fusion.sessions, within_s=_WITHIN_S, what="a session")
    until(lambda: _has_console(agent), within_s=_WITHIN_S, what="the console")
    agent.kill("p.pusher")
    pair.wait_leader(0)
    assert [status for request, status in proxy.answers if _opens_session(request)][:2] == [0, 0]
    ids = [[one["session_id"] for one in sessions] for sessions in (opened, pair.fusion.sessions())]
    assert ids[0] == ids[1], "it followed its own ghost"
    pair.assert_exact()


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_agents_that_are_killed_in_turn_leave_the_view_exact(pair: Pair) -> None:
    pair.start()
    for number in range(12):
        dying = number % 2
        with pair.writing() as writer:
            until(lambda writer=writer: len(writer.log) > 200, within_s=_WITHIN_S, what="some changes")
            pair.agents[dying].crash()
            pair.wait_leader(1 - dying)
            pair.agents[dying].start()
            wanted = [("leader", True), ("follower", True)]
            until(lambda wanted=wanted: pair.roles() == wanted, within_s=_WITHIN_S, what="both agents")
