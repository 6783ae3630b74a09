"""Whatever is asked of Fusion, by whatever key: no answer is a fault, and each is as the OpenAPI document says."""

import json
import re
import stat
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fustor_event_model import MessageSource
from schemas import Schemas, list_operations

BRIEF = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(BRIEF, max_examples=2_500)
ODD = ["", "/", ".", "..", "//", "*", "**/a*/**", "[", "\0", "\ud800", "é", "\U0001f600", "x" * 2_000, "0", "-1", "1e3",
       "nan", "inf", "true", "null", str(1 << 64), "²", "L2Q", "=", "%", "?", "#", "\r\n"]  # fmt: skip
SECONDS = ["0", "0.001", "0.01", "-1", "nan", "inf", "x", "", "1e9"]  # nobody waits for more

texts = st.sampled_from(ODD) | st.text(max_size=12) | st.text("*?[]/.!ad\\", max_size=12)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6)


class World:
    """A filled Fusion with sessions, what can be asked of it, and its clients by key."""

    def __init__(self, fusion: Any, make: Any) -> None:
        self.fusion = fusion
        self.root = fusion.base.removesuffix("/api/v1")
        directory = stat.S_IFDIR | 0o755
        rows = [make.row(name) for name in (b"a", b"B.txt", b"caf\xe9", "é".encode(), b"*", b"[x]", b"new\nline", b" ")]
        agent = make.agent(fusion)
        items = [make.update(5, b"/", [*rows, make.row(b"d", mode=directory)]), make.update(5, b"/d/e/f/", rows)]
        agent.snapshot(*items)
        agent.push(make.update(6, b"/", [msgspec.structs.replace(make.row(b"hot"), is_atomic_write=False)]))
        agent.push(make.update(7, b"/d/", [make.row(b"seen")], MessageSource.AUDIT), lane="audit")
        agent.beat()
        self.items = msgspec.msgpack.decode(msgspec.msgpack.encode([*items, make.listed(8, b"/d")]))
        self.sessions = {"ours": agent.id, "public": ""}
        self.open("public")
        self.seq = 100
        job = fusion.get("p/tree", on_demand_scan="true").json()["job_id"]
        generation = agent.opened["fustor"]["generation"]
        self.known = {
            "view_id": ["p"], "sid": list(self.sessions), "job_id": [job],
            "since": [f"{generation}-0", f"{generation}-2"],
            "path": ["/", "/d", "/d/e/f/a", "/a", "/none"], "raw": ["L2NhZuk", "Lw"], "after": ["a", "d"],
            "pattern": ["*", "/d/**/a", ""], "max_depth": ["0", "1", "9"], "limit": ["1", "2"],
        }
        self.document = fusion.agent.get(f"{fusion.base}/openapi.json").json()
        self.schemas, self.operations = Schemas(self.document), list_operations(self.document)
        stranger, nobody = requests.Session(), requests.Session()
        stranger.headers["X-API-Key"] = "wrong"
        self.clients = {"agent": fusion.agent, "reader": fusion.reader, "stranger": stranger, "nobody": nobody}
        for client in (stranger, nobody):
            client.trust_env = False

    def open(self, kind: str) -> None:
        """Open a session, of an agent of ours or of a public one."""
        hello = {"fustor": {"protocol": 1, "agent_id": "agent", "pipe_id": "p"}} if kind == "ours" else {}
        body = {"task_id": f"{kind}:p", "session_timeout_seconds": 86_400, **hello}
        self.sessions[kind] = self.fusion.post("session/", body).json()["session_id"]

    def draw_value(self, data: st.DataObject, parameter: dict[str, Any]) -> str:
        """Draw what is said for a parameter: known, as described, or anything."""
        name = parameter["name"]
        if name in ("wait", "sync"):
            return data.draw(st.sampled_from(SECONDS), name)
        described = self.schemas.make(parameter["schema"]).map(str)
        known = st.sampled_from(self.known.get(name, ["true", "false"]))
        return data.draw((known, known, known, described, texts)[data.draw(st.integers(0, 4))], name)

    def draw_body(self, data: st.DataObject, media_type: str, schema: dict[str, Any]) -> bytes:
        """Draw a body: as described, with one part of it replaced, or anything."""
        packed = media_type.endswith("msgpack")
        whole = data.draw(self.schemas.make(schema), "body")
        if packed and not data.draw(st.booleans(), "without items"):
            self.seq += 1
            whole = [1, data.draw(st.sampled_from(["realtime", "snapshot", "audit"])), self.seq, self.items]
        for _ in range(data.draw(st.sampled_from([0, 0, 1, 2]), "changes")):
            whole = replace_part(data, whole)
        try:
            body = msgspec.msgpack.encode(whole) if packed else json.dumps(whole).encode()
        except (OverflowError, UnicodeEncodeError):  # msgpack has no such number or text
            body = b""
        if data.draw(st.integers(0, 4), "damage") == 4:
            at = data.draw(st.integers(0, len(body)))
            body = body[:at] + data.draw(st.binary(max_size=4)) + body[at + data.draw(st.integers(0, 4)):]
        return body

    def ask(self, data: st.DataObject) -> None:
        """Ask anything, and check the answer."""
        name = data.draw(st.sampled_from(sorted(self.operations)), "operation")
        operation, (method, path) = self.operations[name], name.split()
        parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
        optional = [key for key, parameter in parameters.items() if not parameter["required"]]
        left_out = set(optional) - data.draw(st.sets(st.sampled_from(optional or ["none"]), max_size=3), "optional")
        asked = {key: self.draw_value(data, parameters[key]) for key in parameters if key not in left_out}
        session = asked.get("sid", "")  # what is drawn must not depend on what was answered
        asked |= {"sid": self.sessions[session]} if session in self.sessions else {}
        query = {key: value.encode(errors="surrogatepass") for key, value in asked.items() if f"{{{key}}}" not in path}
        place = re.sub(r"{(\w+)}", lambda found: quote(asked[found[1]].encode(errors="replace"), safe=""), path)
        content = operation.get("requestBody", {}).get("content", {})
        body = next((self.draw_body(data, media_type, each["schema"]) for media_type, each in content.items()), None)
        who = data.draw(st.sampled_from(["agent", "agent", "agent", "reader", "stranger", "nobody"]), "key")
        answer = self.clients[who].request(
            method, self.root + place, params=query, data=body, allow_redirects=False, timeout=60)
        elsewhere = any(value in ("", ".", "..") or "/" in value for key, value in asked.items() if key not in query)
        if elsewhere and answer.status_code in (307, 404, 405):
            return
        allowed = not operation["security"] or {who: []} in operation["security"]
        assert (answer.status_code == 401) == (not allowed), answer.text
        assert answer.status_code < 500 or (answer.status_code == 504 and "sync" in asked), answer.text
        self.check(operation, answer)
        if session in self.sessions and (method == "DELETE" or answer.status_code in (404, 419)):
            self.open(session)

    def check(self, operation: dict[str, Any], answer: requests.Response) -> None:
        """Check that an answer is as described."""
        (media_type, described), = operation["responses"][str(answer.status_code)]["content"].items()
        assert answer.headers["Content-Type"] == media_type
        if media_type == "application/json":
            assert self.schemas.find_fault(described["schema"], answer.json()) is None
        else:
            line = {"$ref": "#/components/schemas/ExportRow"}
            assert {self.schemas.find_fault(line, json.loads(each)) for each in answer.text.splitlines()} <= {None}

    def check_alive(self, make: Any) -> None:
        """Check that an agent can still push, and a reader find it."""
        agent = make.agent(self.fusion, name="last")
        assert agent.push(make.update(1 << 62, b"/last/", [make.row(b"row")])).status_code == 200
        assert self.fusion.get("p/tree", path="/last/row").status_code == 200


def replace_part(data: st.DataObject, whole: Any) -> Any:
    """Replace one part of a value, at any depth, by anything, or leave it out."""
    if isinstance(whole, dict | list) and whole and data.draw(st.integers(0, 5)) < 5:
        keys = list(whole) if isinstance(whole, dict) else list(range(len(whole)))
        key = data.draw(st.sampled_from(keys))
        changed = whole.copy()
        if data.draw(st.integers(0, 5)) < 5:
            changed[key] = replace_part(data, whole[key])
        else:
            del changed[key]
        return changed
    return data.draw(junk)


@pytest.fixture
def world(fusion: Any, make: Any) -> Iterator[World]:
    world = World(fusion, make)
    yield world
    world.check_alive(make)


@BRIEF
@given(st.data())
def test_no_question_and_no_body_makes_fusion_fail(world: World, data: st.DataObject) -> None:
    world.ask(data)


@pytest.mark.chaos
@LONG
@given(st.data())
def test_no_long_row_of_questions_and_bodies_makes_fusion_fail(world: World, data: st.DataObject) -> None:
    world.ask(data)


@settings(BRIEF, max_examples=100)
@given(st.data())
def test_no_body_that_is_as_described_is_malformed(world: World, data: st.DataObject) -> None:
    with_body = {name: operation for name, operation in world.operations.items()
                 if "application/json" in operation.get("requestBody", {}).get("content", {})}
    name = data.draw(st.sampled_from(sorted(with_body)))
    method, path = name.split()
    schema = with_body[name]["requestBody"]["content"]["application/json"]["schema"]
    body = json.dumps(data.draw(world.schemas.make(schema)))
    url = world.root + path.format(view_id="p", sid=world.sessions["public"])
    answer = world.fusion.agent.request(method, url, data=body)
    assert answer.status_code != 422, answer.text
