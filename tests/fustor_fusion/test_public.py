import json
import stat

import pytest

from fustor_fusion.public import convert_row


@pytest.fixture
def push(fusion):
    session_id = fusion.post("session/", {"task_id": "stock:any"}).json()["session_id"]

    def push(source_type: str, *events: dict, is_end: bool = False, metadata: dict | None = None) -> dict:
        body = {"session_id": session_id, "source_type": source_type, "is_end": is_end, "events": list(events)}
        if metadata is not None:
            body["metadata"] = metadata
        response = fusion.post(f"ingest/{session_id}/events", body)
        assert response.status_code == 200, response.text
        return response.json()

    push.session_id = session_id
    return push


def event(source: str, *rows: object, kind: str = "update", schema: str = "fs") -> dict:
    return {"event_type": kind, "fields": [], "rows": list(rows), "event_schema": schema, "table": "files",
            "message_source": source, "index": 1795309852155}


def row(path: str, mtime: float = 1.5, *, directory: bool = False, **more: object) -> dict:
    return {"path": path, "file_name": "x", "size": 3, "modified_time": mtime, "created_time": 2.5,
            "is_directory": directory} | more


def list_paths(fusion) -> list[str]:
    return [json.loads(line)["path"] for line in fusion.get("p/export").text.splitlines()]


def test_a_stock_agents_life_ends_in_the_view(fusion, push):
    heartbeat = fusion.post(f"session/{push.session_id}/heartbeat", {"can_realtime": False}).json()
    assert heartbeat == {"status": "ok", "role": "leader", "message": None, "can_realtime": None, "commands": []}
    assert push("snapshot", event("snapshot", row("/", directory=True), row("/c", directory=True), row("/c/f")),
                is_end=True) == {"status": "ok", "count": 1, "refused": []}
    push("snapshot", is_end=True)
    push("message", event("realtime", row("/new", 1795309852.92)), event("realtime", {"path": "/c/f"}, kind="delete"))
    fusion.post(f"session/{push.session_id}/heartbeat", {"can_realtime": True})
    assert list_paths(fusion) == ["/c", "/new"]
    stats = fusion.get("p/stats").json()
    assert stats["current"] is True
    assert fusion.get("p/tree", path="/new").json()["modified_time"] == 1795309852.92


def test_bad_rows_are_refused_one_by_one_and_never_the_batch(fusion, push):
    rows = [row("/ok"), "text", {"size": 1}, row("/s", size="12"), row("/b", size=1 << 70), row("/m", mtime="x"),
            row("/n\0"), row("", 1.0), {"path": None}, row("/big", 1e300), row("/also")]
    answer = push("message", event("realtime", *rows), event("realtime", row("/x"), schema="sql"), event("realtime"))
    assert (answer["count"], len(answer["refused"])) == (3, 10)
    assert all(refused["reason"] for refused in answer["refused"])
    assert list_paths(fusion) == ["/also", "/ok"]


def test_a_lone_surrogate_is_refused_and_spoils_no_answer(fusion, push):
    body = json.dumps({"events": [event("realtime", row("/caf\udce9"), row("/ok"))]})
    url = f"{fusion.base}/pipe/ingest/{push.session_id}/events"
    response = fusion.agent.post(url, data=body.encode())
    assert (response.status_code, len(response.json()["refused"])) == (200, 1)
    assert [child["path"] for child in fusion.get("p/tree").json()["children"]] == ["/ok"]


def test_times_may_be_missing_and_paths_are_made_normal(fusion, push):
    push("message", event("realtime", {"path": "a//b/../c"}, {"file_path": "/d/", "is_dir": True}))
    assert list_paths(fusion) == ["/a/c", "/d"]
    assert fusion.get("p/tree", path="/a/c").json()["modified_time"] == 0.0


def test_a_deletion_and_a_new_row_in_one_body_leave_the_row(fusion, push):
    push("message", event("realtime", row("/a")))
    push("message", event("realtime", {"path": "/a"}, kind="delete"), event("realtime", row("/a", 1.0)))
    assert list_paths(fusion) == ["/a"]


def test_a_scan_does_not_bring_back_what_realtime_deleted(fusion, push):
    push("message", event("realtime", {"path": "/a"}, kind="delete"))
    push("snapshot", event("snapshot", row("/a")))
    assert list_paths(fusion) == []


def test_a_scan_does_not_overwrite_what_realtime_saw_unless_it_is_newer(fusion, push):
    push("message", event("realtime", row("/a", 5.0, size=1)))
    push("snapshot", event("snapshot", row("/a", 4.0, size=2)))
    assert fusion.get("p/tree", path="/a").json()["size"] == 1
    push("snapshot", event("snapshot", row("/a", 6.0, size=2)))
    assert fusion.get("p/tree", path="/a").json()["size"] == 2


@pytest.fixture
def old_tree(fusion, push):
    """Rows that came long before the audit."""
    push("snapshot", event("snapshot", row("/d", directory=True), row("/d/stays"), row("/d/gone"),
                           row("/skipped", directory=True), row("/skipped/kept")), is_end=True)
    view = fusion.server._serving.views["p"]
    view.store.submit(lambda writer, careful: writer.db.execute("UPDATE nodes SET idx = 1") and 1).result()
    view.store.submit(lambda writer, careful: writer.tree.forget()).result()


def test_an_audit_removes_what_its_directories_do_not_hold_any_more(fusion, push, old_tree):
    push("audit", event("audit", row("/d", directory=True)),
         event("audit", row("/d/stays", parent_path="/srv/d", parent_mtime=1.5)),
         event("audit", row("/skipped", directory=True, audit_skipped=True)))
    assert "/d/gone" in list_paths(fusion)
    push("message", event("realtime", row("/d/born")))
    push("audit", is_end=True)
    assert fusion.post("consistency/audit/end").json()["status"] == "audit_ended"
    assert list_paths(fusion) == ["/d", "/d/born", "/d/stays", "/skipped", "/skipped/kept"]
    assert fusion.get("p/stats").json()["audit_cycle_count"] == 1


def test_an_audit_of_which_a_part_was_refused_removes_nothing(fusion, push, old_tree):
    push("audit", event("audit", row("/d", directory=True)))
    response = fusion.post(f"ingest/{push.session_id}/events", {"source_type": "audit", "events": [{"bad": 1}]})
    assert response.status_code == 422
    push("audit", is_end=True)
    assert "/d/gone" in list_paths(fusion)


def test_a_session_that_joins_cancels_the_audit(fusion, push, old_tree):
    push("audit", event("audit", row("/d", directory=True)))
    fusion.post("session/", {"task_id": "other:p"})
    push("audit", is_end=True)
    assert "/d/gone" in list_paths(fusion)


def test_an_end_without_an_audit_does_nothing(fusion, push, old_tree):
    push("audit", is_end=True)
    assert len(list_paths(fusion)) == 5


def test_a_completion_notice_completes_its_job_and_keeps_its_rows(fusion, push):
    job_id = fusion.get("p/tree", on_demand_scan="true").json()["job_id"]
    answer = push("job_complete", metadata={"scan_path": "/", "job_id": job_id})
    assert answer == {"status": "ok", "phase": "job_complete"}
    assert fusion.get(f"p/jobs/{job_id}").json()["status"] == "COMPLETED"
    push("on_demand_job", event("on_demand_job", row("/x")), metadata={"scan_path": "/x"})
    assert list_paths(fusion) == ["/x"]


def test_the_consistency_calls_answer_as_a_stock_agent_expects(fusion):
    assert fusion.post("consistency/audit/start").json() == {"status": "audit_started", "drivers_handled": 1}
    assert fusion.get("p/stats").json()["is_auditing"] is True
    tasks = fusion.agent.get(fusion.base + "/pipe/consistency/sentinel/tasks")
    assert tasks.json() == {}, "nothing is suspect"
    feedback = {"type": "suspect_update", "updates": [{"path": "/x", "mtime": "zz"}]}
    assert fusion.post("consistency/sentinel/feedback", feedback).json()["status"] == "processed"
    assert fusion.post("consistency/sentinel/feedback", {"type": "x"}).json()["status"] == "ignored"
    assert fusion.post("consistency/sentinel/feedback", [1]).status_code == 422


def test_a_row_keeps_its_nanoseconds_as_far_as_a_float_does():
    made = convert_row(b'{"path":"/a","size":2,"modified_time":-1.5,"is_directory":true,"is_atomic_write":false}')
    assert (made.path, made.mtime_ns, made.ctime_ns, made.is_directory, made.is_atomic_write) == (
        b"/a", -1_500_000_000, -1_500_000_000, True, False)
    assert stat.S_ISREG(convert_row(b'{"path":"/a"}').mode)
