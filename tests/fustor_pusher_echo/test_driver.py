import contextlib
import errno
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fustor_core.drivers import Batch, PusherContext, Role
from fustor_core.errors import ConfigError, DriverError, SessionLost, Unavailable, Uncertain
from fustor_core.testing import pusher_contract
from fustor_core.testing.pushers import make_batch, make_row
from fustor_event_model import (
    DeleteEvent,
    FsPath,
    InsertEvent,
    JobDone,
    Listed,
    MessageSource,
    SnapshotEnd,
    UpdateEvent,
    encode_items,
)
from fustor_pusher_echo import EchoConfig, EchoPusher

REALTIME = MessageSource.REALTIME

TestContract = pusher_contract(
    lambda context: EchoPusher(EchoConfig(path=str(context.state_dir / "events.ndjson")), context)
)


def echo(tmp_path: Path, *, schema: str = "fs", **config: Any) -> EchoPusher:
    context = PusherContext(pipe_id="pipe", schema=schema, agent_id="agent", state_dir=tmp_path)
    return EchoPusher(EchoConfig(**({"path": str(tmp_path / "out")} | config)), context)


def update(*names: bytes) -> UpdateEvent[Any]:
    rows = [make_row(name) for name in names]
    return UpdateEvent(index=5, message_source=REALTIME, event_schema="fs", table="files", rows=rows, prefix=b"/d/")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_row_and_each_signal_is_a_line(tmp_path: Path) -> None:
    driver = echo(tmp_path)
    gone = DeleteEvent(
        index=6, message_source=REALTIME, event_schema="fs", table="files", rows=[FsPath(b"/x")], prefix=b""
    )
    listed = Listed(index=4, message_source=REALTIME, path=b"/d")
    driver.push(driver.open_session(), make_batch([update(b"a", b"b"), gone, listed]))
    assert [(line["event"], line["index"], line["path"]) for line in lines(tmp_path / "out")] == [
        ("update", 5, "/d/a"),
        ("update", 5, "/d/b"),
        ("delete", 6, "/x"),
        ("listed", 4, "/d"),
    ]
    assert lines(tmp_path / "out")[0] == {
        "event": "update",
        "message_source": "realtime",
        "index": 5,
        "path": "/d/a",
        "type": "file",
        "size": 1,
        "mtime_ns": 1_700_000_000_000_000_000,
        "ctime_ns": 1_700_000_000_000_000_000,
        "mode": 0o100644,
        "uid": 0,
        "gid": 0,
        "inode": 2,
        "nlink": 1,
        "is_atomic_write": True,
    }


def test_signals_carry_what_they_say(tmp_path: Path) -> None:
    driver = echo(tmp_path)
    lane = MessageSource.ON_DEMAND
    end = SnapshotEnd(index=1, message_source=lane, complete=False)
    done = JobDone(index=2, message_source=lane, job_id="j", path=b"/p\xff")
    driver.push(driver.open_session(), make_batch([end, done], lane=lane))
    assert lines(tmp_path / "out") == [
        {"event": "snapshot_end", "message_source": "on_demand_job", "index": 1, "complete": False},
        {
            "event": "job_done",
            "message_source": "on_demand_job",
            "index": 2,
            "path": "/p�",
            "raw": "L3D/",
            "job_id": "j",
            "complete": True,
        },
    ]


def test_names_and_targets_that_are_not_utf8_are_exact_beside_their_text(tmp_path: Path) -> None:
    driver = echo(tmp_path)
    link = msgspec.structs.replace(make_row(b"caf\xe9\n", mode=0o120777), target=b"\xff")
    event = InsertEvent(index=1, message_source=REALTIME, event_schema="fs", table="files", rows=[link], prefix=b"/")
    driver.push(driver.open_session(), make_batch([event]))
    (line,) = lines(tmp_path / "out")
    assert (line["event"], line["type"]) == ("insert", "symlink")
    assert (line["path"], line["raw"]) == ("/caf�\n", "L2NhZukK")
    assert (line["target"], line["raw_target"]) == ("�", "/w==")


def test_rows_of_other_schemas_are_written_as_they_are(tmp_path: Path) -> None:
    driver = echo(tmp_path, schema="postgres")
    row = msgspec.Raw(msgspec.msgpack.encode([1, "x", None]))
    event = UpdateEvent(
        index=1, message_source=REALTIME, event_schema="postgres", table="t", rows=[row], prefix=b"public."
    )
    batch = Batch(epoch=1, lane=REALTIME, seq=1, items=msgspec.Raw(encode_items([event])), rows=1)
    driver.push(driver.open_session(), batch)
    assert lines(tmp_path / "out") == [
        {
            "event": "update",
            "message_source": "realtime",
            "index": 1,
            "event_schema": "postgres",
            "table": "t",
            "prefix": "public.",
            "row": [1, "x", None],
        }
    ]


def test_standard_output_is_the_default(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    driver = echo(tmp_path, path=None)
    driver.push(driver.open_session(), make_batch([update(b"a")]))
    assert json.loads(capfd.readouterr().out)["path"] == "/d/a"


def test_a_rotated_file_is_followed_and_its_session_not_resumed(tmp_path: Path) -> None:
    driver = echo(tmp_path)
    session = driver.open_session()
    assert session.role is Role.LEADER
    assert not session.commits
    driver.push(session, make_batch([update(b"a")]))
    assert echo(tmp_path).resume_session(session) == session
    (tmp_path / "out").rename(tmp_path / "out.1")
    driver.push(session, make_batch([update(b"b")]))
    assert [line["path"] for line in lines(tmp_path / "out")] == ["/d/b"]
    with pytest.raises(SessionLost):
        echo(tmp_path).resume_session(session)


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    echo(tmp_path, fsync=True).open_session()
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_a_place_that_is_not_a_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give the path of a file"):
        echo(tmp_path, path=str(tmp_path)).test_connection()
    with pytest.raises(Unavailable, match="cannot be opened"):
        echo(tmp_path, path=str(tmp_path / "no" / "out")).test_connection()
    with pytest.raises(ValueError, match="not absolute"):
        EchoConfig(path="events.ndjson")


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """Let no file grow above 1,000 bytes, as a full disk does: not the one either that the test run writes to."""
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_action = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, old_limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_action)


def test_a_batch_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    driver = echo(tmp_path)
    session = driver.open_session()
    driver.push(session, make_batch([update(b"a", b"b")]))
    before = (tmp_path / "out").read_bytes()
    with small_files(), pytest.raises(Unavailable, match=os.strerror(errno.EFBIG)):
        driver.push(session, make_batch([update(*(b"%d" % number for number in range(50)))]))
    assert (tmp_path / "out").read_bytes() == before


def test_a_pipe_without_a_reader_is_unavailable_and_half_a_batch_uncertain(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    context = PusherContext(pipe_id="pipe", schema="fs", agent_id="agent", state_dir=tmp_path)
    driver = EchoPusher(EchoConfig(), context, stdout=write_end)
    os.set_blocking(write_end, False)
    try:
        with pytest.raises(Uncertain):
            driver.push(driver.open_session(), make_batch([update(*(b"%d" % number for number in range(2_000)))]))
        os.close(read_end)
        with pytest.raises(Unavailable, match="standard output"):
            driver.push(driver.open_session(), make_batch([update(b"a")]))
    finally:
        os.close(write_end)


def test_bytes_that_are_no_rows_are_a_fault_of_the_driver(tmp_path: Path) -> None:
    driver = echo(tmp_path)
    batch = Batch(epoch=1, lane=REALTIME, seq=1, items=msgspec.Raw(b"\x91\xc0"), rows=1)
    with pytest.raises(DriverError):
        driver.push(driver.open_session(), batch)
    assert (tmp_path / "out").read_bytes() == b""
