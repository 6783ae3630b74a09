from pathlib import Path

from fustor_agent.reload import ReloadOutcome, await_outcome, read_outcome, write_outcome


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
    before, after = ReloadOutcome(id=1, ok=True), ReloadOutcome(id=2, ok=True, changes=("pipe b is new",))
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
