"""What files' times mean by Fusion's clock is found among times that mean nothing."""

import random

import pytest

from fustor_fusion.skew import Skew

S, MINUTE, YEAR = 10**9, 60 * 10**9, 365 * 86_400 * 10**9


@pytest.mark.parametrize("skew", [0, 10 * MINUTE, -10 * MINUTE])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_found_among_old_and_future_times(seed, skew):
    rng, found = random.Random(seed), Skew()
    for _ in range(200):
        found.note(skew + rng.randrange(S // 2))
        found.note(skew + rng.choice((MINUTE, YEAR)) + rng.randrange(100 * MINUTE))
        if rng.random() < 0.1:
            found.note(skew - YEAR)
    found.settle()
    assert found.ns == skew


def test_restored_files_alone_say_nothing():
    found = Skew()
    for _ in range(50):
        found.note(20 * YEAR)
    found.settle()
    assert found.ns == 0


def test_one_time_in_the_future_says_nothing():
    found = Skew()
    found.note(-5 * MINUTE)
    for _ in range(3):
        found.note(S // 2)
    found.settle()
    assert found.ns == 0


def test_a_clock_that_was_set_is_followed_and_what_was_found_is_kept_till_then():
    found = Skew(7 * S)
    found.note(S)
    found.settle()
    assert found.ns == 7 * S
    for skew in (-MINUTE, MINUTE):
        for _ in range(1_000):
            found.note(skew)
        found.settle()
        assert found.ns == skew
