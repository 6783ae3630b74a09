from hypothesis import given
from hypothesis import strategies as st

from fustor_core.retry import Backoff, next_delay


def test_delays_double_up_to_the_cap() -> None:
    delays = [next_delay(failures, Backoff(), lambda: 0.5) for failures in range(1, 9)]
    assert delays == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_jitter_spreads_to_both_sides() -> None:
    low, high = (next_delay(3, Backoff(), rand) for rand in (lambda: 0.0, lambda: 1.0))
    assert (round(low, 9), round(high, 9)) == (0.8, 1.2)


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_no_number_of_failures_leads_beyond_the_cap(failures: int, random: float) -> None:
    backoff = Backoff()
    assert 0 < next_delay(failures, backoff, lambda: random) <= backoff.cap_s * (1 + backoff.jitter)
