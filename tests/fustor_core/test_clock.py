from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fustor_core.clock import IndexClock, choose_seed


@given(st.lists(st.integers(0, 10**12), min_size=1), st.integers(-(10**18), 10**18))
def test_stamps_grow_strictly_whatever_the_clock_does(readings: list[int], seed: int) -> None:
    todo = iter(readings)
    clock = IndexClock(seed, clock_ns=lambda: next(todo))
    stamps = [clock.stamp() for _ in readings]
    assert all(earlier < later for earlier, later in pairwise(stamps))


def test_a_stamp_is_seed_and_clock() -> None:
    assert IndexClock(100, clock_ns=lambda: 7).stamp() == 107


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_seed_puts_every_stamp_at_or_above_the_reserve_and_the_wall(wall: int, boot: int, reserve: int) -> None:
    stamp = IndexClock(choose_seed(wall_ns=wall, boottime_ns=boot, reserve_ns=reserve), clock_ns=lambda: boot).stamp()
    assert stamp == max(wall, reserve, 1)
