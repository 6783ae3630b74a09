import pytest
from hypothesis import given
from hypothesis import strategies as st

from fustor_supervisor.policy import Progress, count_failures, describe_stuck, is_stuck, next_delay
from fustor_supervisor.specs import RestartPolicy, StuckLimits

POLICY = RestartPolicy()
STEADY = RestartPolicy(jitter=0.0)
LIMITS = StuckLimits(start_s=30.0, owed_s=15.0)


@given(failures=st.integers(1, 10**9), luck=st.floats(0, 1, exclude_max=True))
def test_a_delay_never_passes_the_cap_by_more_than_the_jitter(failures: int, luck: float) -> None:
    assert 0 <= next_delay(failures, POLICY, lambda: luck) <= POLICY.cap_s * (1 + POLICY.jitter)


@given(failures=st.integers(1, 200))
def test_delays_never_shrink_from_one_failure_to_the_next(failures: int) -> None:
    assert next_delay(failures, STEADY, lambda: 0.5) <= next_delay(failures + 1, STEADY, lambda: 0.5)


def test_the_first_restart_is_immediate_and_the_next_ones_double_to_the_cap() -> None:
    delays = [next_delay(failures, STEADY, lambda: 0.0) for failures in range(1, 10)]
    assert delays == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_jitter_spreads_a_delay_both_ways() -> None:
    assert next_delay(2, POLICY, lambda: 0.0) == pytest.approx(0.2)
    assert next_delay(2, POLICY, lambda: 0.999999) == pytest.approx(0.3, rel=1e-4)


def test_failures_add_up_until_a_process_was_ready_for_long_enough() -> None:
    assert count_failures(3, None, POLICY) == 4
    assert count_failures(3, 9.9, POLICY) == 4
    assert count_failures(3, 10.0, POLICY) == 1


def test_a_worker_that_owes_nothing_is_never_stuck() -> None:
    assert not is_stuck(Progress(ready=True, moved_at=0.0), 1e9, LIMITS)


@pytest.mark.parametrize("debt", ["ping_owed_since", "command_owed_since", "work_owed_since"])
def test_a_worker_that_owes_and_does_not_move_is_stuck_after_the_limit(debt: str) -> None:
    progress = Progress(ready=True, moved_at=0.0, **{debt: 100.0})  # type: ignore[arg-type]  # a field's name
    assert not is_stuck(progress, 114.9, LIMITS)
    assert is_stuck(progress, 115.0, LIMITS)


@given(moved_at=st.floats(0, 1000), owed_since=st.floats(0, 1000), now=st.floats(0, 1100))
def test_a_worker_is_stuck_only_if_neither_debt_nor_movement_is_recent(
    moved_at: float, owed_since: float, now: float
) -> None:
    progress = Progress(ready=True, moved_at=moved_at, work_owed_since=owed_since)
    assert is_stuck(progress, now, LIMITS) == (now - owed_since >= 15.0 and now - moved_at >= 15.0)


def test_a_worker_that_starts_has_a_limit_of_its_own_and_may_move() -> None:
    assert is_stuck(Progress(ready=False, moved_at=0.0), 30.0, LIMITS)
    assert not is_stuck(Progress(ready=False, moved_at=1.0), 30.0, LIMITS)
    assert not is_stuck(Progress(ready=False, moved_at=1.0, ping_owed_since=1.0), 20.0, LIMITS)


def test_the_reason_says_what_is_owed() -> None:
    assert "ping" in (describe_stuck(Progress(ready=True, moved_at=0.0, ping_owed_since=0.0), 20.0, LIMITS) or "")
    assert "start" in (describe_stuck(Progress(ready=False, moved_at=0.0), 30.0, LIMITS) or "")
