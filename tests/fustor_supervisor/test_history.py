from pathlib import Path

import pytest

from fustor_supervisor.history import History
from fustor_supervisor.status import Death

DEATHS = [Death("2026-01-01T00:00:00.000Z", 3, None, "exited with code 3", 1.5, 2, output="last line")]


def test_what_was_saved_is_recalled_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "deaths.json"
    History(path).save({"a": DEATHS, "b": []})
    after = History(path)
    assert after.recall("a") == DEATHS
    assert after.recall("b") == after.recall("c") == ()


def test_a_damaged_file_is_set_aside_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "deaths.json"
    path.write_text('{"workers": {"a": [{"at": ')
    history = History(path)
    assert history.recall("a") == ()
    assert (tmp_path / "deaths.json.damaged").read_text() == '{"workers": {"a": [{"at": '
    assert "set_aside_as" in caplog.text
    history.save({"a": DEATHS})
    assert History(path).recall("a") == DEATHS


def test_what_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "later" / "deaths.json"
    history = History(path)
    history.save({"a": DEATHS})
    path.parent.mkdir()
    history.save({"a": DEATHS})
    assert History(path).recall("a") == DEATHS
    path.unlink()
    history.save({"a": DEATHS})
    assert not path.exists(), "nothing changed, so nothing was written"
