"""Indices of an agent become times of Fusion's: in order, near, and never in the future."""

import itertools
import random

import msgspec
import pytest

from fustor_fusion.timeline import Mark, Timeline

MS, S = 10**6, 10**9
NEAR = 5 * MS


class Clocks:
    """
    An agent's clock and Fusion's.

    Args:
        seed: Decides what sending takes.
        error: By how much the agent's is wrong.
        drift: How many nanoseconds it gains in each second.
    """

    def __init__(self, seed: int, *, error: int, drift: int = 0) -> None:
        self.rng = random.Random(seed)
        self.timeline = Timeline()
        self.now = 1_000_000 * S
        self.error = error
        self.drift = drift
        self.placed: list[tuple[int, int, int]] = []
        """Index, the time when it was stamped, and the time that it was placed at."""

    def read(self) -> int:
        return self.now + self.error + (self.now // S - 1_000_000) * self.drift

    def push(self, *, looks: int = 3, delay: int | None = None) -> None:
        """Look, send, and have it arrive."""
        stamps: list[tuple[int, int]] = []
        for _ in range(looks):
            self.now += self.rng.randrange(1, 50 * MS)
            stamps.append((self.read(), self.now))
        self.now += self.rng.randrange(1 * MS)
        clock = self.read()
        self.now += self.rng.choice((0, MS, 5 * MS, 300 * MS)) if delay is None else delay
        timeline = self.timeline
        timeline.compare(clock, self.now, stamps[0][0])
        timeline.newest = max(timeline.newest, stamps[-1][0])
        self.placed += [(index, true, timeline.place(index)) for index, true in stamps]

    def check_order(self) -> None:
        by_index = sorted(self.placed)
        for (lower, _, before), (higher, _, after) in itertools.pairwise(by_index):
            assert before <= after
            assert before < after or higher - lower < 2

    def check_lasting(self) -> None:
        for index, _, time in self.placed[-100:]:
            assert self.timeline.place(index) == time, "the same index at another time"

    def get_worst(self, count: int) -> int:
        """Return how far the newest looks are placed from where they belong."""
        return max(abs(time - true) for _, true, time in self.placed[-count:])


@pytest.mark.parametrize("error", [0, 600 * S, -600 * S, -900_000 * S])
@pytest.mark.parametrize("seed", range(5))
def test_what_an_agent_saw_is_placed_near_the_time_when_it_saw_it(seed, error):
    clocks = Clocks(seed, error=error)
    for _ in range(300):
        clocks.push()
    clocks.check_order()
    clocks.check_lasting()
    assert clocks.get_worst(300) <= NEAR + MS


@pytest.mark.parametrize("drift", [100_000, -100_000])
def test_a_clock_that_drifts_is_followed(drift):
    clocks = Clocks(1, error=5 * S, drift=drift)
    for _ in range(2_000):
        clocks.now += 3 * S
        clocks.push()
    clocks.check_order()
    clocks.check_lasting()
    in_window = 64 * 4 * abs(drift)  # by so much the newest of the looks that are compared differs from the oldest
    assert clocks.get_worst(1_000) <= 2 * NEAR + in_window


@pytest.mark.parametrize("seed", range(20))
def test_restarts_with_clocks_that_were_set_keep_the_order_and_nothing_is_in_the_future(seed):
    clocks = Clocks(seed, error=0)
    for _ in range(40):
        for _ in range(clocks.rng.randrange(1, 40)):
            clocks.push(delay=0)
        assert clocks.get_worst(1) <= NEAR
        # The agent's index only grows; its clock may have been set while it was down.
        index = clocks.placed[-1][0]
        clocks.error = max(clocks.rng.choice((0, 3600 * S, -3600 * S)), index + 1 - clocks.now)
        clocks.now += clocks.rng.randrange(3 * S)
        clocks.timeline.begin()
        stored = msgspec.json.decode(msgspec.json.encode(clocks.timeline.marks), type=list[Mark])
        if clocks.rng.random() < 0.5:  # Fusion was restarted, too
            clocks.timeline = Timeline(stored, clocks.timeline.newest)
    clocks.check_order()
    clocks.check_lasting()
    assert all(time - true <= NEAR for _, true, time in clocks.placed), "in the future"


def test_a_clock_of_fusions_that_begins_anew_is_followed():
    clocks = Clocks(3, error=0)
    for _ in range(20):
        clocks.push(delay=0)
    clocks.timeline = Timeline(clocks.timeline.marks, clocks.timeline.newest)
    clocks.now += 3600 * S
    clocks.error = -3600 * S  # seen from Fusion, it is the agent's that is wrong now
    for _ in range(20):
        clocks.push(delay=0)
    clocks.check_order()
    assert clocks.get_worst(60) <= NEAR


@pytest.mark.parametrize("seed", range(50))
def test_an_index_keeps_its_time_whatever_is_found_later(seed):
    rng = random.Random(seed)
    timeline, now, error, newest = Timeline(), 1_000_000 * S, 0, 0
    placed: dict[int, int] = {}
    for _ in range(60):
        now += rng.randrange(1, 3 * S)
        if rng.random() < 0.1:
            error = rng.choice((0, 600 * S, -600 * S, rng.randrange(-5 * S, 5 * S)))
            timeline.begin()
        index = max(newest + 1, now + error)
        newest = index
        if rng.random() < 0.3:  # one that waited on another lane
            index -= rng.randrange(5 * S)
        timeline.compare(newest, now + rng.choice((0, 0, 300 * MS)), index)
        timeline.newest = max(timeline.newest, index)
        placed[index] = timeline.place(index)
        assert placed == {index: timeline.place(index) for index in placed}
    assert [time for _, time in sorted(placed.items())] == sorted(placed.values())


def test_what_comes_late_at_first_shows_no_error_of_a_clock_that_was_found_right_before():
    clocks = Clocks(3, error=600 * S)
    for _ in range(20):
        clocks.push(delay=0)
    clocks.timeline = Timeline(clocks.timeline.marks, clocks.timeline.newest, goes_on=True)
    clocks.push(delay=5 * S)
    clocks.push(delay=0)
    assert clocks.get_worst(6) <= NEAR


def test_what_was_stored_before_times_were_told_stays_in_order():
    timeline = Timeline([], newest=50 * S)
    assert timeline.place(50 * S) == 50 * S
    timeline.compare(60 * S, 1_000 * S, 55 * S)
    assert timeline.place(50 * S) == 50 * S
    assert timeline.place(60 * S) == 1_000 * S


def test_without_a_clock_an_index_is_a_time():
    assert Timeline().place(7) == 7


@pytest.mark.parametrize(("clock", "index"), [(1, (1 << 63) - 1), ((1 << 63) - 1, 1)])
def test_a_clock_that_says_nonsense_breaks_nothing(clock, index):
    timeline = Timeline()
    timeline.compare(clock, 1_000 * S, index)
    assert timeline.place(index) >= 0


def test_the_marks_do_not_grow_for_ever():
    clocks = Clocks(5, error=0)
    for _ in range(500):
        clocks.push(delay=0)
        clocks.error += S
        clocks.timeline.begin()
    assert len(clocks.timeline.marks) <= 64
    clocks.check_order()
