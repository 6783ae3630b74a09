import logging
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_fusion import KEY, SESSION, FakeFusion

from fustor_core.drivers import Differing, Look, Role, Scan, StartAudit, StartSnapshot, Sync, Verify
from fustor_core.errors import ConfigError, FustorError, SessionLost, Unavailable, Uncertain
from fustor_core.testing import pusher_contract
from fustor_core.testing.pushers import make_batch, make_row
from fustor_event_model import FsItem, Listed, MessageSource, Moved, Unchanged, UpdateEvent
from fustor_pusher_fusion import FusionConfig, FusionPusher

Connect = Callable[..., FusionPusher]


def update(*names: bytes, lane: MessageSource = MessageSource.REALTIME, index: int = 10) -> FsItem:
    rows = [make_row(name) for name in names]
    return UpdateEvent(index=index, message_source=lane, event_schema="fs", table="files", rows=rows, prefix=b"/")


class _Contract:
    """The contract's tests, each with a receiver of its own."""

    ours: bool

    @pytest.fixture(autouse=True)
    def receiver(self) -> Any:
        self.fusion = FakeFusion(ours=self.ours)
        yield
        self.fusion.stop()

    def make(self, context: Any) -> FusionPusher:
        return FusionPusher(FusionConfig(endpoint=self.fusion.url, credential=KEY), context)


class TestContractWithAPublicFusion(_Contract, pusher_contract(lambda context: None)):  # type: ignore[misc]
    ours = False


class TestContractWithOurFusion(_Contract, pusher_contract(lambda context: None)):  # type: ignore[misc]
    ours = True


# -- sessions -----------------------------------------------------------------------------


def test_a_session_takes_what_the_receiver_grants(public: FakeFusion, connect: Connect) -> None:
    session = connect(public, session_timeout_s=44.2).open_session()
    assert (session.id, session.role, session.timeout_s) == (SESSION, Role.LEADER, 30)
    assert (session.audit_interval_s, session.sentinel_interval_s) == (8.0, 5.0)
    assert (session.commits, session.has_commands, session.generation) == (False, False, "")
    assert not session.takes_moves
    (request,) = public.sent("/session/$")
    assert request.headers["x-api-key"] == KEY
    assert request.headers["user-agent"] == "fustor-agent/1.0.0"
    assert request.json["task_id"] == "agent:pipe"
    assert request.json["session_timeout_seconds"] == 45
    hello = request.json["fustor"]
    assert len(bytes.fromhex(hello.pop("session_id"))) == 16
    assert hello == {"protocol": 1, "agent_id": "agent", "pipe_id": "pipe", "schema": "fs"}


def test_a_session_with_our_fusion_commits_and_has_commands(ours: FakeFusion, connect: Connect) -> None:
    session = connect(ours, view="other").open_session()
    assert (session.commits, session.has_commands, session.generation) == (True, True, "00ff")
    assert session.takes_moves
    (request,) = ours.sent("/session/$")
    assert request.json["task_id"] == "agent:other"
    assert "session_timeout_seconds" not in request.json


def test_a_protocol_that_we_do_not_speak_is_treated_as_public(public: FakeFusion, connect: Connect) -> None:
    public.answer("POST", "/session/$", 200, {"session_id": "s", "fustor": {"protocol": 7, "encodings": ["cbor"]}})
    session = connect(public).open_session()
    assert (session.commits, session.role) == (False, Role.FOLLOWER)


def test_rows_that_are_not_files_need_our_fusion(public: FakeFusion, connect: Connect) -> None:
    with pytest.raises(ConfigError, match="takes only fs rows"):
        connect(public, schema="postgres").open_session()
    assert public.requests[-1].method == "DELETE"


@pytest.mark.parametrize(
    ("status", "detail", "error"),
    [
        (401, "Invalid API key", ConfigError),
        (403, "no", ConfigError),
        (409, 'no view "x"; there are: a, b', ConfigError),
        (409, "View v2 is currently locked by session 20c0aaaa-1111-2222-3333-444455556666.", Unavailable),
        (422, [{"msg": "bad"}], ConfigError),
        (404, "Not Found", Unavailable),
        (307, "", Unavailable),
        (500, "Internal Server Error", Unavailable),
        (503, "later", Unavailable),
    ],
)
def test_a_refused_session_says_who_must_act(
    public: FakeFusion, connect: Connect, status: int, detail: object, error: type[FustorError]
) -> None:
    public.answer("POST", "/session/$", status, {"detail": detail})
    with pytest.raises(error) as caught:
        connect(public).open_session()
    assert str(status) in str(caught.value)
    assert "1111-2222" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", b"\xff", b"[]", b'{"session_id": ""}', b'{"role": "x"}'])
def test_an_answer_that_is_not_fusions_opens_no_session(public: FakeFusion, connect: Connect, body: bytes) -> None:
    public.answer("POST", "/session/$", 200, body)
    with pytest.raises(Unavailable):
        connect(public).open_session()


def test_a_receiver_that_is_not_there_is_unavailable(public: FakeFusion, connect: Connect) -> None:
    driver = connect(public)
    public.stop()
    try:
        with pytest.raises(Unavailable, match="cannot connect"):
            driver.open_session()
    finally:
        public.__init__()  # type: ignore[misc]  # so that the fixture can stop it


def test_a_session_is_resumed_by_a_heartbeat(public: FakeFusion, connect: Connect) -> None:
    session = connect(public).open_session()
    public.role = "follower"
    successor = connect(public)
    assert successor.resume_session(session) == msgspec.structs.replace(session, role=Role.FOLLOWER)
    assert len(public.sent("/session/$")) == 1


def test_a_session_that_the_receiver_forgot_is_lost(public: FakeFusion, connect: Connect) -> None:
    driver = connect(public)
    session = driver.open_session()
    public.answer("POST", "/heartbeat$", 419, {"detail": "Session obsoleted"}, times=2)
    with pytest.raises(SessionLost):
        driver.resume_session(session)
    with pytest.raises(SessionLost):
        driver.heartbeat(session, can_realtime=True)


def test_closing_a_session_that_is_over_is_no_error(public: FakeFusion, connect: Connect) -> None:
    driver = connect(public)
    session = driver.open_session()
    public.answer("DELETE", "/session/", 404, {"detail": "unknown"})
    driver.close_session(session)
    assert public.sent(f"/session/{SESSION}$")


# -- heartbeats and commands --------------------------------------------------------------


def test_a_heartbeat_without_a_role_keeps_the_last_one(public: FakeFusion, connect: Connect) -> None:
    driver = connect(public)
    session = driver.open_session()
    public.role = "follower"
    assert driver.heartbeat(session, can_realtime=True).role is Role.FOLLOWER
    public.answer("POST", "/heartbeat$", 200, {"status": "ok", "role": None, "commands": None})
    beat = driver.heartbeat(session, can_realtime=True)
    assert (beat.role, beat.commands) == (Role.FOLLOWER, ())
    assert public.sent("/heartbeat$")[0].json == {"can_realtime": True}


def test_a_heartbeat_that_is_not_ok_is_not_believed(public: FakeFusion, connect: Connect) -> None:
    driver = connect(public)
    session = driver.open_session()
    public.answer("POST", "/heartbeat$", 200, {"status": "error", "role": "follower"})
    with pytest.raises(Unavailable):
        driver.heartbeat(session, can_realtime=True)


def test_commands_are_parsed_and_unknown_ones_skipped(
    ours: FakeFusion, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    driver = connect(ours)
    session = driver.open_session()
    ours.commands = [
        {"type": "sync", "token": "t"},
        {"type": "scan", "path": "/caf?", "raw": "L2NhZuk", "recursive": False, "job_id": "j", "created_at": 1.0},
        {"type": "scan", "path": "x/../../../etc"},
        {"type": "snapshot"},
        {"type": "audit", "kind": "full"},
        {"type": "verify", "paths": ["L2NhZuk", "*", 7, "", "Ly4uL2E"]},
        {"type": "verify", "paths": "L2E"},
        {"type": "look", "paths": ["L2NhZuk", "*", "Ly4uL2E"]},
        {"type": "upgrade", "version": "9"},
        {"type": "scan", "path": ""},
        {"type": "scan", "raw": "*"},
        {"type": "scan", "path": "/nul\0"},
        {"type": "scan", "path": "/\ud800"},
        {"type": "sync"},
    ]
    assert driver.poll_commands(session, wait_s=5) == (
        Sync("t"),
        Scan(b"/caf\xe9", "j", False),
        Scan(b"/etc", "", True),
        StartSnapshot(),
        StartAudit("full"),
        Verify((b"/caf\xe9", b"/a")),
        Look((b"/caf\xe9", b"/a")),
    )
    assert ours.sent("/commands")[0].path.endswith("commands?wait=5")
    assert sum("command skipped" in message for message in caplog.messages) == 7


def test_a_heartbeat_carries_commands(public: FakeFusion, connect: Connect) -> None:
    driver = connect(public)
    session = driver.open_session()
    public.commands = [{"type": "scan", "path": "/b", "recursive": True, "job_id": "ac6f5452", "created_at": 1.5}]
    assert driver.heartbeat(session, can_realtime=True).commands == (Scan(b"/b", "ac6f5452", True),)


def test_a_public_fusion_has_no_command_channel(public: FakeFusion, connect: Connect) -> None:
    driver = connect(public)
    assert driver.poll_commands(driver.open_session(), wait_s=60) == ()
    assert not public.sent("/commands")


def test_a_barrier_is_reported_to_our_fusion_only(public: FakeFusion, ours: FakeFusion, connect: Connect) -> None:
    for fusion in (public, ours):
        driver = connect(fusion)
        driver.report_barrier(driver.open_session(), "t", error="no coverage")
    assert not public.sent("/barrier$")
    assert ours.sent("/barrier$")[0].json == {"token": "t", "error": "no coverage"}


def test_our_fusion_asks_for_looks_itself(ours: FakeFusion, connect: Connect) -> None:
    driver = connect(ours)
    session = driver.open_session()
    assert session.sentinel_interval_s is None
    assert driver.get_sentinel_tasks(session) == ()
    driver.end_audit(session, complete=True)
    assert not ours.sent("/consistency/")


def test_sentinel_tasks_are_paths(public: FakeFusion, connect: Connect) -> None:
    driver = connect(public)
    session = driver.open_session()
    assert driver.get_sentinel_tasks(session) == []
    public.answer("GET", "/tasks$", 200, {"type": "suspect_check", "paths": ["/a/hot", "/é"], "view_id": "same"})
    assert driver.get_sentinel_tasks(session) == [b"/a/hot", "/é".encode()]


# -- our Fusion ---------------------------------------------------------------------------


def test_our_fusion_gets_the_sources_bytes_under_their_name(ours: FakeFusion, connect: Connect) -> None:
    driver = connect(ours)
    session = driver.open_session()
    batch = make_batch([update(b"a", b"b\xff")], seq=7, epoch=1 << 40)
    driver.push(session, batch)
    (request,) = ours.sent("/batch$")
    assert request.headers["content-type"] == "application/msgpack"
    assert msgspec.msgpack.decode(request.body)[:3] == [1 << 40, "realtime", 7 << 20]
    assert request.body.endswith(bytes(batch.items))


def test_an_opening_and_each_request_of_a_push_say_what_the_clock_says(ours: FakeFusion, connect: Connect) -> None:
    driver = connect(ours, read_clock=iter(range(100, 200)).__next__)
    session = driver.open_session()
    ours.answer("POST", "/batch", 422, {"detail": "no"}, times=1)
    driver.push(session, make_batch([update(b"a", b"b")]))
    assert [request.path.partition("/batch")[2] for request in ours.sent("/batch")] == [
        "?clock=101", "?clock=102", "?clock=103"]
    assert ours.sent("/session/$")[0].json["fustor"]["clock"] == 100


def test_our_fusion_names_the_rows_that_it_refuses(ours: FakeFusion, connect: Connect) -> None:
    driver = connect(ours)
    session = driver.open_session()
    ours.answer("POST", "/batch$", 200, {"status": "ok", "count": 1, "refused": [{"path": "L2L/", "reason": "long"}]})
    (refused,) = driver.push(session, make_batch([update(b"a", b"b\xff")]))
    assert (refused.path, refused.reason) == (b"/b\xff", "long")


def test_our_fusion_says_whether_it_compares(ours: FakeFusion, connect: Connect) -> None:
    assert not connect(ours).open_session().compares
    ours.compares = True
    assert connect(ours).open_session().compares


def test_our_fusion_names_what_differs(ours: FakeFusion, connect: Connect) -> None:
    driver = connect(ours)
    session = driver.open_session()
    differing = [{"position": "AAH/", "known": True}, {"position": "", "known": False}]
    ours.answer("POST", "/batch$", 200, {"status": "ok", "count": 0, "refused": [], "differing": differing})
    assert driver.push(session, make_batch([update(b"a")])) == [Differing(b"\0\x01\xff", True), Differing(b"", False)]


def test_what_a_fusion_cannot_compare_differs(ours: FakeFusion, connect: Connect) -> None:
    driver = connect(ours)
    session = driver.open_session()
    ours.answer("POST", "/batch$", 422, {"detail": "no"}, times=100, wanted=lambda one: b"unchanged" in one.body)
    unchanged = [
        Unchanged(index=1, message_source=MessageSource.SNAPSHOT, path=b"/d", position=position, count=1, digest=b"")
        for position in (b"1", b"2")
    ]
    batch = make_batch([update(b"a"), *unchanged])
    assert driver.push(session, batch) == [Differing(b"1", True), Differing(b"2", True)]


def taken(fusion: FakeFusion) -> list[tuple[int, list[bytes]]]:
    """Return name and rows of each batch that was not refused, in order."""
    bodies = [msgspec.msgpack.decode(request.body) for request in fusion.sent("/batch$")]
    return [
        (seq, [row[0] for item in items for row in item[5]])
        for _, _, seq, items in bodies
        if not any(b"bad" in row[0] for item in items for row in item[5])
    ]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_batch_that_our_fusion_cannot_take_is_cut_down_to_the_row_that_is_refused(
    ours: FakeFusion, connect: Connect, status: int
) -> None:
    driver = connect(ours)
    session = driver.open_session()
    ours.answer("POST", "/batch$", status, {"detail": "no"}, times=100, wanted=lambda request: b"bad" in request.body)
    batch = make_batch([update(b"a", b"b"), update(b"c", b"bad", b"d", b"e", b"f"), update(b"g")], seq=3)
    refused = driver.push(session, batch)
    assert [(row.path, row.reason) for row in refused] == [(b"/bad", f"{status} no")]
    parts = taken(ours)
    assert [name for _, names in parts for name in names] == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]
    names = [seq for seq, _ in parts]
    assert names == sorted(set(names))
    assert 2 << 20 < names[0] < names[-1] == 3 << 20
    driver.push(session, batch)
    assert taken(ours) == parts * 2  # so that what was applied is known again


def test_items_that_cannot_be_cut_are_refused_as_a_whole(ours: FakeFusion, connect: Connect) -> None:
    driver = connect(ours)
    session = driver.open_session()
    ours.answer("POST", "/batch$", 422, {"detail": "no"}, times=100)
    batch = make_batch([update(b"a")])
    listed = Listed(index=1, message_source=MessageSource.REALTIME, path=b"/d")
    refused = [
        *driver.push(session, make_batch([listed])),
        *driver.push(session, make_batch([])),
        *driver.push(session, msgspec.structs.replace(batch, items=msgspec.Raw(b"\x91\xc0"))),
    ]
    assert [row.path for row in refused] == [b"/d", b"", b""]


def test_a_move_that_fusion_does_not_understand_is_not_left_out(ours: FakeFusion, connect: Connect) -> None:
    driver = connect(ours)
    session = driver.open_session()
    ours.answer("POST", "/batch$", 422, {"detail": "no"}, times=100)
    moved = Moved(index=1, message_source=MessageSource.REALTIME, path=b"/b", before=b"/a", device=1, inode=2)
    with pytest.raises(Uncertain):
        driver.push(session, make_batch([moved, moved]))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ConfigError),
        (404, SessionLost),
        (419, SessionLost),
        (409, Unavailable),
        (412, Uncertain),
        (429, Unavailable),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
    ],
)
def test_every_status_of_our_fusion_has_a_meaning(
    ours: FakeFusion, connect: Connect, status: int, error: type[FustorError]
) -> None:
    driver = connect(ours)
    session = driver.open_session()
    ours.answer("POST", "/batch$", status, {"detail": "no"}, headers={"Retry-After": "7"})
    with pytest.raises(error) as caught:
        driver.push(session, make_batch([update(b"a")]))
    if isinstance(caught.value, Unavailable):
        assert caught.value.retry_after_s == 7.0


def test_a_push_to_our_fusion_is_repeated_on_a_dropped_connection(ours: FakeFusion, connect: Connect) -> None:
    driver = connect(ours)
    session = driver.open_session()
    driver.push(session, make_batch([update(b"a")]))
    ours.drop("POST", "/batch$")
    driver.push(session, make_batch([update(b"b")], seq=2))
    bodies = [request.body for request in ours.sent("/batch$")]
    assert len(bodies) == 3
    assert bodies[1] == bodies[2]


# -- doubt --------------------------------------------------------------------------------


def test_an_idle_connection_that_was_closed_costs_no_heartbeat(public: FakeFusion, connect: Connect) -> None:
    driver = connect(public)
    session = driver.open_session()
    driver.heartbeat(session, can_realtime=True)
    public.drop_connections()
    assert driver.heartbeat(session, can_realtime=True).role is Role.LEADER


def test_a_connection_is_kept_between_requests(public: FakeFusion, connect: Connect) -> None:
    driver = connect(public)
    session = driver.open_session()
    for _ in range(3):
        driver.heartbeat(session, can_realtime=True)
    assert len({request.connection for request in public.sent("/heartbeat$")}) == 1


def test_a_push_never_leaves_on_a_connection_that_was_idle_for_long(public: FakeFusion, connect: Connect) -> None:
    now = [0.0]
    driver = connect(public, clock=lambda: now[0])
    session = driver.open_session()
    for seq, moment in enumerate((0.0, 2.9, 6.0), start=1):
        now[0] = moment
        driver.push(session, make_batch([update(b"a")], seq=seq))
    first, second, third = (request.connection for request in public.sent("/events$"))
    assert first == second
    assert second != third


def test_a_push_that_is_dropped_by_a_public_fusion_is_uncertain_and_not_repeated(
    public: FakeFusion, connect: Connect
) -> None:
    driver = connect(public)
    session = driver.open_session()
    public.drop("POST", "/events$")
    with pytest.raises(Uncertain):
        driver.push(session, make_batch([update(b"a")]))
    assert len(public.sent("/events$")) == 1


def test_a_push_without_an_answer_is_uncertain_for_a_public_fusion_only(
    public: FakeFusion, ours: FakeFusion, connect: Connect
) -> None:
    errors: list[type[FustorError]] = []
    for fusion in (public, ours):
        driver = connect(fusion, read_timeout_s=0.05)
        session = driver.open_session()
        with fusion.hold("POST", "/ingest/"), pytest.raises(FustorError) as caught:
            driver.push(session, make_batch([update(b"a")]))
        errors.append(caught.type)
    assert errors == [Uncertain, Unavailable]


def test_a_heartbeat_does_not_wait_for_a_push_that_hangs(public: FakeFusion, connect: Connect) -> None:
    driver = connect(public)
    session = driver.open_session()
    with public.hold("POST", "/ingest/") as there:
        thread = threading.Thread(target=driver.push, args=(session, make_batch([update(b"a")])))
        thread.start()
        there.wait()
        assert driver.heartbeat(session, can_realtime=True).role is Role.LEADER
        assert thread.is_alive()
    thread.join()


def test_a_session_whose_heartbeats_fail_takes_no_more_pushes(public: FakeFusion, connect: Connect) -> None:
    now = [0.0]
    driver = connect(public, clock=lambda: now[0])
    session = driver.open_session()
    now[0] = 31.0
    with pytest.raises(Unavailable, match="no heartbeat"):
        driver.push(session, make_batch([update(b"a")]))
    driver.heartbeat(session, can_realtime=True)
    driver.push(session, make_batch([update(b"a")]))
    assert len(public.sent("/events$")) == 1


# -- credentials --------------------------------------------------------------------------


def test_the_connection_test_opens_no_session(public: FakeFusion, connect: Connect) -> None:
    connect(public).test_connection()
    with pytest.raises(ConfigError, match="correct credential"):
        connect(public, credential="wrong").test_connection()
    assert [request.method for request in public.requests] == ["GET", "GET"]


def test_no_secret_reaches_a_log_or_an_exception(
    public: FakeFusion, connect: Connect, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    driver = connect(public, read_timeout_s=0.05)
    session = driver.open_session()
    detail = {"detail": f"Session {SESSION} expired in SessionManager"}
    for status in (400, 401, 404, 419, 500, 503):
        public.answer("POST", "/events$", status, detail)
    public.answer("POST", "/heartbeat$", 419, detail)
    public.drop("POST", "/events$")
    texts: list[str] = []
    for _ in range(7):
        try:
            texts += [row.reason for row in driver.push(session, make_batch([update(b"a")]))]
        except FustorError as err:
            texts += [str(err), repr(err.__cause__), repr(err.args)]
            texts += traceback.format_exception(err)
    with public.hold("POST", "/heartbeat$"):
        for _ in range(2):
            try:
                driver.heartbeat(session, can_realtime=True)
            except FustorError as err:
                texts.append(str(err))
    text = "\n".join(texts) + caplog.text
    assert SESSION not in text
    assert KEY not in text
    assert len(texts) > 10
