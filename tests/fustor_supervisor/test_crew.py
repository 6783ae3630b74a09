import itertools

from hypothesis import given
from hypothesis import strategies as st

from fustor_supervisor.crew import find_runs


@given(st.sets(st.integers(0, 50)))
def test_runs_hold_every_number_once_and_none_touches_the_next(numbers: set[int]) -> None:
    runs = list(find_runs(numbers))
    assert [number for first, last in runs for number in range(first, last + 1)] == sorted(numbers)
    assert all(earlier[1] + 1 < later[0] for earlier, later in itertools.pairwise(runs))
