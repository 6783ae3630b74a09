from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fustor_supervisor.policy import Progress, count_failures, describe_stuck, give_time, is_stuck, judge, next_delay
from fustor_supervisor.specs import RestartPolicy, StuckLimits

POLICY = RestartPolicy()
STEADY = RestartPolicy(jitter=0.0)
TIME = st.floats(0, 100)
LIMITS = StuckLimits(start_s=30.0, answer_s=15.0, owed_s=15.0, phases={"snapshot": 60.0})


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


def test_each_phase_may_have_a_limit_of_its_own_for_work_but_not_for_answers() -> None:
    progress = Progress(ready=True, moved_at=0.0, work_owed_since=0.0, phase="snapshot")
    assert not is_stuck(progress, 59.9, LIMITS)
    assert is_stuck(progress, 60.0, LIMITS)
    assert is_stuck(replace(progress, phase="realtime"), 15.0, LIMITS)
    assert is_stuck(replace(progress, ping_owed_since=0.0), 15.0, LIMITS)


def test_patience_goes_before_a_shorter_limit_of_work_and_of_nothing_else() -> None:
    owing = Progress(ready=True, moved_at=0.0, work_owed_since=0.0)
    assert [judge(replace(owing, patience_s=s), LIMITS) for s in (0.0, 14.0)] == [judge(owing, LIMITS)] * 2
    patient = judge(replace(owing, patience_s=40.0), LIMITS)
    assert patient is not None
    assert patient.at == 40.0
    asked = Progress(ready=True, moved_at=0.0, ping_owed_since=0.0, command_owed_since=0.0)
    assert judge(replace(asked, patience_s=40.0), LIMITS) == judge(asked, LIMITS)


@given(ready=st.booleans(), moved_at=TIME, ping=st.none() | TIME, work=st.none() | TIME)
def test_a_worker_is_stuck_exactly_from_the_time_of_the_verdict_on(
    ready: bool, moved_at: float, ping: float | None, work: float | None
) -> None:
    progress = Progress(ready=ready, moved_at=moved_at, ping_owed_since=ping, work_owed_since=work)
    verdict = judge(progress, LIMITS)
    if verdict is None:
        assert ready
        assert ping is work is None
    else:
        assert is_stuck(progress, verdict.at, LIMITS)
        assert not is_stuck(progress, verdict.at - 0.001, LIMITS)


def test_a_worker_that_failed_to_start_is_given_more_time_up_to_eight_times_as_much() -> None:
    assert [give_time(LIMITS, failures).start_s for failures in (0, 1, 2, 3, 4, 10**6)] == [30, 60, 120, 240, 240, 240]
    assert replace(give_time(LIMITS, 5), start_s=30.0) == LIMITS


def test_the_reason_says_what_is_owed() -> None:
    assert "ping" in (describe_stuck(Progress(ready=True, moved_at=0.0, ping_owed_since=0.0), 20.0, LIMITS) or "")
    assert "start" in (describe_stuck(Progress(ready=False, moved_at=0.0), 30.0, LIMITS) or "")
