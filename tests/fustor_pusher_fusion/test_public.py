import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_fusion import FakeFusion

from fustor_core.drivers import Session
from fustor_core.errors import ConfigError, DriverError, FustorError, SessionLost, Unavailable, Uncertain
from fustor_core.testing.pushers import make_batch, make_row
from fustor_event_model import (
    AuditEnd,
    AuditStart,
    DeleteEvent,
    FsItem,
    FsPath,
    JobDone,
    Listed,
    MessageSource,
    SnapshotEnd,
    UpdateEvent,
)
from fustor_pusher_fusion import FusionPusher
from scripted import Request

Connect = Callable[..., FusionPusher]
REALTIME, SNAPSHOT, AUDIT = MessageSource.REALTIME, MessageSource.SNAPSHOT, MessageSource.AUDIT


def update(index: int, *paths: bytes, lane: MessageSource = REALTIME) -> FsItem:
    """Rows below the root; a path that ends with a slash is a directory."""
    rows = [make_row(path.strip(b"/"), mode=0o040755 if path.endswith(b"/") else 0o100644) for path in paths]
    return UpdateEvent(index=index, message_source=lane, event_schema="fs", table="files", rows=rows, prefix=b"/")


def delete(index: int, *paths: bytes) -> FsItem:
    rows = [FsPath(path) for path in paths]
    return DeleteEvent(index=index, message_source=REALTIME, event_schema="fs", table="files", rows=rows)


def listed(index: int, path: bytes, lane: MessageSource = REALTIME) -> FsItem:
    return Listed(index=index, message_source=lane, path=path)


def posts(fusion: FakeFusion) -> list[tuple[str, bool, list[tuple[str, str, list[str]]]]]:
    return [
        (
            kind,
            is_end,
            [(one["event_type"], one["message_source"], [row["path"] for row in one["rows"]]) for one in events],
        )
        for kind, is_end, events in fusion.events()
    ]


@pytest.fixture
def driver(public: FakeFusion, connect: Connect) -> FusionPusher:
    return connect(public)


@pytest.fixture
def session(driver: FusionPusher) -> Session:
    return driver.open_session()


def test_the_snapshot_of_a_fresh_session_travels_as_snapshot_rows(
    public: FakeFusion, driver: FusionPusher, session: Session
) -> None:
    items = [update(1, b"d/", b"d/f", lane=SNAPSHOT), listed(1, b"/d", SNAPSHOT)]
    driver.push(session, make_batch(items, lane=SNAPSHOT))
    end = SnapshotEnd(index=2, message_source=SNAPSHOT, complete=True)
    driver.push(session, make_batch([end], lane=SNAPSHOT, seq=2))
    assert posts(public) == [
        ("snapshot", False, [("update", "snapshot", ["/d", "/d/f"])]),
        ("audit", True, []),
        ("snapshot", True, []),
    ]


def test_a_snapshot_that_was_cut_off_is_not_ended(public: FakeFusion, driver: FusionPusher, session: Session) -> None:
    end = SnapshotEnd(index=2, message_source=SNAPSHOT, complete=False)
    driver.push(session, make_batch([end], lane=SNAPSHOT))
    assert posts(public) == []


def test_a_snapshot_name_that_was_sent_before_travels_as_realtime(
    public: FakeFusion, driver: FusionPusher, session: Session
) -> None:
    driver.push(session, make_batch([delete(1, b"/x"), update(2, b"y")]))
    driver.push(session, make_batch([update(3, b"x", b"y", b"z", lane=SNAPSHOT)], lane=SNAPSHOT))
    assert posts(public)[-1][2] == [
        ("update", "snapshot", ["/x", "/y"]),
        ("update", "realtime", ["/x", "/y"]),
        ("update", "snapshot", ["/z"]),
    ]


@pytest.mark.parametrize("how", ["resumed", "second", "promoted"])
def test_a_snapshot_into_a_view_that_may_hold_more_travels_as_realtime(
    public: FakeFusion, connect: Connect, how: str
) -> None:
    driver = connect(public)
    if how == "promoted":
        public.role = "follower"
    session = driver.open_session()
    public.role = "leader"
    end = SnapshotEnd(index=1, message_source=SNAPSHOT, complete=True)
    if how == "second":
        driver.push(session, make_batch([end], lane=SNAPSHOT))
    if how == "resumed":
        driver = connect(public)
        session = driver.resume_session(session)
    driver.heartbeat(session, can_realtime=True)
    before = len(posts(public))
    driver.push(session, make_batch([update(2, b"f", lane=SNAPSHOT), listed(2, b"/", SNAPSHOT)], lane=SNAPSHOT))
    assert posts(public)[before:] == [
        ("audit", False, [("update", "audit", ["/.fustor-audit"])]),
        ("snapshot", False, [("update", "snapshot", ["/f"]), ("update", "realtime", ["/f"])]),
        ("audit", True, [("update", "audit", ["/"])]),
    ]


def test_a_listing_protects_children_of_earlier_batches(
    public: FakeFusion, driver: FusionPusher, session: Session
) -> None:
    driver.push(session, make_batch([update(10, b"d/f", b"d/s/")]))
    before = len(posts(public))
    driver.push(session, make_batch([update(11, b"d/g"), listed(10, b"/d")], seq=2))
    opening, rows, ending = posts(public)[before:]
    assert opening == ("audit", False, [("update", "audit", ["/.fustor-audit"])])
    assert rows[2][-1] == ("update", "realtime", ["/d/s", "/d/g"])
    assert ending == ("audit", True, [("update", "audit", ["/d/f", "/d"])])


def test_a_listing_says_nothing_when_its_rows_are_in_doubt(
    public: FakeFusion, driver: FusionPusher, session: Session
) -> None:
    public.answer("POST", "/events$", 500, wanted=lambda one: one.json["source_type"] == "message")
    with pytest.raises(Uncertain):
        driver.push(session, make_batch([update(11, b"d/g"), listed(10, b"/d")]))
    assert [is_end for _, is_end, _ in posts(public)] == [False, False]


def test_a_follower_deletes_nothing_by_listings(public: FakeFusion, connect: Connect) -> None:
    public.role = "follower"
    driver = connect(public)
    session = driver.open_session()
    driver.push(session, make_batch([update(11, b"d/g"), listed(10, b"/d")]))
    assert [kind for kind, _, _ in posts(public)] == ["message"]


def test_what_is_overtaken_is_not_sent(public: FakeFusion, driver: FusionPusher, session: Session) -> None:
    driver.push(session, make_batch([update(20, b"f"), delete(21, b"/d")]))
    before = len(posts(public))
    driver.push(session, make_batch([update(10, b"f", b"d/x", lane=SNAPSHOT)], lane=SNAPSHOT))
    assert posts(public)[before:] == []


def test_a_large_batch_is_cut_into_requests(public: FakeFusion, driver: FusionPusher, session: Session) -> None:
    names = [b"%05d" % number for number in range(10_001)]
    driver.push(session, make_batch([update(1, *names, lane=SNAPSHOT)], lane=SNAPSHOT))
    sizes = [[len(event["rows"]) for event in events] for _, _, events in public.events()]
    assert sizes == [[100] * 100, [1]]


def test_a_refused_request_is_cut_down_to_the_row(public: FakeFusion, driver: FusionPusher, session: Session) -> None:
    def holds_bad(request: Request) -> bool:
        return any(row["path"] == "/bad?" for event in request.json["events"] for row in event["rows"])

    public.answer("POST", "/events$", 422, {"detail": "bad row"}, times=1_000, wanted=holds_bad)
    names = [b"%03d" % number for number in range(40)]
    refused = driver.push(session, make_batch([update(1, *names[:20], b"bad\xff", *names[20:])]))
    assert [(row.path, row.reason) for row in refused] == [(b"/bad\xff", "422 bad row")]
    accepted = {
        row["path"]
        for request in public.sent("/events$")
        if not holds_bad(request)
        for event in request.json["events"]
        if event["message_source"] == "realtime"
        for row in event["rows"]
    }
    assert accepted == {"/" + name.decode() for name in names}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ConfigError),
        (404, SessionLost),
        (419, SessionLost),
        (307, Unavailable),
        (405, Unavailable),
        (429, Unavailable),
        (503, Unavailable),
        (500, Uncertain),
        (502, Uncertain),
    ],
)
def test_every_status_of_a_push_has_a_meaning(
    public: FakeFusion, driver: FusionPusher, session: Session, status: int, error: type[FustorError]
) -> None:
    public.answer("POST", "/events$", status, {"detail": "no"})
    with pytest.raises(error):
        driver.push(session, make_batch([update(1, b"f")]))


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"status": "error"}', b"\xff"])
def test_a_success_that_is_not_fusions_is_uncertain(
    public: FakeFusion, driver: FusionPusher, session: Session, body: bytes
) -> None:
    public.answer("POST", "/events$", 200, body)
    with pytest.raises(Uncertain):
        driver.push(session, make_batch([update(1, b"f")]))


def test_a_finished_job_is_reported_after_its_rows(public: FakeFusion, driver: FusionPusher, session: Session) -> None:
    lane = MessageSource.ON_DEMAND
    done = JobDone(index=2, message_source=lane, job_id="ac6f5452", path=b"/b\xff")
    driver.push(session, make_batch([update(1, b"b", lane=lane), done], lane=lane))
    first, second = (json.loads(request.body) for request in public.sent("/events$"))
    assert first["source_type"] == "on_demand_job"
    assert "metadata" not in first
    assert second == {
        "events": [],
        "source_type": "job_complete",
        "is_end": False,
        "metadata": {"scan_path": "/b?", "job_id": "ac6f5452"},
    }


def test_an_audit_that_is_complete_is_counted_and_one_that_is_not_is_not(
    public: FakeFusion, driver: FusionPusher, session: Session
) -> None:
    start = AuditStart(index=1, message_source=AUDIT, kind="full")
    for complete in (False, True):
        end = AuditEnd(index=2, message_source=AUDIT, complete=complete)
        driver.begin_audit(session)
        driver.push(session, make_batch([start, end], lane=AUDIT))
        driver.end_audit(session, complete=complete)
    assert len(public.sent("/audit/start$")) == 1
    assert posts(public) == [("audit", True, [])]


@pytest.mark.parametrize("processed", [1, 0])
def test_sentinel_results_are_feedback_where_it_reaches_the_view(
    public: FakeFusion, driver: FusionPusher, session: Session, processed: int
) -> None:
    public.answer("POST", "/feedback$", 200, {"status": "processed", "drivers_updated": processed})
    lane = MessageSource.SENTINEL
    driver.push(session, make_batch([update(1, b"hot", lane=lane)], lane=lane))
    (feedback,) = public.sent("/feedback$")
    updates: list[dict[str, Any]] = [{"path": "/hot", "mtime": 1.7e9, "size": 1, "status": "exists"}]
    assert feedback.json == {"type": "suspect_update", "updates": updates}
    assert len(posts(public)) == 1 - processed


def test_bytes_that_are_no_rows_are_a_fault_of_the_driver(
    public: FakeFusion, driver: FusionPusher, session: Session
) -> None:
    batch = make_batch([])
    broken = type(batch)(epoch=1, lane=REALTIME, seq=1, items=type(batch.items)(b"\x91\xc0"), rows=1)
    with pytest.raises(DriverError):
        driver.push(session, broken)
    assert posts(public) == []
