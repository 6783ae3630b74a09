"""What a key opens and what it does not, over a real socket, while the keys change."""

import threading

import pytest
import requests

from fustor_fusion.keyfile import Role, add_key, revoke_key


class Keyed:
    """A Fusion with several views whose keys are in a file."""

    def __init__(self, folder, make, views=("a", "b"), **settings):
        self.path = folder / "keys.json"
        self.fusion = make.fusion(make.config(
            folder, views=views, agent_key=None, reader_key=None, keys_file=self.path, **settings))

    def add(self, role, *views):
        key, secret = add_key(self.path, role, views, note="", created_at="")
        return key.id, secret

    def ask(self, secret, path, body=None, method=None):
        with requests.Session() as client:
            client.trust_env = False
            return client.request(method or ("GET" if body is None else "POST"), f"{self.fusion.base}/{path}",
                                  headers={"X-API-Key": secret}, json=body)

    def open(self, secret, task_id="host:p"):
        return self.ask(secret, "pipe/session/", {"task_id": task_id})


@pytest.fixture
def keyed(tmp_path, make):
    running = Keyed(tmp_path, make)
    yield running
    running.fusion.stop()


def push(seq=1, name="x"):
    row = {"path": f"/{name}{seq}", "file_name": f"{name}{seq}", "size": 1, "modified_time": 1.0, "is_directory": False}
    return {"events": [{"event_type": "update", "fields": list(row), "rows": [row], "event_schema": "fs",
                        "table": "files", "message_source": "realtime"}], "source_type": "message"}


def test_a_key_is_taken_from_the_next_request_on_and_refused_from_the_next_request_on(keyed):
    assert keyed.ask("x", "views/a/stats").status_code == 401
    id_, secret = keyed.add(Role.READER, "a")
    assert keyed.ask(secret, "views/a/stats").status_code == 200
    revoke_key(keyed.path, id_)
    assert keyed.ask(secret, "views/a/stats").status_code == 401


def test_a_key_for_one_view_reads_no_other(keyed):
    id_, secret = keyed.add(Role.READER, "a")
    for path in ("stats", "tree", "search?pattern=*", "export", "sessions", "jobs", "jobs/1"):
        refused = keyed.ask(secret, f"views/b/{path}")
        assert (refused.status_code, refused.json()["detail"]) == (403, f'key {id_} is not for view "b"; it is for a')
    assert keyed.ask(secret, "views/c/stats").status_code == 404


def test_a_key_for_one_view_does_nothing_to_a_session_of_another(keyed):
    _, own = keyed.add(Role.AGENT, "a")
    _, foreign = keyed.add(Role.AGENT, "b")
    sid = keyed.open(own).json()["session_id"]
    calls = [(f"pipe/session/{sid}/heartbeat", {}), (f"pipe/session/{sid}/barrier", {"token": "t"}),
             (f"pipe/ingest/{sid}/events", push()), (f"pipe/ingest/{sid}/batch", {})]
    for path, body in calls:
        refused = keyed.ask(foreign, path, body)
        assert (refused.status_code, '"a"' in refused.json()["detail"]) == (403, True), path
    assert keyed.ask(foreign, f"pipe/session/{sid}/commands").status_code == 403
    assert keyed.ask(foreign, f"pipe/session/{sid}", method="DELETE").status_code == 403
    assert keyed.ask(own, f"pipe/session/{sid}/heartbeat", {}).json()["role"] == "leader"
    assert keyed.ask(own, f"pipe/ingest/{sid}/events", push()).json()["count"] == 1
    assert keyed.ask(own, "views/a/stats").json()["total_files"] == 1
    assert keyed.ask(foreign, "views/b/stats").json()["total_files"] == 0


def test_a_key_for_one_view_pushes_into_it_whatever_the_task_is_called(keyed):
    _, secret = keyed.add(Role.AGENT, "b")
    sid = keyed.open(secret, "host:a").json()["session_id"]
    keyed.ask(secret, f"pipe/ingest/{sid}/events", push())
    assert keyed.ask(secret, "views/b/stats").json()["total_files"] == 1
    assert keyed.ask(secret, "pipe/session/").json() == {"view_id": "b", "status": "authorized"}


def test_with_a_key_for_several_views_the_task_names_the_view(tmp_path, make):
    keyed = Keyed(tmp_path, make, views=("a", "b", "c"))
    try:
        id_, secret = keyed.add(Role.AGENT, "a", "b")
        for view in ("a", "b"):
            sid = keyed.open(secret, f"host:{view}").json()["session_id"]
            keyed.ask(secret, f"pipe/ingest/{sid}/events", push(name=view))
            assert [child["path"] for child in keyed.ask(secret, f"views/{view}/tree").json()["children"]] == [
                f"/{view}1"]
        unknown = keyed.open(secret, "host:elsewhere")
        assert unknown.status_code == 409
        assert unknown.json()["detail"].endswith("must be a view: a, b")
        foreign = keyed.open(secret, "host:c")
        assert foreign.status_code == 403
        assert foreign.json()["detail"] == f'key {id_} is not for view "c"; it is for a, b'
    finally:
        keyed.fusion.stop()


def test_a_key_for_views_that_are_not_served_is_told_so(keyed):
    _, secret = keyed.add(Role.AGENT, "gone")
    refused = keyed.open(secret)
    assert (refused.status_code, "none of these is served here" in refused.json()["detail"]) == (409, True)
    assert keyed.ask(secret, "pipe/session/").json()["view_id"] is None


def test_a_readers_key_never_pushes(keyed):
    _, secret = keyed.add(Role.READER, "a")
    assert keyed.open(secret).status_code == 401


def test_the_sessions_of_a_revoked_key_end_at_once_and_the_next_agent_leads(keyed):
    first, revoked = keyed.add(Role.AGENT, "a")
    _, kept = keyed.add(Role.AGENT, "a")
    leader = keyed.open(revoked).json()["session_id"]
    follower = keyed.open(kept).json()["session_id"]
    polls = []
    thread = threading.Thread(target=lambda: polls.append(
        keyed.ask(revoked, f"pipe/session/{leader}/commands?wait=60").status_code))
    thread.start()
    revoke_key(keyed.path, first)
    sessions = keyed.ask(kept, "views/a/sessions").json()["active_sessions"]
    assert [(session["session_id"], session["role"]) for session in sessions] == [(follower, "leader")]
    thread.join(30)
    assert polls in ([404], [401])  # it was waiting, or came after
    assert keyed.ask(kept, f"pipe/session/{leader}/heartbeat", {}).status_code == 419


def test_a_key_that_was_revoked_while_fusion_was_away_has_no_session_when_it_is_back(tmp_path, make):
    first = Keyed(tmp_path, make)
    id_, secret = first.add(Role.AGENT, "a")
    _, kept = first.add(Role.AGENT, "a")
    first.open(secret)
    sid = first.open(kept).json()["session_id"]
    first.fusion.stop()
    revoke_key(first.path, id_)
    second = Keyed(tmp_path, make)
    try:
        sessions = second.ask(kept, "views/a/sessions").json()["active_sessions"]
        assert [(session["session_id"], session["role"]) for session in sessions] == [(sid, "leader")]
    finally:
        second.fusion.stop()


def test_a_key_file_that_cannot_be_read_is_a_503_and_ends_no_session(tmp_path, make):
    first = Keyed(tmp_path, make)
    _, secret = first.add(Role.AGENT, "a")
    sid = first.open(secret).json()["session_id"]
    whole = first.path.read_bytes()
    first.path.write_bytes(b"{")
    assert first.ask(secret, f"pipe/session/{sid}/heartbeat", {}).status_code == 200, "what was known stays known"
    first.fusion.stop()
    second = Keyed(tmp_path, make)
    try:
        unsure = second.ask(secret, f"pipe/session/{sid}/heartbeat", {})
        assert (unsure.status_code, "is no key file" in unsure.json()["detail"]) == (503, True)
        second.path.write_bytes(whole)
        assert second.ask(secret, f"pipe/session/{sid}/heartbeat", {}).json()["role"] == "leader"
    finally:
        second.fusion.stop()


def test_names_that_are_allowed_may_stand_in_the_header_host(tmp_path, make):
    fusion = make.fusion(make.config(tmp_path, allowed_hosts=("Fusion.Example.org",)))
    try:
        for host, status in (("fusion.example.org", 200), ("FUSION.example.org:8102", 200), ("other.example.org", 403)):
            answer = fusion.reader.get(f"{fusion.base}/views/p/stats", headers={"Host": host})
            assert answer.status_code == status, host
    finally:
        fusion.stop()
