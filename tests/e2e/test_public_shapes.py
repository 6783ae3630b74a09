"""What the released public Fusion 0.8.17 is asked and answers, ours is asked and answers likewise."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import requests
from public_fusion import PublicFusion
from released import NotInstallable

from fusion import FusionUnderTest
from waiting import until

# docs/protocol.md says where ours has nothing to say.
_NOTHING_TO_SAY = frozenset({"suspect_until", "oldest_item_path", "audit_interval_sec"})
_OLD_S, _NEW_S = 1_600_000_000.25, round(time.time()) + 0.1234567


class Server(NamedTuple):
    """One Fusion: where agents and readers ask, with which keys."""

    pipe: str
    view: str
    push_key: str
    view_key: str

    def ask(self, method: str, path: str, body: object = None) -> requests.Response:
        """Ask as an agent what begins with `pipe/`, as a reader everything else."""
        agent = path.startswith("pipe/") or method == "PUT"
        url = f"{self.pipe}/{path}" if path.startswith("pipe/") else f"{self.view}/{path}"
        with requests.Session() as client:
            client.trust_env = False
            key = {"X-API-Key": self.push_key if agent else self.view_key}
            return client.request(method, url, json=body, headers=key, timeout=60)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    public = PublicFusion(tmp_path_factory.mktemp("public"), same_ids=True)
    try:
        public.start()
    except NotInstallable as err:
        pytest.skip(f"the public Fusion cannot be installed here: {err}")
    ours = FusionUnderTest(tmp_path_factory.mktemp("ours"), view="both")
    try:
        ours.start()
        views = "api/v1/views/both"
        yield (
            Server(f"{public.endpoint}/api/v1", f"http://127.0.0.1:{public.view_port}/{views}", public.push_key,
                   public.view_key),
            Server(f"{ours.endpoint}/api/v1", f"{ours.endpoint}/{views}", ours.agent_key, ours.reader_key),
        )  # fmt: skip
    finally:
        ours.stop()
        public.stop()


def _event(source: str, *rows: object, kind: str = "update") -> dict[str, object]:
    return {"event_type": kind, "fields": [], "rows": list(rows), "event_schema": "fs", "table": "files",
            "message_source": source}  # fmt: skip


def _row(path: str, **more: object) -> dict[str, object]:
    return {"path": path, "size": 3, "modified_time": _OLD_S, "created_time": _OLD_S, "is_directory": False, **more}


def _live(server: Server) -> list[tuple[str, requests.Response]]:
    """Push a small tree, and ask everything about it; returns what was asked and answered, in order."""
    said: list[tuple[str, requests.Response]] = []

    def ask(method: str, path: str, body: object = None) -> Any:
        answer = server.ask(method, path, body)
        said.append((f"{method} {path.replace(session, 'SID').replace(job, 'JOB')}", answer))
        return answer.json() if answer.ok else None

    def push(source_type: str, *events: object, **more: object) -> None:
        ask("POST", f"pipe/ingest/{session}/events", {"source_type": source_type, "events": list(events), **more})

    session = job = "\0"
    ask("GET", "pipe/session/")
    ask("POST", "pipe/session/", {"task_id": 5})
    session = ask("POST", "pipe/session/", {"task_id": "agent:pipe", "session_timeout_seconds": 300})["session_id"]
    ask("POST", f"pipe/session/{session}/heartbeat", {"can_realtime": False})
    push("snapshot", _event("snapshot", _row("/", is_directory=True), _row("/d", is_directory=True), _row("/d/a"),
                            _row("/d/old"), _row("/f", size=0)), is_end=True)  # fmt: skip
    until(lambda: server.ask("GET", "tree?path=/f").ok, within_s=30, what="the rows")
    ask("POST", f"pipe/session/{session}/heartbeat", {"can_realtime": True})
    push("message", _event("realtime", _row("/hot", modified_time=_NEW_S, is_atomic_write=False)),
         _event("realtime", {"path": "/d/old"}, kind="delete"))  # fmt: skip
    push("audit", _event("audit", _row("/", is_directory=True, audit_skipped=True),
                         _row("/seen", parent_path="/", parent_mtime=_OLD_S)))  # fmt: skip
    push("audit", is_end=True)
    until(lambda: server.ask("GET", "tree?path=/seen").ok, within_s=30, what="the rows of the audit")
    ask("POST", "pipe/ingest/nope/events", {"events": []})
    ask("POST", f"pipe/ingest/{session}/events", {"events": [{}]})
    for question in (
        "tree", "tree?path=/d", "tree?path=/d/a", "tree?max_depth=0", "tree?max_depth=1", "tree?recursive=false",
        "tree?only_path=true", "tree?dry_run=true", "tree?path=/none", "tree?max_depth=x",
        "tree?recursive=perhaps", "search?pattern=*", "search?pattern=D/A", "search?pattern=/d/*", "search?pattern=",
        "search", "stats", "blind-spots", "suspect-list", "sessions", "jobs/none", "nothing",
    ):  # fmt: skip
        ask("GET", question)
    for answer in (ask("GET", "tree?path=/none&on_demand_scan=true"), ask("GET", "tree?path=/d&on_demand_scan=true")):
        job = answer["job_id"]
    ask("GET", "jobs")
    ask("GET", f"jobs/{job}")
    ask("POST", f"pipe/session/{session}/heartbeat", {"can_realtime": True})
    push("job_complete", metadata={"scan_path": "/d", "job_id": job})
    ask("GET", f"jobs/{job}")
    ask("PUT", "suspect-list", {"updates": [{"path": "/hot", "mtime": _NEW_S}]})
    ask("GET", "pipe/consistency/sentinel/tasks")
    ask("POST", "pipe/consistency/sentinel/feedback", {"type": "suspect_update", "updates": []})
    ask("POST", "pipe/consistency/sentinel/feedback", {"type": "other"})
    ask("POST", "pipe/consistency/audit/start")
    ask("POST", "pipe/consistency/audit/end")
    ask("DELETE", f"pipe/session/{session}")
    ask("POST", f"pipe/session/{session}/heartbeat", {"can_realtime": True})
    return said


def _find_lack(public: Any, ours: Any, at: str = "$") -> str | None:
    """Say what of an answer's shape ours lacks; None when it has all."""
    if isinstance(public, dict) and isinstance(ours, dict):
        lacks = [f"{at}.{name}" if name not in ours else _find_lack(each, ours[name], f"{at}.{name}")
                 for name, each in public.items() if name not in _NOTHING_TO_SAY or name not in ours]  # fmt: skip
        return next(filter(None, lacks), None)
    if isinstance(public, list) and isinstance(ours, list):
        pairs = zip(*(sorted(each, key=lambda one: one["path"] if isinstance(one, dict) and "path" in one else "")
                      for each in (public, ours)), strict=False)  # fmt: skip
        short = at if len(public) != len(ours) else None
        return short or next(filter(None, (_find_lack(one, other, f"{at}[]") for one, other in pairs)), None)
    number = (int, float)
    alike = type(public) is type(ours) or (isinstance(public, number) and isinstance(ours, number)) or public is None
    return None if alike else f"{at}: {public!r} and {ours!r}"


def _describe(node: dict[str, Any]) -> dict[str, Any]:
    """Return what a node says, whatever the order of what is below it."""
    children = {child["path"]: _describe(child) for child in node.get("children", [])}
    return {name: each for name, each in node.items() if name not in ("children", "job_id")} | {"children": children}


def _find_fault(asked: str, public: requests.Response, ours: requests.Response) -> str | None:
    """Say where an answer of ours is none that a client of the public one understands."""
    if ours.status_code != public.status_code:
        return f"{public.status_code} {public.text:.300} but {ours.status_code} {ours.text:.300}"
    if not public.ok:
        return None
    lack = _find_lack(public.json(), ours.json())
    if lack is None and asked.startswith("GET tree?") and "job_id" in public.json() and "name" in public.json():
        theirs, own = _describe(public.json()), _describe(ours.json())
        return None if theirs == own else f"{theirs} but {own}"
    return lack


def test_every_answer_has_the_public_shape(servers: tuple[Server, Server]) -> None:
    public, ours = (_live(server) for server in servers)
    assert [asked for asked, _ in public] == [asked for asked, _ in ours]
    faults = [(asked, fault) for (asked, theirs), (_, answer) in zip(public, ours, strict=True)
              if (fault := _find_fault(asked, theirs, answer))]  # fmt: skip
    assert not faults, "\n".join(map(str, faults))
