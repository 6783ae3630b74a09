"""Files that may still be written are looked at again, by agents of ours and by public ones."""

import base64

import pytest

from fustor_event_model import DeleteEvent, FsPath, FsRow, MessageSource, UpdateEvent
from fustor_fusion import rules

SENTINEL = MessageSource.SENTINEL
TASKS = "consistency/sentinel/tasks"


def see(index, *names, lane=MessageSource.REALTIME, size=5, closed=False):
    made = [FsRow(name, size, 1_500_000_123, 0, 0o100644, 0, 0, 1, 7, 1, None, closed) for name in names]
    return UpdateEvent(index=index, message_source=lane, event_schema="fs", table="files", rows=made, prefix=b"/")


@pytest.fixture
def agent(fusion, make):
    agent = make.agent(fusion)
    agent.snapshot()
    return agent


@pytest.fixture
def tasks(fusion):
    return lambda: fusion.agent.get(f"{fusion.base}/pipe/{TASKS}").json()


@pytest.fixture
def tell(fusion):
    def tell(*updates):
        answer = fusion.post("consistency/sentinel/feedback", {"type": "suspect_update", "updates": list(updates)})
        assert answer.status_code == 200, answer.text
        return answer.json()

    return tell


def suspects(fusion):
    return [each["path"] for each in fusion.get("p/suspect-list").json()]


def look_patiently(monkeypatch):
    """Let every second look be late enough."""
    monkeypatch.setattr(rules, "HOT_S", 0.0)


def test_suspects_are_tasks_of_public_agents_but_for_names_that_they_could_not_find(agent, tasks):
    assert tasks() == {}
    agent.push(see(20, b"a", b"b", b"\xff"), see(20, b"c", closed=True))
    found = tasks()
    assert (found["type"], found["view_id"], sorted(found["paths"])) == ("suspect_check", "p", ["/a", "/b"])


def test_a_file_that_is_unchanged_for_long_enough_is_no_suspect_any_more(agent, fusion, tell, monkeypatch):
    agent.push(see(20, b"a", b"b"))
    unchanged = [{"path": path, "mtime": 1.500000123, "size": 5, "status": "exists"} for path in ("/a", "/b")]
    assert tell(*unchanged) == {"status": "processed", "drivers_updated": 1}
    assert suspects(fusion) == ["/a", "/b"], "so soon this says nothing"
    look_patiently(monkeypatch)
    tell(unchanged[0])
    assert suspects(fusion) == ["/b"]
    agent.push(see(30, b"b", lane=SENTINEL), lane="sentinel")
    assert suspects(fusion) == []


def test_a_file_that_has_changed_gets_its_new_values_and_stays_a_suspect(agent, fusion, tell, monkeypatch):
    look_patiently(monkeypatch)
    agent.push(see(20, b"a"))
    monkeypatch.setattr(rules, "HOT_S", 30.0)
    tell({"path": "/a", "mtime": 9.5, "size": 6})
    node = fusion.get("p/tree", path="/a").json()
    assert (node["size"], node["modified_time"], node["integrity_suspect"]) == (6, 9.5, True)


@pytest.mark.parametrize("bad", [
    {"path": "/a", "mtime": 0.0, "status": "missing"}, {"path": "/a", "mtime": "zz"}, {"path": 7, "mtime": 1.0},
    {"mtime": 1.0}, "text", None, {"path": "/closed", "mtime": 9.0}, {"path": "/none/such", "mtime": 9.0},
    {"path": "/", "mtime": 9.0}, {"path": "", "mtime": 1.0}, {"path": "/a", "mtime": 1e300}])
def test_a_bad_or_needless_update_changes_nothing_and_spoils_no_other(agent, fusion, tell, monkeypatch, bad):
    agent.push(see(20, b"a", b"b"), see(20, b"closed", closed=True))
    before = fusion.get("p/export").text
    assert tell(bad) == {"status": "processed", "drivers_updated": 0}
    assert fusion.get("p/export").text == before
    look_patiently(monkeypatch)
    tell(bad, {"path": "/b", "mtime": 1.500000123, "size": 5})
    assert suspects(fusion) == ["/a"]


@pytest.mark.parametrize("name", ["mtime", "current_mtime"])
def test_anybody_with_an_agents_key_may_say_when_a_suspect_was_changed(agent, fusion, monkeypatch, name):
    def put(*updates):
        answer = fusion.agent.put(f"{fusion.base}/views/p/suspect-list", json={"updates": list(updates)})
        assert (answer.status_code, answer.headers["X-Fustor-Current"]) == (200, "false")
        return answer.json()

    agent.push(see(20, b"a", b"b"), see(20, b"closed", closed=True))
    look_patiently(monkeypatch)
    assert put({"path": "/a", name: 1.500000123}, {"path": "/closed", name: 1.0}, {"path": "/none", name: 1.0},
               {"path": "/b"}) == {"view_id": "p", "updated_count": 1, "status": "ok"}
    put({"path": "/a", name: 1.500000123})
    assert suspects(fusion) == ["/b"]
    monkeypatch.setattr(rules, "HOT_S", 30.0)
    put({"path": "/b", name: 9.5})
    node = fusion.get("p/tree", path="/b").json()
    assert (node["size"], node["modified_time"], node["integrity_suspect"]) == (5, 9.5, True)


def test_a_file_that_a_sentinel_of_ours_finds_gone_is_gone(agent, fusion):
    agent.push(see(20, b"a"))
    agent.push(DeleteEvent(index=30, message_source=SENTINEL, event_schema="fs", table="files",
                           rows=[FsPath(b"/a")]), lane="sentinel")
    assert suspects(fusion) == []
    assert fusion.get("p/export").text == ""


def test_the_leader_is_asked_to_look_at_suspects_every_so_often(tmp_path, make):
    fusion = make.fusion(make.config(tmp_path, sentinel_interval_s=0.05))
    try:
        agent = make.agent(fusion)
        agent.snapshot()
        assert agent.poll(0.3) == [], "there are no suspects"
        agent.push(see(20, b"a", b"\xff"))
        for _ in range(2):
            command, = agent.poll()
            assert command["type"] == "verify"
            paths = [base64.urlsafe_b64decode(path + "=" * (-len(path) % 4)) for path in command["paths"]]
            assert sorted(paths) == [b"/a", b"/\xff"]
    finally:
        fusion.stop()


def test_a_batch_that_is_applied_again_does_not_make_a_look_forgotten(agent, fusion, monkeypatch):
    agent.push(see(20, b"a"))
    monkeypatch.setattr(rules, "HOT_S", 1e-9)  # a look is not enough, a second one is
    huge = FsRow(b"huge", 1, 0, 0, 0o100644, 0, 0, 1, (1 << 64) - 1, 1, None, True)
    agent.push(UpdateEvent(index=22, message_source=MessageSource.REALTIME, event_schema="fs", table="files",
                           rows=[huge], prefix=b"/"))
    agent.push(see(23, b"a", lane=SENTINEL), lane="sentinel")
    assert suspects(fusion) == []
