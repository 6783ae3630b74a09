import contextlib
import socket
import threading

import apsw
import msgspec
import pytest
from fake_runtime import FakeRuntime

from fustor_agent.reports import FusionReport
from fustor_fusion.worker import serve
from waiting import until

DEADLINE_S = 30.0


def run_worker(config, describe, listener=None):
    runtime = FakeRuntime()
    thread = threading.Thread(target=serve, args=(runtime, config), kwargs={"describe": describe, "listener": listener})
    thread.start()
    until(lambda: runtime.is_ready, within_s=DEADLINE_S, what="the server")
    return runtime, thread


def test_it_accepts_on_the_socket_that_it_was_given(tmp_path, make):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        runtime, thread = run_worker(make.config(tmp_path, port=1), lambda server: b"", listener)
        try:
            with socket.create_connection(listener.getsockname(), timeout=DEADLINE_S) as client:
                client.sendall(b"GET /api/v1/views/p/stats HTTP/1.1\r\nHost: localhost\r\n"
                               b"X-API-Key: reader-key\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.1 200"
        finally:
            runtime.stop()
            thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_a_server_that_does_not_answer_owes_work(tmp_path, make):
    answers = iter([True, False, True])
    held = threading.Event()

    def describe(server):
        if next(answers, True):
            return msgspec.msgpack.encode(FusionReport(views=server.get_totals()))
        # What the report asks is real: the loop sleeps, as in a call that never comes back.
        server._serving._loop.call_soon_threadsafe(lambda: held.wait(DEADLINE_S))
        try:
            server.describe_views(0.01)
        finally:
            held.set()

    runtime, thread = run_worker(make.config(tmp_path), describe)
    try:
        until(lambda: len(runtime.reports) >= 3, within_s=DEADLINE_S, what="three reports")
        assert [report.owed for report in runtime.reports[:3]] == [False, True, False]
        assert runtime.reports[1].report.views.keys() == {"p"}, "what was said last stays"
    finally:
        runtime.stop()
        thread.join(DEADLINE_S)


def test_a_database_that_takes_its_time_to_open_is_told_about_until_it_is_open(tmp_path, make):
    make.fusion(make.config(tmp_path)).stop()
    runtime = FakeRuntime()
    with contextlib.closing(apsw.Connection(str(tmp_path / "fusion-p.db"))) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        thread = threading.Thread(target=serve, args=(runtime, make.config(tmp_path)),
                                  kwargs={"describe": lambda server: b""})
        thread.start()
        until(lambda: runtime.reports, within_s=DEADLINE_S, what="a report")
    try:
        assert (runtime.reports[0].phase, list(runtime.reports[0].counters)) == ("opening", ["opening_ms"])
        until(lambda: runtime.is_ready, within_s=DEADLINE_S, what="the server")
        until(lambda: runtime.reports[-1].phase == "serving", within_s=DEADLINE_S, what="it to say that it serves")
    finally:
        runtime.stop()
        thread.join(DEADLINE_S)


def test_views_are_described_as_they_stand(tmp_path, make):
    fusion = make.fusion(make.config(tmp_path, views=("p", "q")))
    try:
        before = fusion.server.describe_views(DEADLINE_S)["p"]
        assert (before.sessions, before.leader, before.not_current_because) == (0, None, "no agent is connected")
        agent = make.agent(fusion, name="a")
        agent.beat()
        agent.snapshot(make.update(5, b"/", [make.row(b"x", size=7)]))
        views = fusion.server.describe_views(DEADLINE_S)
        assert (views["p"].files, views["p"].bytes, views["p"].sessions, views["p"].leader, views["p"].current) == (
            1, 7, 1, "a", True)
        assert views["q"].files == 0
    finally:
        fusion.stop()
    with pytest.raises(TimeoutError):
        fusion.server.describe_views(0.01)
