import contextlib
import socket
import threading

import pytest

from fustor_fusion import FusionServer
from waiting import until


def test_sessions_roles_and_rows_live_on_over_a_restart(tmp_path, make):
    first = make.fusion(make.config(tmp_path))
    leader, follower = make.agent(first, name="a"), make.agent(first, name="b")
    leader.beat()
    leader.snapshot(make.update(5, b"/", [make.row(b"x")]))
    first.stop()
    second = make.fusion(make.config(tmp_path))
    try:
        stats = second.get("p/stats").json()
        assert (stats["total_files"], stats["not_current_because"]) == (
            1, "agent a has not been heard since Fusion started")
        leader.fusion = follower.fusion = second
        assert leader.push(make.update(6, b"/", [make.row(b"y")])).json()["count"] == 1
        assert leader.push(make.update(7, b"/", [make.row(b"w")]), lane="snapshot", seq=1).json()["count"] == 0
        assert [agent.beat().json()["role"] for agent in (leader, follower)] == ["leader", "follower"]
        assert second.get("p/stats").json()["current"] is True
        assert make.agent(second, name="c").opened["fustor"]["generation"] == leader.opened["fustor"]["generation"]
    finally:
        second.stop()


def test_a_closed_session_stays_closed_over_a_restart(tmp_path, make):
    first = make.fusion(make.config(tmp_path))
    agent = make.agent(first)
    first.agent.delete(f"{first.base}/pipe/session/{agent.id}")
    first.stop()
    agent.fusion = second = make.fusion(make.config(tmp_path))
    try:
        assert agent.beat().status_code == 419
        assert agent.push().status_code == 404
    finally:
        second.stop()


def test_after_damage_the_agent_learns_another_generation(tmp_path, make):
    first = make.fusion(make.config(tmp_path))
    agent = make.agent(first)
    first.stop()
    (tmp_path / "fusion-p.db").write_bytes(b"junk" * 1000)
    agent.fusion = second = make.fusion(make.config(tmp_path))
    try:
        assert agent.beat().status_code == 419
        assert make.agent(second).opened["fustor"]["generation"] != agent.opened["fustor"]["generation"]
        assert "set aside" in second.get("p/stats").json()["damage"]
    finally:
        second.stop()


@contextlib.contextmanager
def read_only(fusion):
    """Let the view's database take nothing."""
    store = fusion.server._serving.views["p"].store
    store.submit(lambda writer, careful: writer.db.execute("PRAGMA query_only=ON") and 1).exception()
    yield
    store._db.execute("PRAGMA query_only=OFF")


def test_a_change_of_a_session_that_could_not_be_stored_is_stored_with_the_next_change(tmp_path, make):
    first = make.fusion(make.config(tmp_path))
    agent = make.agent(first)
    with read_only(first):
        assert agent.beat(can_realtime=True).status_code == 503
    make.agent(first, name="b")
    first.stop()
    second = make.fusion(make.config(tmp_path))
    try:
        assert [each["can_realtime"] for each in second.get("p/sessions").json()["active_sessions"]] == [True, False]
    finally:
        second.stop()


def test_a_session_that_could_not_be_stored_stands_in_nobodys_way(tmp_path, make):
    fusion = make.fusion(make.config(tmp_path))
    try:
        with read_only(fusion):
            assert fusion.post("session/", {"task_id": "a:p"}).status_code == 503
        assert make.agent(fusion).opened["role"] == "leader"
        assert fusion.get("p/sessions").json()["count"] == 1
    finally:
        fusion.stop()


def test_a_stop_ends_long_polls_at_once(tmp_path, make):
    fusion = make.fusion(make.config(tmp_path))
    agent = make.agent(fusion)
    polled: list[list[dict]] = []
    thread = threading.Thread(target=lambda: polled.append(agent.poll(wait_s=60)))
    thread.start()
    (view,) = fusion.server._serving.views.values()
    until(lambda: agent.id in view._polling, within_s=30, what="the poll to begin")
    fusion.server.stop()
    thread.join(30)
    assert polled == [[]]
    fusion.stop()


def test_a_stop_before_the_start_is_obeyed(tmp_path, make):
    server = FusionServer(make.config(tmp_path))
    server.stop()
    server.run(on_ready=lambda port: pytest.fail("it served"))


def test_a_taken_port_is_an_os_error(tmp_path, make):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = FusionServer(make.config(tmp_path, port=taken.getsockname()[1]))
        with pytest.raises(OSError, match="in use"):
            server.run(on_ready=lambda port: None)


def test_numbers_are_there_before_and_during_the_service(tmp_path, make):
    server = FusionServer(make.config(tmp_path))
    assert (server.get_totals(), server.owes_work(), server.counters()["requests"]) == ({}, False, 0)
    fusion = make.fusion(make.config(tmp_path))
    try:
        make.agent(fusion).push(make.update(5, b"/", [make.row(b"a")]))
        counters = fusion.server.counters()
        assert counters["rows_applied"] == 1
        assert counters["requests"] == 2
        assert counters["commits"] == 2
        until(lambda: not fusion.server.owes_work(), within_s=30, what="no work is owed")
    finally:
        fusion.stop()
