from fustor_supervisor.shutdown import choose_to_stop, sum_graces
from fustor_supervisor.specs import WorkerSpec


def spec(rank: int, grace_s: float) -> WorkerSpec:
    return WorkerSpec(f"{rank}/{grace_s}", lambda runtime: None, stop_rank=rank, stop_grace_s=grace_s)


def test_the_lowest_rank_that_is_alive_stops_first() -> None:
    assert choose_to_stop([spec(3, 1.0), spec(-1, 1.0), spec(0, 1.0)]) == -1
    assert choose_to_stop([]) is None


def test_workers_of_a_rank_stop_side_by_side_and_ranks_one_after_the_other() -> None:
    assert sum_graces([spec(0, 1.0), spec(0, 5.0), spec(2, 3.0)]) == 8.0
    assert sum_graces([]) == 0.0
