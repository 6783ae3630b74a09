"""In which order workers stop; pure."""

from collections.abc import Iterable

from fustor_supervisor.specs import WorkerSpec


def choose_to_stop(alive: Iterable[WorkerSpec]) -> int | None:
    """Return the lowest rank that is alive, None without any; higher ranks serve it until it has stopped."""
    return min((spec.stop_rank for spec in alive), default=None)


def sum_graces(alive: Iterable[WorkerSpec]) -> float:
    """Return how long all ranks may take, one after the other, in seconds."""
    longest: dict[int, float] = {}
    for spec in alive:
        longest[spec.stop_rank] = max(longest.get(spec.stop_rank, 0.0), spec.stop_grace_s)
    return sum(longest.values())
