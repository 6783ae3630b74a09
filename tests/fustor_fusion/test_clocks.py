"""Agents whose clocks are wrong are believed about what they saw, when they saw it."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from fustor_event_model import DeleteEvent, FsItem, FsPath, MessageSource

S = 10**9
NEAR = 5 * 10**6
SKEWS = [(600, 0), (0, 600), (-600, 0), (0, -600), (86_400 * 365 * 20, -86_400)]


class Skewed:
    """An agent whose clock is wrong by so many seconds."""

    def __init__(self, fusion: Any, make: Any, skew_s: int, *, name: str = "agent") -> None:
        self.make = make
        self.skew_ns = skew_s * S
        began = self.read()
        self.agent = make.agent(fusion, name=name, clock=began)
        self.unknown_ns = self.read() - began
        """The longest that a request took: its clock is known at least as exactly as that."""
        assert self.agent.beat().ok
        for _ in range(5):  # by the one that takes least Fusion knows the difference best
            self._push()

    def read(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 1_700_000_000 * S + self.skew_ns

    def see(self, *names: bytes) -> None:
        """Say of names that they are there."""
        rows = [self.make.row(name) for name in names]
        self._say(lambda index: self.make.update(index, b"/", rows))

    def miss(self, name: bytes) -> None:
        """Say of a name that it is not there."""
        self._say(lambda index: DeleteEvent(index=index, message_source=MessageSource.REALTIME, event_schema="fs",
                                            table="files", rows=[FsPath(b"/" + name)]))

    def snapshot(self, *names: bytes) -> None:
        """Say of names that nothing else is there."""
        index = self.read()
        rows = [self.make.row(name) for name in names]
        update = self.make.update(index, b"/", rows, MessageSource.SNAPSHOT)
        assert self.agent.snapshot(update, self.make.listed(index, b"/"), clock=self.read()).ok

    def _say(self, tell: Callable[[int], FsItem]) -> None:
        self._push(tell(self.read()))

    def _push(self, *items: FsItem) -> None:
        began = self.read()
        assert self.agent.push(*items, clock=began).ok
        self.unknown_ns = max(self.unknown_ns, self.read() - began)


@pytest.fixture(params=SKEWS, ids=str)
def pair(request, fusion, make) -> list[Skewed]:
    return [Skewed(fusion, make, skew_s, name=f"agent-{number}")
            for number, skew_s in enumerate(request.param)]


def let_time_pass(*agents: Skewed) -> None:
    """Let what they see next be later than what they saw, however inexactly their clocks are known."""
    time.sleep((sum(agent.unknown_ns for agent in agents) + 2 * NEAR) / S)


def list_names(fusion) -> set[str]:
    return {child["name"] for child in fusion.get("p/tree").json()["children"]}


def test_what_vanished_between_two_agents_is_gone(fusion, pair):
    leader, follower = pair
    leader.snapshot(b"stays", b"goes")
    leader.see(b"goes")
    assert list_names(fusion) == {"stays", "goes"}
    let_time_pass(*pair)
    fusion.agent.delete(f"{fusion.base}/pipe/session/{leader.agent.id}")
    follower.snapshot(b"stays")
    assert list_names(fusion) == {"stays"}


def test_what_one_misses_is_gone_and_what_the_other_sees_after_is_there(fusion, pair):
    leader, follower = pair
    leader.snapshot(b"a", b"b")
    for first, second in ((leader, follower), (follower, leader), (leader, follower)):
        let_time_pass(*pair)
        first.see(b"a", b"b")
        let_time_pass(*pair)
        second.miss(b"a")
        assert list_names(fusion) == {"b"}
        let_time_pass(*pair)
        first.see(b"a")
        assert list_names(fusion) == {"a", "b"}


def test_the_order_of_one_agents_own_looks_is_kept_when_its_clock_is_set_between_two_starts(fusion, make):
    agent = Skewed(fusion, make, 0)
    late = agent.read()
    agent.see(b"a")
    agent.skew_ns += 3600 * S
    agent.agent.seq = 0
    index = agent.read()
    agent.agent.push(make.update(index, b"/", [make.row(b"a", size=9)]), epoch=2, clock=agent.read())
    agent.agent.push(make.update(late, b"/", [make.row(b"a", size=1)]), epoch=2, clock=agent.read())
    assert fusion.get("p/tree", path="/a").json()["size"] == 9


@pytest.mark.parametrize("restarts", [False, True])
def test_a_push_that_comes_late_after_a_refusal_or_a_restart_of_fusion_shows_no_error_of_a_clock(
        tmp_path, make, restarts):
    fusion = make.fusion(make.config(tmp_path))
    leader, follower = [Skewed(fusion, make, skew_s, name=name) for name, skew_s in (("a", 0), ("b", -600))]
    leader.snapshot(b"a")
    old = make.update(follower.read() - 120 * S, b"/", [make.row(b"a")])
    assert follower.agent.push(old, clock=follower.read()).ok
    assert follower.agent.push(make.listed(1, b"/"), lane="snapshot").status_code == 409
    if restarts:
        fusion.stop()
        fusion = leader.agent.fusion = follower.agent.fusion = make.fusion(make.config(tmp_path))
    try:
        leader.miss(b"a")
        sent = follower.read() - 60 * S
        assert follower.agent.push(make.update(sent, b"/", [make.row(b"a")]), clock=sent).ok
        assert list_names(fusion) == set()
    finally:
        fusion.stop()


@pytest.mark.parametrize("skew_s", [0, 600, -600, -86_400 * 365 * 20])
def test_how_far_the_view_is_behind_is_told_whatever_the_agents_clock_says(fusion, make, skew_s):
    agent = Skewed(fusion, make, skew_s)
    agent.see(b"a")
    assert 0 <= fusion.get("p/stats").json()["lag_s"] < 60


@pytest.mark.parametrize("clock", ["-1", "x", str(1 << 63)])
def test_a_clock_that_is_no_index_is_refused(fusion, make, clock):
    answer = make.agent(fusion).push(clock=clock)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"clock='{clock}'")


HIGHEST = (1 << 63) - 1


@pytest.mark.parametrize(("clock", "index"), [
    (0, HIGHEST), (1, HIGHEST), (10**18, HIGHEST - 1), (HIGHEST, HIGHEST), (HIGHEST, 1), (1, 1), (0, 1)])
def test_an_agent_whose_index_is_nonsense_spoils_no_other(tmp_path, make, clock, index):
    fusion = make.fusion(make.config(tmp_path))
    agent = make.agent(fusion, name="spoiler", clock=clock)
    gone = DeleteEvent(index=index, message_source=MessageSource.REALTIME, event_schema="fs", table="files",
                       rows=[FsPath(b"/gone")])
    assert agent.push(make.update(index, b"/", [make.row(b"a")]), gone, clock=clock).ok
    fusion.stop()
    fusion = agent.fusion = make.fusion(make.config(tmp_path))
    try:
        good = Skewed(fusion, make, 0, name="good")
        good.see(b"a", b"b")
        good.miss(b"a")
        assert agent.push(make.update(index, b"/", [make.row(b"c")]), clock=clock).ok
        row = {"path": "/d", "size": 1, "modified_time": 1.0, "is_directory": False}
        event = {"event_type": "update", "event_schema": "fs", "table": "files", "message_source": "realtime",
                 "fields": [], "index": 1, "rows": [row]}
        session_id = fusion.post("session/", {"task_id": "public:p"}).json()["session_id"]
        assert fusion.post(f"ingest/{session_id}/events", {"events": [event], "source_type": "realtime"}).ok
        assert list_names(fusion) == {"b", "c", "d"}
    finally:
        fusion.stop()
