"""Later arrivals have higher times, whatever the wall clock does."""

import random

import pytest

from fustor_fusion.arrival import ArrivalClock

HOUR = 3600 * 10**9


class Clocks:
    def __init__(self) -> None:
        self.wall, self.boottime = 1_000 * HOUR, 5

    def make(self, newest: int = 0, kept: str = "", boot_id: str = "one") -> ArrivalClock:
        return ArrivalClock(newest, kept, boot_id=boot_id, wall=lambda: self.wall, boottime=lambda: self.boottime)

    def pass_by(self, time_ns: int) -> None:
        self.wall += time_ns
        self.boottime += time_ns


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_it_says_the_wall_clocks_time(clocks):
    clock = clocks.make()
    clocks.pass_by(7)
    assert clock.read() == clock.stamp() == clocks.wall


def test_stamps_of_one_moment_differ(clocks):
    clock = clocks.make()
    assert [clock.stamp() - clocks.wall for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_wall_clock_that_is_set_is_not_followed(clocks, step):
    clock = clocks.make()
    before = clock.stamp()
    clocks.wall += step
    clocks.pass_by(9)
    assert clock.stamp() == before + 9


def test_a_start_with_a_wall_clock_that_was_set_back_goes_on_behind_what_came_before(clocks):
    clock = clocks.make(newest=clocks.wall + HOUR)
    assert clock.stamp() == clocks.wall + HOUR + 1
    clocks.pass_by(9)
    assert clock.stamp() == clocks.wall + HOUR


@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_wall_clock_does_it_goes_as_time_passes(clocks, seed):
    rng, clock = random.Random(seed), clocks.make()
    seen, last = clock.read(), clock.stamp()
    for _ in range(200):
        passed = rng.randrange(5)
        clocks.pass_by(passed)
        clocks.wall += rng.choice((0, 0, HOUR, -HOUR))
        assert clock.read() == seen + passed
        seen = clock.read()
        stamp = clock.stamp()
        assert stamp > last
        last = stamp


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_another_process_goes_on_with_it_in_the_same_boot_and_begins_anew_in_another(clocks, step):
    kept = clocks.make().state
    before = clocks.wall
    clocks.wall += step
    clocks.pass_by(9)
    same = clocks.make(newest=before, kept=kept)
    assert same.state == kept
    assert same.read() == before + 9
    other = clocks.make(newest=before, kept=kept, boot_id="two")
    assert other.state != kept
    assert other.read() == max(before, clocks.wall)


@pytest.mark.parametrize("boot_id", ["", "one"])
def test_what_cannot_be_the_same_clock_is_not_gone_on_with(clocks, boot_id):
    kept = clocks.make(boot_id=boot_id).state
    newest = clocks.wall + HOUR * bool(boot_id)
    clock = clocks.make(newest=newest, kept=kept, boot_id=boot_id)
    assert clock.read() == newest
