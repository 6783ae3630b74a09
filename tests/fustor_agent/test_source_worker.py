"""The source worker around its pump: what a fault leaves behind."""

import time
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
from fake_runtime import FakeRuntime

from fustor_agent.workers.source import SourceSettings, main
from fustor_core.clock import IndexClock
from fustor_core.drivers import SourceContext
from fustor_source_fs import FsSource
from fustor_source_fs.recorder import Watched, read_recording


class Faulty(FsSource):
    """Sets its watches, and then meets what nobody has thought of."""

    def wait(self, timeout_s: float) -> NoReturn:
        self.follow()
        messages = self.get_message_iterator()
        while self.get_status().not_current_because is not None:
            next(messages)
        self.close()  # its process would be gone after this
        raise ZeroDivisionError("nobody has thought of this")


def fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a source worker until its driver meets a fault."""
    monkeypatch.setattr("fustor_agent.drivers.load_source", lambda kind: Faulty)
    context = SourceContext(pipe_id="p", clock=IndexClock(time.time_ns()), state_dir=tmp_path / "state")
    settings = SourceSettings(pipe_id="p", type="fs", config={"uri": str(tmp_path / "tree")})
    with pytest.raises(ZeroDivisionError):
        main(cast(Any, FakeRuntime()), settings, context)


def test_a_fault_leaves_a_recording_of_what_happened_before_it_and_the_log_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tree" / "d").mkdir(parents=True)
    (tmp_path / "state").mkdir()
    fail(tmp_path, monkeypatch)
    recording = tmp_path / "state" / "recording.ndjson"
    entries = read_recording(recording.read_bytes())
    assert [entry.path for entry in entries if isinstance(entry, Watched)] == [b"/", b"/d"]
    assert str(recording) in caplog.text


def test_a_recording_that_cannot_be_written_does_not_hide_the_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tree").mkdir()
    fail(tmp_path, monkeypatch)
    assert "nothing was recorded" in caplog.text
