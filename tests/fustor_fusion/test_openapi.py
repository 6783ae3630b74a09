"""The OpenAPI document says what is served, and what is served is as it says."""

import json
import re
import stat
from pathlib import Path

import msgspec
import pytest
import requests

import fustor_fusion
from fustor_event_model import DeleteEvent, FsPath, MessageSource
from schemas import Schemas, list_operations

DIR = stat.S_IFDIR | 0o755
LINK = stat.S_IFLNK | 0o777


@pytest.fixture
def agent(fusion, make):
    """A view with all kinds of nodes, suspects, blind spots, a session of each kind, and a scan."""
    agent = make.agent(fusion)
    agent.snapshot(
        make.update(5, b"/", [make.row(b"", mode=DIR), make.row(b"d", mode=DIR), make.row(b"old"),
                              make.row(b"l", mode=LINK, target=b"caf\xe9"), make.row(b"p", mode=stat.S_IFIFO)]),
        make.update(5, b"/d/", [make.row(b"caf\xe9"), make.row(b"caf\xea"), make.row(b"f")]))
    agent.push(make.update(6, b"/", [msgspec.structs.replace(make.row(b"hot"), is_atomic_write=False)]))
    agent.push(make.update(7, b"/", [make.row(b"seen")], MessageSource.AUDIT),
               DeleteEvent(index=8, message_source=MessageSource.AUDIT, event_schema="fs", table="files",
                           rows=[FsPath(b"/old")]), lane="audit")
    agent.beat()
    assert fusion.get("p/tree", on_demand_scan="true", path="/nowhere").json()["job_pending"]
    return agent


@pytest.fixture
def document(fusion):
    """As anybody gets it."""
    with requests.Session() as nobody:
        nobody.trust_env = False
        answer = nobody.get(f"{fusion.base}/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_every_route_is_described_and_nothing_else(fusion, document):
    routes = fusion.server._serving.guard._app.routes
    served = {f"{method} {route.path}" for route in routes for method in route.methods - {"HEAD"}}
    assert list_operations(document).keys() == served


def test_a_wrong_method_is_told_all_that_are_right(fusion, document):
    for path, methods in document["paths"].items():
        answer = fusion.agent.patch(fusion.base.removesuffix("/api/v1") + path.format(view_id="p", sid="x", job_id="x"))
        allowed = set(answer.headers["Allow"].split(", ")) - {"HEAD"}
        assert (answer.status_code, allowed) == (405, {method.upper() for method in methods})


def test_path_and_query_are_read_where_they_are_described_and_nowhere_else():
    folder = next(iter(fustor_fusion.__path__))
    readers = {path.name for path in Path(folder).glob("*.py")
               if re.search("query_params|path_params|query_string", path.read_text())}
    assert readers == {"questions.py"}


def test_the_document_is_whole(document):
    text = json.dumps(document)
    for reference in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
        assert reference in document["components"]["schemas"]
    operations = list_operations(document)
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    for name, operation in operations.items():
        assert operation["summary"], name
        in_path = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", name))
        assert all(parameter["required"] for parameter in operation["parameters"] if parameter["in"] == "path")
        for scheme in operation["security"]:
            assert scheme.keys() <= document["components"]["securitySchemes"].keys()


def test_every_answer_is_as_described(fusion, agent, make, document):
    public = fusion.post("session/", {"task_id": "old:p"}).json()["session_id"]
    job = fusion.get("p/jobs").json()["jobs"][0]["job_id"]
    items = [make.update(9, b"/", [make.row(b"new")]), make.listed(9, b"/d")]
    body = msgspec.msgpack.encode([1, "realtime", 99, items])
    events = {"events": [{"event_type": "update", "fields": [], "rows": [{"path": "/x", "modified_time": 1}, 5],
                          "event_schema": "fs", "table": "files", "message_source": "realtime"}]}
    notice = {"events": [], "source_type": "job_complete", "metadata": {"scan_path": "/", "job_id": job}}
    look = {"type": "suspect_update", "updates": [{"path": "/hot", "mtime": 1.5}]}
    views, pipe = "/api/v1/views/{view_id}", "/api/v1/pipe"
    calls = [
        ("GET /", {}, None), ("GET /api/v1/openapi.json", {}, None),
        *((f"GET {views}/{name}", {}, None) for name in (
            "tree", "stats", "metadata", "blind-spots", "suspect-list", "du", "changes", "export", "sessions", "jobs")),
        *((f"GET {views}/tree", query, None) for query in (
            {"max_depth": 0}, {"max_depth": 1}, {"path": "/d", "limit": 1}, {"path": "/d", "limit": 1, "after": "caf"},
            {"recursive": "off"}, {"only_path": "1"}, {"dry_run": "yes"}, {"path": "/nope", "on_demand_scan": "true"})),
        (f"GET {views}/search", {"pattern": ""}, None), (f"GET {views}/jobs/{{job_id}}", {"job_id": job}, None),
        (f"GET {views}/changes", {"since": f"{agent.opened['fustor']['generation']}-0"}, None),
        (f"GET {views}/metadata", {"raw": "L2w"}, None), (f"GET {views}/du", {"raw": "L2QvY2Fm6Q"}, None),
        (f"PUT {views}/suspect-list", {}, {"updates": [{"path": "/hot", "mtime": 1.5}]}),
        (f"GET {pipe}/session/", {}, None), (f"POST {pipe}/session/", {}, {"task_id": "other:p"}),
        (f"POST {pipe}/session/", {}, {"task_id": "third:p", "fustor": {
            "protocol": 1, "agent_id": "third", "pipe_id": "p"}}),
        (f"POST {pipe}/session/{{sid}}/heartbeat", {"sid": public}, {"can_realtime": True}),
        (f"GET {pipe}/session/{{sid}}/commands", {"sid": agent.id}, None),
        (f"POST {pipe}/session/{{sid}}/barrier", {"sid": agent.id}, {"token": "x"}),
        (f"POST {pipe}/ingest/{{sid}}/batch", {"sid": agent.id}, body),
        (f"POST {pipe}/ingest/{{sid}}/events", {"sid": public}, events),
        (f"POST {pipe}/ingest/{{sid}}/events", {"sid": public}, notice),
        (f"POST {pipe}/consistency/audit/start", {}, None), (f"POST {pipe}/consistency/audit/end", {}, None),
        (f"GET {pipe}/consistency/sentinel/tasks", {}, None),
        (f"POST {pipe}/consistency/sentinel/feedback", {}, look),
        (f"POST {pipe}/consistency/sentinel/feedback", {}, {"type": "other"}),
        (f"DELETE {pipe}/session/{{sid}}", {"sid": public}, None),
        (f"GET {pipe}/consistency/sentinel/tasks", {}, None),
    ]
    schemas, operations = Schemas(document), list_operations(document)
    for name, asked, content in calls:
        method, path = name.split()
        known = {parameter["name"] for parameter in operations[name]["parameters"]}
        assert asked.keys() <= known, name
        data = content if isinstance(content, bytes | None) else json.dumps(content)
        url = fusion.base.removesuffix("/api/v1") + path.format(view_id="p", **asked)
        answer = fusion.agent.request(method, url, params=asked, data=data)
        assert answer.status_code == 200, (name, asked, answer.text)
        described = operations[name]["responses"]["200"]
        (media_type, content_), = described["content"].items()
        assert answer.headers["Content-Type"].partition(";")[0] == media_type
        if media_type == "application/x-ndjson":
            line = {"$ref": "#/components/schemas/" + re.search(r"each a (\w+)", str(content_))[1]}
            faults = [schemas.find_fault(line, json.loads(each)) for each in answer.text.splitlines()]
            assert len(faults) > 5
            assert set(faults) == {None}
        else:
            assert schemas.find_fault(content_["schema"], answer.json()) is None, name
        told = {header for header in answer.headers if header.startswith("x-fustor-")}
        assert told <= {header.lower() for header in described.get("headers", {})}
        assert ("x-fustor-current" in told) == ("headers" in described)
    assert {name for name, _, _ in calls} == operations.keys()
