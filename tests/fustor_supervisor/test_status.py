from pathlib import Path

import msgspec
import pytest

from fustor_supervisor.status import (
    CHANGED_EVERY_S,
    Publisher,
    SupervisorStatus,
    WorkerStatus,
    format_utc,
)

STATUS = SupervisorStatus(1, "running", "now", 0.0, [WorkerStatus("a", "running", True, detail=b"\xff")])


def test_a_status_survives_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(STATUS), type=SupervisorStatus) == STATUS


def test_what_is_published_stands_in_the_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text("old and longer than the new one")
    assert Publisher(lambda status: b"new", path).publish(STATUS, 0.0) == b"new"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_changes_wait_until_the_last_publication_is_old_enough() -> None:
    publisher = Publisher(lambda status: b"", None)
    assert publisher.next_at(10.0) == 10.0
    publisher.publish(STATUS, 10.0)
    assert publisher.next_at(10.1) == 10.0 + CHANGED_EVERY_S
    assert publisher.next_at(20.0) == 20.0


def test_a_failure_is_logged_once_until_it_works_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "later"
    publisher = Publisher(lambda status: b"x", folder / "status.json")
    assert publisher.publish(STATUS, 0.0) == b"x", "workers are shown it all the same"
    assert publisher.publish(STATUS, 1.0) == b"x"
    assert len(caplog.records) == 1
    folder.mkdir()
    assert publisher.publish(STATUS, 2.0) == b"x"
    (folder / "status.json").unlink()
    folder.rmdir()
    assert publisher.publish(STATUS, 3.0) == b"x"
    assert len(caplog.records) == 2


def test_times_are_utc_to_the_millisecond() -> None:
    assert format_utc(0.0) == "1970-01-01T00:00:00.000Z"
    assert format_utc(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
