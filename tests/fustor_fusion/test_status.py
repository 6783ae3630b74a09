import time
from pathlib import Path

import msgspec
import pytest

from fustor_fusion.home import Home
from fustor_fusion.status import (
    FusionStatus,
    ProcessInfo,
    ViewInfo,
    WorkerInfo,
    decode_views,
    find_faults,
    format_status,
    read_status,
)

PROCESS = ProcessInfo("1.0.0", 42, "running", "2026-01-01T00:00:00Z", 61.0, "http://127.0.0.1:8102")
WORKER = WorkerInfo(name="fusion", state="running", pid=43, restarts=0, uptime_s=60.0)
NORTH = ViewInfo(id="north", files=1234, directories=5, bytes=1500, rows_applied=2000, sessions=2, leader="host-a",
                 current=True, not_current_because=None)
SOUTH = ViewInfo(id="south", not_current_because="no agent is connected")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.prepare()
    return home


def test_the_text_shows_process_views_reasons_worker_and_faults() -> None:
    status = FusionStatus(PROCESS, [WORKER], [NORTH, SOUTH])
    assert format_status(status, ["something is wrong"], colour=False).splitlines() == [
        "Fusion 1.0.0 is running, pid 42, for 1 min 1 s, http://127.0.0.1:8102",
        "",
        "VIEW   STATE        AGENTS  LEADER  FILES  DIRECTORIES  SIZE    ROWS",
        "north  current      2       host-a  1,234  5            1.5 kB  2,000",
        "south  not current  0       -       0      0            0 B     0",
        "",
        "south is not current: no agent is connected",
        "",
        "WORKER  STATE    PID  RESTARTS  UP",
        "fusion  running  43   0         1 min 0 s",
        "",
        "! something is wrong",
    ]


def test_a_worker_that_is_down_and_a_damaged_view_are_faults_and_a_view_without_agents_is_none() -> None:
    down = msgspec.structs.replace(WORKER, state="backoff", last_error="killed by SIGKILL")
    damaged = msgspec.structs.replace(NORTH, damage="the database was damaged and set aside")
    assert find_faults(FusionStatus(PROCESS, [WORKER], [NORTH, SOUTH])) == []
    assert find_faults(FusionStatus(PROCESS, [down], [damaged, SOUTH])) == [
        "fusion: backoff: killed by SIGKILL", 'view "north": the database was damaged and set aside']


def test_views_keep_the_order_of_the_configuration_and_what_is_over_is_not_shown() -> None:
    said = {view.id: {"files": view.files, "current": True, "not_current_because": None} for view in (SOUTH, NORTH)}
    detail = msgspec.msgpack.encode(said)
    views = decode_views(detail, ["north", "south", "new"], is_served=True)
    assert [(view.id, view.files, view.current) for view in views] == [
        ("north", 1234, True), ("south", 0, True), ("new", 0, False)]
    for gone in (decode_views(detail, ["north"], is_served=False), decode_views(b"", ["north"], is_served=True)):
        assert gone == [ViewInfo(id="north", not_current_because="it is not served at this moment")]


def test_what_another_process_published_counts_for_nothing(home: Home) -> None:
    home.status.write_bytes(msgspec.json.encode(FusionStatus(PROCESS, [WORKER], [NORTH])))
    assert read_status(home, 42) == (FusionStatus(PROCESS, [WORKER], [NORTH]), [])
    status, faults = read_status(home, 44)
    assert (status, faults) == (FusionStatus(ProcessInfo(pid=44, state="starting")), [])
    assert format_status(status, faults, colour=False) == "Fusion is starting, pid 44"


@pytest.mark.parametrize("content", [None, b"{", b'{"fusion": 1}'])
def test_without_a_readable_status_all_that_is_known_is_that_it_starts(home: Home, content: bytes | None) -> None:
    if content is not None:
        home.status.write_bytes(content)
    assert read_status(home, 44)[0].fusion.state == "starting"


def test_a_status_that_is_not_renewed_is_a_fault(home: Home) -> None:
    old = msgspec.structs.replace(PROCESS, published_s=time.monotonic() - 60)
    home.status.write_bytes(msgspec.json.encode(FusionStatus(old, [WORKER], [NORTH])))
    (fault,) = read_status(home, 42)[1]
    assert fault.startswith("Fusion has not published its status for ")
