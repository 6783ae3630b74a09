from pathlib import Path

import pytest

from fustor_agent.reload import (
    Change,
    ReloadOutcome,
    await_outcome,
    describe_result,
    read_outcome,
    write_outcome,
)
from fustor_agent.statusmodel import WorkerInfo


def test_an_outcome_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "reload.json"
    outcome = ReloadOutcome(id=3, ok=False, changes=(), problems=("a: b",))
    write_outcome(path, outcome)
    assert read_outcome(path) == outcome


def test_no_file_and_a_damaged_file_are_no_outcome(tmp_path: Path) -> None:
    path = tmp_path / "reload.json"
    assert read_outcome(path) is None
    path.write_text('{"id": 1, "ok"')
    assert read_outcome(path) is None


def test_waiting_passes_over_the_outcome_of_an_earlier_reload(tmp_path: Path) -> None:
    path = tmp_path / "reload.json"
    before, after = ReloadOutcome(id=1, ok=True), ReloadOutcome(id=2, ok=True, changes=(Change("start", "b.source"),))
    write_outcome(path, before)
    looks = 0

    def is_over(seconds: float) -> bool:
        nonlocal looks
        looks += 1
        write_outcome(path, after)
        return False

    assert await_outcome(path, after=before, is_over=is_over, timeout_s=60) == after
    assert looks == 1


def test_waiting_ends_with_the_agent(tmp_path: Path) -> None:
    assert await_outcome(tmp_path / "reload.json", after=None, is_over=lambda seconds: True, timeout_s=60) is None


def test_waiting_ends_with_its_time(tmp_path: Path) -> None:
    assert await_outcome(tmp_path / "reload.json", after=None, is_over=lambda seconds: False, timeout_s=0) is None


def test_an_outcome_says_what_differs_what_follows_and_what_is_wrong() -> None:
    change = Change("restart", "a.source", 3)
    outcome = ReloadOutcome(id=1, ok=True, differences=("sources[a].config.uri: changed",), changes=(change,))
    assert outcome.lines == ("sources[a].config.uri: changed", "restart a.source")
    assert ReloadOutcome(id=1, ok=True).lines == ("nothing changes",)
    assert ReloadOutcome(id=1, ok=False, problems=("it is wrong",)).lines == ("it is wrong",)


@pytest.mark.parametrize(
    ("action", "state", "generation", "expected"),
    [
        ("restart", "running", 3, None),  # still the old one
        ("restart", "stopping", 3, None),
        ("restart", "starting", 4, None),
        ("restart", "running", 4, "a.source is running, pid 7"),
        ("restart", "backoff", 4, "a.source is in backoff: no such directory"),
        ("restart", "stopped", 3, "a.source is stopped"),
        ("start", "running", 1, None),
        ("start", "running", 4, "a.source is running, pid 7"),
        ("stop", "stopping", 3, None),
        ("stop", "running", 3, None),
    ],
)
def test_a_change_is_told_when_its_worker_has_settled_in_a_new_process(
    action: str, state: str, generation: int, expected: str | None
) -> None:
    worker = WorkerInfo(
        "a.source", "source", "a", 7, state, 0, 1.0, generation=generation, last_error="no such directory"
    )
    assert describe_result(Change(action, "a.source", 3), [worker]) == expected


def test_a_stopped_worker_is_gone_and_a_started_one_is_waited_for() -> None:
    assert describe_result(Change("stop", "a.source", 3), []) == "a.source is gone"
    assert describe_result(Change("start", "a.source"), []) is None
