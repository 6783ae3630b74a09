"""A tester that knows nothing but the OpenAPI document finds no fault in a Fusion that holds something."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from released import NotInstallable
from schema_tester import run_schema_tester

from fusion import FusionUnderTest
from schemas import list_operations


@pytest.fixture
def fusion(tmp_path: Path, no_process_is_left: None) -> Iterator[FusionUnderTest]:
    fusion = FusionUnderTest(tmp_path / "fusion").start()
    yield fusion
    fusion.stop()


def _open(client: requests.Session, pipe: str, **more: object) -> str:
    answer = client.post(f"{pipe}/session/", json={"task_id": "a:view", "session_timeout_seconds": 86_400, **more})
    return str(answer.json()["session_id"])


def _narrow(document: dict[str, Any], sessions: list[str]) -> dict[str, Any]:
    """Name what is there, ask for no long waits, and leave out what cannot be made up by the tester: msgpack."""
    known = {"view_id": ["view", "none"], "sid": [*sessions, "none"]}
    for operation in list_operations(document).values():
        for parameter in operation["parameters"]:
            schema = parameter["schema"]
            schema |= {"enum": known[parameter["name"]]} if parameter["name"] in known else {}
            schema |= {"maximum": 0.01} if parameter["name"] in ("sync", "wait") else {}
    return {**document, "paths": {path: each for path, each in document["paths"].items() if "/batch" not in path}}


@pytest.mark.chaos
def test_a_tester_by_the_document_finds_no_fault(fusion: FusionUnderTest, tmp_path: Path) -> None:
    pipe = f"{fusion.endpoint}/api/v1/pipe"
    rows = [{"path": path, "size": 1, "modified_time": 1.5} for path in ("/a", "/d/b", "/d/é")]
    event = {"event_type": "update", "fields": [], "rows": rows, "event_schema": "fs", "table": "files"}
    with requests.Session() as client:
        client.trust_env = False
        client.headers["X-API-Key"] = fusion.agent_key
        ours = _open(client, pipe, fustor={"protocol": 1, "agent_id": "a", "pipe_id": "view"})
        public = _open(client, pipe)
        body = {"events": [event], "source_type": "snapshot", "is_end": True}
        assert client.post(f"{pipe}/ingest/{public}/events", json=body).status_code == 200
        document = _narrow(client.get(f"{fusion.endpoint}/api/v1/openapi.json").json(), [ours, public])
        try:
            said = run_schema_tester(
                tmp_path / "tester", document, endpoint=fusion.endpoint, key=fusion.agent_key, max_time_s=120)
        except NotInstallable as err:
            pytest.skip(f"the tester cannot be installed here: {err}")
        assert f"{len(list_operations(document))} selected" in said
        assert client.get(f"{fusion.endpoint}/api/v1/views/view/tree").status_code == 200
