"""
What goes wrong on the public Fusion 0.8.17 does not go wrong here.

Each test speaks as a released agent does, over HTTP, and is named by what it proves.
"""

import json
import time
from typing import Any

import pytest
import requests

from fustor_fusion import public, rules

OLD_S, NEW_S = 1_600_000_000.0, 1_700_000_000.0


class Stock:
    """A released agent: one session, and what it pushes there."""

    def __init__(self, fusion, name: str = "stock", **options: object) -> None:
        self.fusion = fusion
        response = fusion.post("session/", {"task_id": f"{name}:pipe", "source_type": "fs", **options})
        assert response.status_code == 200, response.text
        self.id: str = response.json()["session_id"]
        self.role: str = response.json()["role"]

    def push(self, source_type: str, *events: object, is_end: bool = False, **more: object) -> requests.Response:
        body = {"session_id": self.id, "source_type": source_type, "is_end": is_end, "events": list(events), **more}
        return self.fusion.agent.post(f"{self.fusion.base}/pipe/ingest/{self.id}/events", data=json.dumps(body))

    def must(self, source_type: str, *events: object, is_end: bool = False, **more: object) -> dict[str, Any]:
        response = self.push(source_type, *events, is_end=is_end, **more)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def snapshot(self, *rows: object) -> None:
        self.must("snapshot", *([up("snapshot", *rows)] if rows else []), is_end=True)
        self.beat(can_realtime=True)

    def beat(self, *, can_realtime: bool = False) -> requests.Response:
        return self.fusion.post(f"session/{self.id}/heartbeat", {"can_realtime": can_realtime})

    def close(self) -> None:
        self.fusion.agent.delete(f"{self.fusion.base}/pipe/session/{self.id}")


def up(source: str, *rows: object) -> dict[str, object]:
    return {"event_type": "update", "fields": [], "rows": list(rows), "event_schema": "fs", "table": "files",
            "message_source": source}


def gone(*paths: str) -> dict[str, object]:
    return up("realtime", *({"path": path} for path in paths)) | {"event_type": "delete"}


def row(path: str, mtime_s: float = OLD_S, *, directory: bool = False, **more: object) -> dict[str, object]:
    return {"path": path, "file_name": path.rpartition("/")[2], "size": 1, "modified_time": mtime_s,
            "created_time": mtime_s, "is_directory": directory, **more}


def paths(fusion) -> list[str]:
    return [json.loads(line)["path"] for line in fusion.get("p/export").text.splitlines()]


def age(fusion) -> None:
    """Make everything that is stored old: an audit spares what came shortly before it."""
    store = fusion.server._serving.views["p"].store
    store.submit(lambda writer, careful: writer.db.execute("UPDATE nodes SET idx = 1") and 1).result()
    store.submit(lambda writer, careful: writer.tree.forget()).result()


@pytest.fixture
def stock(fusion) -> Stock:
    return Stock(fusion)


# -- data that would be wrong or lost -----------------------------------------------------------


@pytest.fixture
def fake_time(fusion):
    """Seconds by which the view's clock is ahead."""
    view = fusion.server._serving.views["p"]
    real, ahead = view.clock, [0.0]
    view.clock = lambda: real() + ahead[0]
    return ahead


def test_an_agent_whose_pushes_suppress_its_heartbeats_keeps_its_session(fusion, fake_time):
    agent = Stock(fusion, session_timeout_seconds=30)
    agent.snapshot(row("/f"))
    for number in range(10):
        fake_time[0] += 20
        agent.must("message", up("realtime", row(f"/tick{number}", NEW_S)))
    assert agent.beat().json()["role"] == "leader"
    assert len(paths(fusion)) == 11


def test_a_session_that_has_expired_can_push_nothing(fusion, fake_time):
    agent = Stock(fusion, session_timeout_seconds=3)
    agent.snapshot(row("/f"))
    fake_time[0] += 4
    assert agent.push("message", up("realtime", row("/zombie", NEW_S))).status_code == 419
    assert agent.beat().status_code == 419
    assert paths(fusion) == ["/f"]


def test_a_view_without_agents_keeps_what_it_holds_and_says_that_it_is_not_current(fusion, stock):
    stock.snapshot(row("/f"))
    stock.close()
    answer = fusion.get("p/tree")
    assert [child["path"] for child in answer.json()["children"]] == ["/f"]
    assert answer.headers["X-Fustor-Current"] == "false"
    assert "no agent" in answer.headers["X-Fustor-Not-Current-Because"]


@pytest.mark.parametrize("fault", ["malformed", "too long", "bad row"])
def test_an_audit_of_which_a_call_was_refused_deletes_no_file(tmp_path, make, fault):
    fusion = make.fusion(make.config(tmp_path, max_body_bytes=20_000))
    try:
        stock = Stock(fusion)
        stock.snapshot(row("/d", directory=True), row("/d/a"), row("/d/b"))
        age(fusion)
        stock.must("audit", up("audit", row("/d", directory=True)), up("audit", row("/d/a")))
        if fault == "malformed":
            assert stock.push("audit", {"no": "event"}).status_code == 422
        elif fault == "too long":
            assert stock.push("audit", up("audit", row("/d/b", x="x" * 30_000))).status_code == 413
        else:
            assert len(stock.must("audit", up("audit", row("/d/b", size="many")))["refused"]) == 1
        stock.must("audit", is_end=True)
        assert paths(fusion) == ["/d", "/d/a", "/d/b"]
        stock.must("audit", up("audit", row("/d", directory=True)), up("audit", row("/d/a")), is_end=True)
        assert paths(fusion) == ["/d", "/d/a"], "the next audit is whole again"
    finally:
        fusion.stop()


def test_an_audit_that_the_store_could_not_take_deletes_no_file(fusion, stock):
    import apsw

    stock.snapshot(row("/d", directory=True), row("/d/a"), row("/d/b"))
    age(fusion)
    stock.must("audit", up("audit", row("/d", directory=True)), up("audit", row("/d/a")))
    store = fusion.server._serving.views["p"].store
    submit = store.submit

    def fail(work, *, priority=0):
        def full(writer, careful):
            raise apsw.FullError("database or disk is full")

        store.submit = submit
        return submit(full)

    store.submit = fail
    assert stock.push("audit", up("audit", row("/d/b"))).status_code == 503
    stock.must("audit", is_end=True)
    assert paths(fusion) == ["/d", "/d/a", "/d/b"]


@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_a_wall_clock_that_is_set_keeps_nothing_from_being_removed(fusion, stock, monkeypatch, step_s):
    monkeypatch.setattr(public, "_AUDIT_GRACE_NS", 0)
    other, real_ns = Stock(fusion, "other"), time.time_ns
    stock.snapshot(row("/d", directory=True), row("/d/unseen"), row("/d/stays"))
    stock.must("message", up("realtime", row("/d/removed")))
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + step_s * 10**9)
    monkeypatch.setattr(time, "time", lambda: real_ns() / 1e9 + step_s)
    other.must("message", gone("/d/removed"))
    assert paths(fusion) == ["/d", "/d/stays", "/d/unseen"]
    stock.must("audit", up("audit", row("/d", directory=True), row("/d/stays")), is_end=True)
    assert paths(fusion) == ["/d", "/d/stays"]


def test_late_rows_of_a_scan_bring_nothing_back_below_what_is_gone(fusion, stock):
    stock.snapshot(row("/d", directory=True), row("/d/a"), row("/d/e", directory=True), row("/d/e/b"))
    stock.must("message", gone("/d"))
    stock.must("audit", up("audit", row("/d/a"), row("/d/e/b"), row("/d/e", directory=True)))
    assert paths(fusion) == []
    stock.must("message", up("realtime", row("/d/e/new")))
    assert paths(fusion) == ["/d/e/new"]


@pytest.mark.parametrize("source", ["audit", "snapshot", "on_demand_job"])
def test_late_rows_of_a_scan_do_not_remove_the_file_that_a_directory_has_become(fusion, stock, source):
    stock.snapshot(row("/d", directory=True), row("/d/a"))
    stock.must("message", gone("/d/a", "/d"), up("realtime", row("/d")))
    stock.must(source, up(source, row("/d/a")))
    assert paths(fusion) == ["/d"]
    stock.must("message", gone("/d"), up("realtime", row("/d", directory=True), row("/d/a")))
    assert paths(fusion) == ["/d", "/d/a"]


def test_an_audit_is_believed_about_a_file_that_was_replaced_unseen_by_an_older_one(fusion, stock, monkeypatch):
    stock.must("message", up("realtime", row("/x", NEW_S)))
    stock.must("audit", up("audit", row("/x", OLD_S)), is_end=True)
    assert fusion.get("p/tree", path="/x").json()["modified_time"] == NEW_S, "it may have been seen before the change"
    monkeypatch.setattr(public, "_AUDIT_GRACE_NS", 0)
    stock.must("audit", up("audit", row("/x", OLD_S)), is_end=True)
    assert fusion.get("p/tree", path="/x").json()["modified_time"] == OLD_S


def test_the_next_audit_finds_the_directory_that_a_file_has_become_unseen(fusion, stock, monkeypatch):
    monkeypatch.setattr(public, "_AUDIT_GRACE_NS", 0)
    stock.snapshot()
    stock.must("message", up("realtime", row("/d", NEW_S)))
    for _ in range(2):
        stock.must("audit", up("audit", row("/", directory=True), row("/d", directory=True), row("/d/a")), is_end=True)
    assert paths(fusion) == ["/d", "/d/a"]


def test_a_directory_that_was_made_again_unseen_is_there_after_the_next_audits(fusion, stock, monkeypatch):
    monkeypatch.setattr(public, "_AUDIT_GRACE_NS", 0)
    stock.snapshot(row("/d", directory=True), row("/d/a"))
    stock.must("message", gone("/d"))
    for _ in range(2):
        stock.must("audit", up("audit", row("/", directory=True), row("/d", directory=True), row("/d/a")), is_end=True)
    assert paths(fusion) == ["/d", "/d/a"]


def test_a_followers_audit_deletes_nothing(fusion, stock):
    stock.snapshot(row("/d", directory=True), row("/d/a"))
    age(fusion)
    follower = Stock(fusion, "other")
    assert follower.role == "follower"
    answer = follower.must("audit", up("audit", row("/d", directory=True), row("/other")), is_end=True)
    assert [("follower" in each["reason"]) for each in answer["refused"]] == [True, True]
    stock.must("audit", up("audit", row("/", directory=True)), up("audit", row("/d", directory=True,
                                                                              audit_skipped=True)), is_end=True)
    assert paths(fusion) == ["/d", "/d/a"]


def test_a_new_leader_does_not_finish_the_audit_of_one_that_is_gone(fusion, stock):
    other = Stock(fusion, "other")
    stock.snapshot(row("/d", directory=True), row("/d/a"), row("/d/b"))
    age(fusion)
    stock.must("audit", up("audit", row("/d", directory=True)), up("audit", row("/d/a")))
    stock.close()
    other.snapshot()
    other.must("audit", up("audit", row("/", directory=True)), up("audit", row("/d", directory=True,
                                                                           audit_skipped=True)), is_end=True)
    assert paths(fusion) == ["/d", "/d/a", "/d/b"]


@pytest.mark.parametrize("fault", ["malformed", "too long"])
def test_a_snapshot_whose_last_batch_was_refused_is_not_complete_and_is_made_again(tmp_path, make, fault):
    fusion = make.fusion(make.config(tmp_path, max_body_bytes=20_000))
    try:
        stock = Stock(fusion)
        if fault == "malformed":
            assert stock.push("snapshot", {"no": "event"}, is_end=True).status_code == 422
        else:
            assert stock.push("snapshot", up("snapshot", row("/f", x="x" * 30_000)), is_end=True).status_code == 413
        # A released agent sends an empty end all the same; on 419 it begins anew.
        assert stock.push("snapshot", is_end=True).status_code == 419
        assert fusion.get("p/stats").json()["current"] is False
        again = Stock(fusion)
        assert again.role == "leader"
        again.snapshot(row("/f"))
        assert (fusion.get("p/stats").json()["current"], paths(fusion)) == (True, ["/f"])
    finally:
        fusion.stop()


def test_a_file_that_is_born_before_its_audit_begins_for_fusion_stays(fusion, stock):
    stock.snapshot(row("/d", directory=True), row("/d/old"))
    # The agent has listed /d before this, but nothing of the audit has arrived.
    stock.must("message", up("realtime", row("/d/new", NEW_S)))
    stock.must("audit", up("audit", row("/d", NEW_S, directory=True)), up("audit", row("/d/old")), is_end=True)
    assert paths(fusion) == ["/d", "/d/new", "/d/old"]


@pytest.mark.parametrize(("mtime_s", "left"), [(NEW_S, ["/d", "/d/old"]), (NEW_S + 1, ["/d", "/d/new", "/d/old"])])
def test_what_an_audit_spared_is_gone_when_the_next_one_finds_its_directory_as_it_was(fusion, stock, mtime_s, left):
    stock.snapshot(row("/d", directory=True), row("/d/old"))
    stock.must("message", up("realtime", row("/d/new", NEW_S)))  # it is gone when the audit comes, and no event said so
    stock.must("audit", up("audit", row("/d", NEW_S, directory=True)), up("audit", row("/d/old")), is_end=True)
    stock.must("audit", up("audit", row("/d", mtime_s, directory=True, audit_skipped=True)), is_end=True)
    assert paths(fusion) == left


def test_what_came_after_an_audit_stays_though_the_next_one_skips_its_directory(fusion, stock):
    stock.snapshot(row("/d", directory=True), row("/d/old"))
    stock.must("audit", up("audit", row("/d", NEW_S, directory=True)), up("audit", row("/d/old")), is_end=True)
    stock.must("message", up("realtime", row("/d/new", NEW_S)))
    stock.must("audit", up("audit", row("/d", NEW_S, directory=True, audit_skipped=True)), is_end=True)
    assert paths(fusion) == ["/d", "/d/new", "/d/old"]


def test_an_old_file_that_is_renamed_away_and_back_is_there(fusion, stock):
    stock.snapshot(row("/A"))
    stock.must("message", gone("/A"), up("realtime", row("/B", OLD_S)))
    stock.must("message", gone("/B"), up("realtime", row("/A", OLD_S)))
    assert paths(fusion) == ["/A"]
    stock.must("audit", up("audit", row("/", directory=True)), up("audit", row("/A")), is_end=True)
    assert paths(fusion) == ["/A"]


@pytest.mark.parametrize("successor", ["stock", "another"])
def test_a_backup_that_replaced_a_file_while_no_agent_was_there_is_in_the_view(fusion, stock, successor):
    stock.snapshot()
    stock.must("message", up("realtime", row("/f", NEW_S, size=5)))
    stock.close()
    Stock(fusion, successor).snapshot(row("/f", OLD_S, size=7))
    assert fusion.get("p/tree", path="/f").json()["size"] == 7


def test_no_event_of_the_same_moment_is_taken_for_one_that_was_delivered(fusion, stock):
    stock.snapshot()
    for number in range(100):
        stock.must("message", up("realtime", row(f"/b{number}", NEW_S)) | {"index": 1_700_000_000_000})
    stock.must("message", *(gone(f"/b{number}") | {"index": 1_700_000_000_000} for number in range(99)))
    assert paths(fusion) == ["/b99"]


def test_one_port_serves_a_pipe_whose_view_is_called_otherwise(fusion):
    stock = Stock(fusion, name="host")
    stock.snapshot(row("/hot", is_atomic_write=False))
    stock.must("message", up("realtime", row("/hot", is_atomic_write=False)))
    assert fusion.agent.get(f"{fusion.base}/pipe/session/").json() == {"view_id": "p", "status": "authorized"}
    assert (stock.beat().status_code, stock.beat().json()["role"]) == (200, "leader")
    tasks = fusion.agent.get(f"{fusion.base}/pipe/consistency/sentinel/tasks").json()
    assert tasks == {"type": "suspect_check", "paths": ["/hot"], "view_id": "p"}
    stock.close()
    assert (stock.beat().status_code, fusion.get("p/sessions").json()["count"]) == (419, 0)


def test_a_snapshot_is_complete_only_when_all_its_rows_can_be_read(fusion, stock):
    events = [up("snapshot", *(row(f"/b/{batch}_{number}") for number in range(100))) for batch in range(100)]
    stock.must("snapshot", *events, is_end=True)
    assert fusion.get("p/stats").json()["total_files"] == 10_000


def test_a_directory_that_an_audit_skipped_once_is_listed_by_the_next(fusion, stock):
    stock.snapshot(row("/d", directory=True), row("/d/gone"))
    age(fusion)
    stock.must("audit", up("audit", row("/d", directory=True, audit_skipped=True)), is_end=True)
    assert paths(fusion) == ["/d", "/d/gone"]
    age(fusion)
    stock.must("audit", up("audit", row("/d", directory=True)), is_end=True)
    assert paths(fusion) == ["/d"]


# -- wrong answers and broken functions -----------------------------------------------------------


def test_a_large_view_answers_every_query(fusion, stock):
    rows = [row(f"/d/{number}") for number in range(100_001)]
    stock.must("snapshot", up("snapshot", *rows), is_end=True)
    assert fusion.get("p/tree", path="/d/7").json()["path"] == "/d/7"
    assert [found["path"] for found in fusion.get("p/search", pattern="/d/10000").json()] == ["/d/10000"]
    assert len(fusion.get("p/tree", path="/d").json()["children"]) == 100_001


def test_a_suspect_file_is_believed_again_by_a_second_look(fusion, stock, monkeypatch):
    stock.snapshot(row("/", directory=True))
    stock.must("message", up("realtime", row("/hot", NEW_S, is_atomic_write=False)))
    assert fusion.get("p/tree", path="/hot").json()["integrity_suspect"] is True
    assert fusion.agent.get(f"{fusion.base}/pipe/consistency/sentinel/tasks").json()["paths"] == ["/hot"]
    stock.must("audit", up("audit", row("/", directory=True)), up("audit", row("/hot", NEW_S)), is_end=True)
    assert fusion.get("p/tree", path="/hot").json()["integrity_suspect"] is True
    monkeypatch.setattr(rules, "HOT_S", 0.0)
    stock.must("audit", up("audit", row("/", directory=True)), up("audit", row("/hot", NEW_S + 1)), is_end=True)
    stock.must("audit", up("audit", row("/", directory=True)), up("audit", row("/hot", NEW_S + 1)), is_end=True)
    assert fusion.get("p/tree", path="/hot").json()["integrity_suspect"] is False


def test_nobody_can_empty_a_view(fusion, stock):
    stock.snapshot(row("/f"))
    for client in (fusion.reader, fusion.agent):
        assert client.delete(f"{fusion.base}/views/p/reset").status_code in (404, 405)
    assert paths(fusion) == ["/f"]


def test_a_file_that_a_sentinel_misses_keeps_its_values(fusion, stock):
    stock.snapshot()
    stock.must("message", up("realtime", row("/hot", NEW_S, is_atomic_write=False)))
    updates = [{"path": "/hot", "mtime": 0.0, "status": "missing"}, {"path": "/hot", "mtime": "zz"}]
    answer = fusion.post("consistency/sentinel/feedback", {"type": "suspect_update", "updates": updates})
    assert answer.status_code == 200
    assert fusion.get("p/tree", path="/hot").json()["modified_time"] == NEW_S


@pytest.mark.parametrize("poison", [
    {"path": "/caf\udce9", "size": 1, "modified_time": 1, "is_directory": False},
    {"path": "/s", "size": "12", "modified_time": 1, "is_directory": False},
    {"path": "/s", "size": 1 << 64, "modified_time": 1, "is_directory": False},
    {"path": "/n", "modified_time": None, "is_directory": True},
    {"path": "/n", "modified_time": float("nan"), "is_directory": True},
    {"path": "/n", "modified_time": 1, "is_directory": "false"},
    {"path": 7}, "text", None, 7, {"path": ["/x"]}])
def test_a_poisonous_row_spoils_no_other_row_and_no_answer(fusion, stock, poison):
    stock.snapshot(row("/f"))
    stock.must("message", up("realtime", row("/before", NEW_S), poison, row("/after", NEW_S)))
    for query in ("tree", "stats", "search?pattern=", "export"):
        assert fusion.get(f"p/{query}").status_code == 200
    assert {"/before", "/after", "/f"} <= set(paths(fusion))


def test_any_number_of_bad_events_switches_nothing_off(fusion, stock):
    stock.snapshot()
    bad = [up("realtime"), up("realtime", row("/x")) | {"event_schema": "sql"}, up("realtime", "no row")]
    for _ in range(20):
        stock.must("message", *bad)
    stock.must("message", up("realtime", row("/after", NEW_S)))
    assert paths(fusion) == ["/after"]


def test_an_old_file_does_not_shift_the_clock_by_which_deletions_are_kept(fusion, stock):
    stock.snapshot(row("/gone", NEW_S))
    for number in range(50):
        stock.must("message", up("realtime", row(f"/old{number}", 1_000_000_000.0)))
    stock.must("message", gone("/gone"))
    stock.must("audit", up("audit", row("/gone", NEW_S)))
    assert "/gone" not in paths(fusion)


def test_a_question_for_a_path_without_its_first_slash_is_refused(fusion, stock):
    stock.snapshot(row("/f"))
    assert (stock.role, [fusion.get("p/tree", path=path).status_code for path in ("f", "/f", "")]) == (
        "leader", [422, 200, 422])


def test_old_files_do_not_make_a_view_look_years_behind(fusion, stock):
    stock.snapshot(row("/d", directory=True), row("/d/f"))
    stock.must("message", up("realtime", row("/d/g")))
    stats = fusion.get("p/stats").json()
    assert (stats["latency_ms"], stats["staleness_seconds"], stats["oldest_item_path"]) == (0.0, 0.0, None)


def test_no_call_works_without_a_key_and_a_readers_key_changes_nothing(fusion, stock):
    stock.snapshot(row("/f"))
    body = json.dumps({"events": [up("realtime", row("/x"))]})
    calls = [("POST", f"pipe/session/{stock.id}/heartbeat", "{}"), ("DELETE", f"pipe/session/{stock.id}", None),
             ("POST", f"pipe/ingest/{stock.id}/events", body), ("POST", "pipe/session/", '{"task_id": "a:b"}'),
             ("PUT", "views/p/suspect-list", '{"updates": [{"path": "/f", "mtime": 5}]}')]
    reads = [("GET", f"views/p/{name}", None) for name in ("tree", "stats", "export", "sessions", "jobs")]
    with requests.Session() as nobody:
        nobody.trust_env = False
        for method, path, data in calls + reads:
            assert nobody.request(method, f"{fusion.base}/{path}", data=data).status_code == 401
        for method, path, data in calls:
            assert fusion.reader.request(method, f"{fusion.base}/{path}", data=data).status_code == 401
        for path in ("pipe/pipes", "management/views"):
            assert nobody.get(f"{fusion.base}/{path}").status_code in (401, 404)
    assert (paths(fusion), stock.beat().json()["role"]) == (["/f"], "leader")


@pytest.mark.parametrize("update", [{"path": "/x", "mtime": "zz"}, {"path": 5, "mtime": 1}, {"mtime": 1}, "x", None])
def test_an_update_of_suspects_that_is_malformed_is_refused_and_changes_nothing(fusion, stock, update):
    stock.snapshot()
    stock.must("message", up("realtime", row("/x", is_atomic_write=False)))
    before = fusion.get("p/export").text
    good = {"path": "/x", "mtime": NEW_S}
    answer = fusion.agent.put(f"{fusion.base}/views/p/suspect-list", data=json.dumps({"updates": [good, update]}))
    assert (answer.status_code, "detail" in answer.json()) == (422, True)
    assert fusion.get("p/export").text == before


@pytest.mark.parametrize("path", ["/../other", "/a/../../other", "/..", "/./../other/."])
def test_a_scan_never_names_a_place_above_the_root(fusion, stock, path):
    stock.snapshot()
    fusion.get("p/tree", path=path, on_demand_scan="true")
    (command,) = stock.beat().json()["commands"]
    assert command["path"] in ("/other", "/")


def test_rows_that_come_with_a_completion_notice_are_kept(fusion, stock):
    stock.snapshot()
    stock.must("on_demand_job", up("on_demand_job", row("/x")), metadata={"scan_path": "/x"})
    assert paths(fusion) == ["/x"]


def test_a_scan_is_complete_when_the_last_one_that_owes_a_report_is_gone(fusion, stock):
    stock.snapshot()
    other = Stock(fusion, "other")
    job = fusion.get("p/tree", on_demand_scan="true").json()["job_id"]
    stock.must("job_complete", metadata={"scan_path": "/", "job_id": job})
    assert fusion.get(f"p/jobs/{job}").json()["status"] == "PENDING"
    other.close()
    assert fusion.get(f"p/jobs/{job}").json()["status"] == "COMPLETED"


def test_no_path_is_there_twice_and_the_root_stays_a_directory(fusion, stock):
    stock.snapshot()
    stock.must("message", up("realtime", row("/p"), row("/p/c"), row("/")))
    found = paths(fusion)
    assert len(found) == len(set(found))
    root = fusion.get("p/tree").json()
    assert (root["path"], root["content_type"]) == ("/", "directory")
    assert [child["path"] for child in root["children"]] == ["/p"]
    assert fusion.get("p/stats").status_code == 200
