from pathlib import Path

import msgspec
import pytest

from fustor_supervisor.status import Publisher, SupervisorStatus, WorkerStatus, format_utc

STATUS = SupervisorStatus(1, "running", "now", 0.0, [WorkerStatus("a", "running", True, detail=b"\xff")])


def test_a_status_survives_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(STATUS), type=SupervisorStatus) == STATUS


def test_what_is_published_stands_in_the_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text("old and longer than the new one")
    assert Publisher(lambda status: b"new", path).publish(STATUS) == b"new"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_is_logged_once_until_it_works_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "later"
    publisher = Publisher(lambda status: b"x", folder / "status.json")
    assert publisher.publish(STATUS) == b"x", "workers are shown it all the same"
    assert publisher.publish(STATUS) == b"x"
    assert len(caplog.records) == 1
    folder.mkdir()
    assert publisher.publish(STATUS) == b"x"
    (folder / "status.json").unlink()
    folder.rmdir()
    assert publisher.publish(STATUS) == b"x"
    assert len(caplog.records) == 2


def test_a_status_that_cannot_be_rendered_is_logged_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    publisher = Publisher(lambda status: status.nonsense, None)  # type: ignore[attr-defined]  # that is the fault
    assert [publisher.publish(STATUS) for _ in range(2)] == [None, None]
    assert len(caplog.records) == 1


def test_times_are_utc_to_the_millisecond() -> None:
    assert format_utc(0.0) == "1970-01-01T00:00:00.000Z"
    assert format_utc(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
