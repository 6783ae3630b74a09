import threading

import pytest

from fustor_event_model import JobDone, Listed, MessageSource, RowsDigest, Unchanged


def test_our_agent_learns_what_this_fusion_can_do(fusion, make):
    opened = make.agent(fusion).opened
    assert opened["role"] == "leader"
    assert opened["session_timeout_seconds"] == 30
    generation = fusion.get("p/stats").json()["generation"]
    assert opened["fustor"] == {"protocol": 1, "encodings": ["msgpack"], "commits": True, "commands": True,
                                "compares": True, "moves": True, "generation": generation, "view_id": "p"}


def test_a_public_agent_gets_only_public_fields(fusion):
    body = {"task_id": "f33e:sync-job", "source_type": "fs", "client_info": {"source_uri": None}}
    answer = fusion.post("session/", body).json()
    assert set(answer) == {"session_id", "role", "session_timeout_seconds", "audit_interval_sec",
                           "sentinel_interval_sec", "message"}


def propose(fusion, name, *, agent_id="a", pipe_id="p"):
    hello = {"protocol": 1, "agent_id": agent_id, "pipe_id": pipe_id, "session_id": name}
    return fusion.post("session/", {"task_id": f"{agent_id}:{pipe_id}", "fustor": hello})


def test_a_session_that_is_opened_again_by_its_name_is_the_same(fusion):
    name = "0123456789abcdef" * 2
    first, second = propose(fusion, name).json(), propose(fusion, name).json()
    assert first == second
    assert (first["session_id"], first["role"]) == (name, "leader")
    assert len(fusion.get("p/sessions").json()["active_sessions"]) == 1
    assert fusion.agent.delete(f"{fusion.base}/pipe/session/{name}").ok
    assert propose(fusion, name).json()["session_id"] == name


def test_nobody_gets_the_session_of_another_by_its_name(fusion):
    name = "ab" * 16
    assert propose(fusion, name).ok
    for other in ({"agent_id": "b"}, {"pipe_id": "q"}):
        refused = propose(fusion, name, **other)
        assert refused.status_code == 409
        assert "fustor.session_id" in refused.json()["detail"]
        assert name not in refused.text
    assert len(fusion.get("p/sessions").json()["active_sessions"]) == 1


@pytest.mark.parametrize("name", ["", "ab" * 15, "AB" * 16, "ab" * 33, "../" * 11, "\u00e9" * 32])
def test_a_name_that_could_be_guessed_is_refused(fusion, name):
    assert propose(fusion, name).status_code == 422


@pytest.mark.parametrize(("asked", "given"), [(45.0, 45), (45.5, 45.5), (0, 30), (-3, 30), (None, 30), (1e9, 86400)])
def test_the_time_out_is_what_was_asked_for_within_limits(fusion, make, asked, given):
    assert make.agent(fusion, session_timeout_seconds=asked).opened["session_timeout_seconds"] == given


def test_discovery_answers_to_both_keys(fusion):
    for client in (fusion.agent, fusion.reader):
        assert client.get(fusion.base + "/pipe/session/").json() == {"view_id": "p", "status": "authorized"}


def test_the_reader_key_may_not_push_and_no_key_may_nothing(fusion, make):
    agent = make.agent(fusion)
    calls = [("post", "session/"), ("post", f"session/{agent.id}/heartbeat"), ("delete", f"session/{agent.id}"),
             ("post", f"ingest/{agent.id}/events"), ("post", f"ingest/{agent.id}/batch"),
             ("get", f"session/{agent.id}/commands"), ("post", f"session/{agent.id}/barrier")]
    for method, path in calls:
        for key in ("reader-key", "wrong", "ключ".encode().decode("latin-1"), None):
            headers = {"X-API-Key": key} if key is not None else {"X-API-Key": None}
            response = fusion.agent.request(method, f"{fusion.base}/pipe/{path}", headers=headers, json={})
            assert response.status_code == 401, (path, key)
    assert agent.beat().status_code == 200


def test_a_pushed_batch_is_there_once_it_is_answered(fusion, make):
    agent = make.agent(fusion)
    answer = agent.push(make.update(5, b"/", [make.row(b"a"), make.row(b"..")]))
    assert answer.json() == {"status": "ok", "count": 1, "differing": [], "refused": [
        {"path": "Ly4u", "reason": "the path holds an empty name, '.', '..' or a NUL"}]}
    assert fusion.get("p/tree", path="/a").json()["size"] == 5
    assert agent.push(make.update(6, b"/", [make.row(b"a", size=9)]), seq=1).json()["count"] == 0
    assert fusion.get("p/tree", path="/a").json()["size"] == 5


def test_a_directory_that_differs_is_named_also_when_its_batch_comes_again(fusion, make):
    agent = make.agent(fusion)
    unchanged = Unchanged(index=6, message_source=MessageSource.SNAPSHOT, path=b"/", position=b"\0p", count=1,
                          digest=bytes(16))
    for index in (5, 7):
        agent.push(make.update(index, b"/", [make.row(b"a")]))
        answer = agent.push(unchanged, lane="snapshot", seq=9)
        assert answer.json() == {"status": "ok", "count": 0, "refused": [],
                                 "differing": [{"position": "AHA=", "known": True}]}


def test_what_was_confirmed_is_sent_whole_when_the_answer_was_lost(fusion, make):
    agent = make.agent(fusion)
    row = make.row(b"", mode=0o040755)
    digest = RowsDigest()
    digest.add([row])
    unchanged = Unchanged(index=6, message_source=MessageSource.SNAPSHOT, path=b"/", position=b"p", count=1,
                          digest=digest.finish())
    agent.push(make.update(5, b"/", [row]))
    assert agent.push(unchanged, lane="snapshot", seq=9).json()["differing"] == []
    assert agent.push(unchanged, lane="snapshot", seq=9).json()["differing"] == [{"position": "cA==", "known": True}]


def test_an_older_epoch_is_a_conflict(fusion, make):
    agent = make.agent(fusion)
    assert agent.push(epoch=3).status_code == 200
    answer = agent.push(epoch=2)
    assert answer.status_code == 409
    assert "epoch 2" in answer.json()["detail"]


def test_a_session_that_is_unknown_or_closed_is_404_on_pushes_and_419_on_heartbeats(fusion, make):
    agent = make.agent(fusion)
    assert fusion.agent.delete(f"{fusion.base}/pipe/session/{agent.id}").json()["status"] == "terminated"
    for name in (agent.id, "nope"):
        agent.id = name
        assert agent.push().status_code == 404
        assert fusion.post(f"ingest/{name}/events", {"events": []}).status_code == 404
        assert agent.beat().status_code == 419


def test_an_expired_session_is_419_everywhere_and_its_rows_are_not_taken(fusion, make):
    agent = make.agent(fusion, session_timeout_seconds=0.5)
    follower = make.agent(fusion)
    assert follower.opened["role"] == "follower"
    while follower.beat().json()["role"] != "leader":
        threading.Event().wait(0.02)
    assert agent.push(make.update(5, b"/", [make.row(b"zombie")])).status_code == 419
    assert fusion.post(f"ingest/{agent.id}/events", {"events": []}).status_code == 419
    assert agent.beat().status_code == 419
    assert fusion.get("p/tree", path="/zombie").status_code == 404


@pytest.mark.parametrize("lane", ["snapshot", "audit"])
def test_a_follower_may_not_say_what_the_whole_tree_is(fusion, make, lane):
    leader, follower = make.agent(fusion, name="a"), make.agent(fusion, name="b")
    leader.snapshot(make.update(5, b"/", [make.row(b"x")]))
    source = MessageSource(lane)
    for item in (make.update(9, b"/", [make.row(b"y")], source), Listed(index=9, message_source=source, path=b"/")):
        answer = follower.push(item, lane=lane, seq=1)
        assert (answer.status_code, "follows" in answer.json()["detail"]) == (409, True)
    assert follower.push(make.update(9, b"/", [make.row(b"z")], MessageSource.ON_DEMAND),
                         lane="on_demand_job", seq=1).status_code == 200
    assert [child["name"] for child in fusion.get("p/tree").json()["children"]] == ["x", "z"]
    fusion.agent.delete(f"{fusion.base}/pipe/session/{leader.id}")
    assert follower.push(Listed(index=20, message_source=source, path=b"/"), lane=lane, seq=1).status_code == 200
    assert fusion.get("p/tree").json()["children"] == []


def test_a_database_that_cannot_be_read_is_503_for_agents_too(fusion, make):
    agent = make.agent(fusion)
    agent.push(*[make.update(5, b"/d%d/" % number, [make.row(b"f%d" % each) for each in range(200)])
                 for number in range(4)])
    view = fusion.server._serving.views["p"]
    make.damage(view)
    view.readers.close()  # none of their pages may come from memory
    tasks = fusion.agent.get(f"{fusion.base}/pipe/consistency/sentinel/tasks")
    created = fusion.post("session/", {"task_id": "other:p"})
    assert [(answer.status_code, "malformed" in answer.text) for answer in (tasks, created)] == [(503, True)] * 2
    assert "damaged" in view.explain()


def test_a_closed_leader_is_succeeded_and_its_view_stays(fusion, make):
    leader, follower = make.agent(fusion, name="a"), make.agent(fusion, name="b")
    leader.snapshot(make.update(5, b"/", [make.row(b"x")]))
    leader.beat()
    assert fusion.get("p/stats").json()["current"] is True
    fusion.agent.delete(f"{fusion.base}/pipe/session/{leader.id}")
    assert follower.beat().json() == {"status": "ok", "role": "leader", "message": None, "can_realtime": None,
                                      "commands": []}
    stats = fusion.get("p/stats").json()
    assert (stats["current"], stats["not_current_because"], stats["total_files"]) == (
        False, "the snapshot of agent b is not complete", 1)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"task_id":5}', b"\xff", b"{}", b"[" * 100_000])
def test_malformed_bodies_are_422_with_a_reason(fusion, make, body):
    agent = make.agent(fusion)
    for path in ("session/", f"session/{agent.id}/barrier", f"ingest/{agent.id}/events", f"ingest/{agent.id}/batch"):
        response = fusion.agent.post(f"{fusion.base}/pipe/{path}", data=body)
        assert (response.status_code, "detail" in response.json()) == (422, True), path


def test_a_heartbeat_with_a_broken_body_is_still_a_heartbeat(fusion, make):
    agent = make.agent(fusion)
    response = fusion.agent.post(f"{fusion.base}/pipe/session/{agent.id}/heartbeat", data=b"junk")
    assert response.json()["status"] == "ok"


def test_a_body_beyond_the_limit_is_413(tmp_path, make):
    fusion = make.fusion(make.config(tmp_path, max_body_bytes=1000))
    try:
        agent = make.agent(fusion)
        url = f"{fusion.base}/pipe/ingest/{agent.id}/events"
        assert fusion.agent.post(url, data=b"x" * 1001).status_code == 413
        assert fusion.agent.post(url, data=iter([b"x" * 600, b"x" * 600])).status_code == 413
        assert fusion.agent.post(url, data=b"x" * 1000).status_code == 422
    finally:
        fusion.stop()


def test_a_compressed_body_is_refused(fusion, make):
    agent = make.agent(fusion)
    response = fusion.agent.post(f"{fusion.base}/pipe/ingest/{agent.id}/events", data=b"x",
                                 headers={"Content-Encoding": "gzip"})
    assert response.status_code == 400


def test_several_views_are_chosen_by_task_id(tmp_path, make):
    fusion = make.fusion(make.config(tmp_path, views=("one", "t/w o")))
    try:
        assert make.agent(fusion, pipe="one").opened["fustor"]["view_id"] == "one"
        assert make.agent(fusion, pipe="t/w o").opened["fustor"]["view_id"] == "t/w o"
        response = fusion.post("session/", {"task_id": "a:three"})
        assert response.status_code == 409
        assert "one, t/w o" in response.json()["detail"]
        assert fusion.server.get_totals().keys() == {"one", "t/w o"}
    finally:
        fusion.stop()


def test_one_view_serves_a_pipe_of_any_name(fusion, make):
    assert make.agent(fusion, pipe="anything").opened["fustor"]["view_id"] == "p"


# -- commands -------------------------------------------------------------------------------


def test_a_scan_goes_to_those_that_poll_by_poll_and_to_the_others_by_heartbeat(fusion, make):
    polling, beating = make.agent(fusion, name="a"), make.agent(fusion, name="b")
    assert polling.poll(wait_s=0) == []
    fusion.get("p/tree", on_demand_scan="true", path="/", recursive="false")
    (command,) = polling.poll()
    assert polling.beat().json()["commands"] == []
    assert beating.beat().json()["commands"] == [command]
    assert beating.beat().json()["commands"] == []
    assert (command["type"], command["path"], command["raw"], command["recursive"]) == ("scan", "/", "Lw", False)
    job = fusion.get(f"p/jobs/{command['job_id']}").json()
    assert (job["status"], job["progress"]["total_pipes"]) == ("PENDING", 2)
    polling.push(JobDone(index=1, message_source=MessageSource.ON_DEMAND, job_id=command["job_id"], path=b"/"),
                 lane="on_demand_job")
    assert fusion.get(f"p/jobs/{command['job_id']}").json()["progress"]["completed_pipes"] == 1
    fusion.agent.delete(f"{fusion.base}/pipe/session/{beating.id}")
    assert fusion.get(f"p/jobs/{command['job_id']}").json()["status"] == "COMPLETED"


def test_a_waiting_poll_is_answered_as_soon_as_there_is_a_command(fusion, make):
    agent = make.agent(fusion)
    found: list[list[dict]] = []
    thread = threading.Thread(target=lambda: found.append(agent.poll(wait_s=60)))
    thread.start()
    fusion.get("p/tree", on_demand_scan="true", path="/nowhere")
    thread.join(30)
    assert [command["path"] for command in found[0]] == ["/nowhere"]


@pytest.mark.parametrize("wait", ["x", "-1", "nan", "inf"])
def test_a_poll_that_is_no_number_of_seconds_is_refused(fusion, make, wait):
    agent = make.agent(fusion)
    response = fusion.agent.get(f"{fusion.base}/pipe/session/{agent.id}/commands", params={"wait": wait})
    assert response.status_code == 422


def test_a_barrier_with_an_unknown_token_is_harmless(fusion, make):
    assert make.agent(fusion).answer("nope").json() == {"status": "ok"}
