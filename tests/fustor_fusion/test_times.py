import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fustor_fusion.times import to_ns, to_seconds

NOW_NS = 1_700_000_000_123_456_789


@pytest.mark.parametrize(("seconds", "time_ns"), [
    (0.0, 0), (-1.5, -1_500_000_000), (1_600_000_000.25, 1_600_000_000_250_000_000), (-0.25, -250_000_000),
    (2.0**33 + 0.5, (1 << 33) * 10**9 + 500_000_000)])
def test_seconds_are_whole_nanoseconds_and_back(seconds, time_ns):
    assert (to_ns(seconds), to_seconds(time_ns)) == (time_ns, seconds)


@given(st.floats(-9e9, 9e9))
def test_a_time_of_the_protocol_is_the_same_again(seconds):
    assert to_seconds(to_ns(seconds)) == pytest.approx(seconds, rel=0, abs=1e-9)
    if abs(seconds) >= 2**24:  # here floats are further apart than nanoseconds
        assert to_seconds(to_ns(seconds)) == seconds


@given(st.integers(-NOW_NS, 5 * NOW_NS))
def test_no_stored_time_is_shown_as_another_than_the_nearest_float(time_ns):
    found = to_seconds(time_ns)
    assert abs(to_ns(found) - time_ns) <= 10**9 * math.ulp(found) / 2 + 1


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, 1e300, -1e10])
def test_what_is_no_number_is_no_time(seconds):
    with pytest.raises((ValueError, OverflowError)):
        to_ns(seconds)
