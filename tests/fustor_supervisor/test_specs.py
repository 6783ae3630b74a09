import pytest

from fustor_supervisor.errors import InvalidPlan
from fustor_supervisor.loop import Supervisor
from fustor_supervisor.specs import LinkSpec, WorkerSpec, check_plan

A, B = (WorkerSpec(name, lambda runtime: None) for name in "ab")


def test_a_plan_that_fits_is_taken() -> None:
    check_plan([A, B], [LinkSpec("one", "a", "b"), LinkSpec("two", "b", "a")])
    check_plan([], [])


@pytest.mark.parametrize(
    ("workers", "links", "complaint"),
    [
        ([A, A], [], 'two workers are called "a"'),
        ([A, B], [LinkSpec("l", "a", "b"), LinkSpec("l", "b", "a")], 'two links are called "l"'),
        ([A, B], [LinkSpec("l", "a", "c")], 'no worker is called "c"'),
        ([A, B], [LinkSpec("l", "a", "a")], 'joins "a" with itself'),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused_and_changes_nothing(
    workers: list[WorkerSpec], links: list[LinkSpec], complaint: str
) -> None:
    supervisor = Supervisor(next_epoch=lambda: 1)
    supervisor.apply([B], [])
    with pytest.raises(InvalidPlan, match=complaint):
        supervisor.apply(workers, links)
    assert [worker.name for worker in supervisor.status().workers] == ["b"]
