"""Work goes on at the rate that was asked for."""

import pytest

from fustor_source_fs.pace import BURST_S, Pace


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_without_a_rate_there_is_no_pause():
    pace = Pace(0, Clock())
    pace.spend(10**9)
    assert pace.get_pause_s() == 0


def test_a_burst_goes_through_and_what_is_more_is_waited_for():
    clock = Clock()
    pace = Pace(1000, clock)
    pace.spend(int(1000 * BURST_S))
    assert pace.get_pause_s() == 0
    pace.spend(50)
    assert pace.get_pause_s() == pytest.approx(BURST_S + 0.05)
    clock.now_s += BURST_S
    assert pace.get_pause_s() == pytest.approx(0.05), "a pause that has begun lasts until all is paid"
    clock.now_s += 0.06
    assert pace.get_pause_s() == 0


def test_time_in_which_nothing_was_done_is_not_saved_up():
    clock = Clock()
    pace = Pace(10, clock)
    clock.now_s += 3600
    pace.spend(20)
    assert pace.get_pause_s() == pytest.approx(2)


def test_a_share_of_the_rate_makes_pauses_longer_while_it_lasts():
    clock, share = Clock(), [0.25]
    pace = Pace(1000, clock, get_share=lambda: share[0])
    pace.spend(500)
    assert pace.get_pause_s() == pytest.approx(2)
    clock.now_s += 2
    share[0] = 1.0
    pace.spend(500)
    assert pace.get_pause_s() == pytest.approx(0.5)


@pytest.mark.parametrize("piece", [1, 7, 1000, 5000])
def test_over_a_long_time_the_rate_is_kept_whatever_the_pieces(piece):
    clock = Clock()
    pace = Pace(20_000, clock)
    done = 0
    while done < 500_000:
        pace.spend(piece)
        done += piece
        clock.now_s += pace.get_pause_s()
    assert done / 20_000 - BURST_S - piece / 20_000 <= clock.now_s - 100 <= done / 20_000 + 1e-6
