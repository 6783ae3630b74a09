"""The embedded Fusion's worker, with the real server on a port of its own."""

import contextlib
import socket
import sqlite3
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_runtime import FakeRuntime

from agent import free_ports
from fustor_agent.workers.fusion import FusionSettings, main
from waiting import until

DEADLINE_S = 20.0


@pytest.fixture
def settings(tmp_path: Path) -> FusionSettings:
    (port,) = free_ports(1)
    return FusionSettings("127.0.0.1", port, tmp_path, ("p",), "push-key", "read-key")


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    runtime = FakeRuntime()
    yield runtime
    runtime.stop()


def test_it_serves_its_views_from_ready_until_the_stop(settings: FusionSettings, runtime: FakeRuntime) -> None:
    thread = threading.Thread(target=main, args=(runtime, settings))
    thread.start()
    try:
        until(lambda: runtime.is_ready, within_s=DEADLINE_S, what="the server")
        request = urllib.request.Request(
            f"http://127.0.0.1:{settings.port}/api/v1/views/p/export", headers={"X-API-Key": "read-key"}
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            assert answer.status == 200
        until(lambda: runtime.reports and runtime.reports[-1].phase == "serving", within_s=DEADLINE_S, what="a report")
        assert runtime.reports[-1].report.views.keys() == {"p"}
    finally:
        runtime.stop()
        thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert runtime.failures == []


def test_a_database_of_a_newer_release_stops_it_for_good(settings: FusionSettings, runtime: FakeRuntime) -> None:
    with contextlib.closing(sqlite3.connect(settings.state_dir / "fusion-p.db")) as database:
        database.execute("PRAGMA user_version=1000")
    with pytest.raises(SystemExit):
        main(runtime, settings)  # type: ignore[arg-type]
    ((text, permanent),) = runtime.failures
    assert "fusion-p.db: written by a newer release" in text
    assert permanent


def test_a_port_that_somebody_else_has_is_named_and_tried_again(
    settings: FusionSettings, runtime: FakeRuntime
) -> None:
    with socket.create_server(("127.0.0.1", settings.port)), pytest.raises(SystemExit):
        main(runtime, settings)  # type: ignore[arg-type]
    ((text, permanent),) = runtime.failures
    assert text.startswith(f"fusion.port: {settings.port} on 127.0.0.1: ")
    assert not permanent
    assert not runtime.is_ready
