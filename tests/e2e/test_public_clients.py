"""The released public SDK and benchmark 0.8.17 speak to our Fusion as they do to the public one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from public_clients import run_benchmark_query, run_sdk
from released import NotInstallable

from fusion import FusionUnderTest
from proxy import RecordingProxy

_LIFE = """
import asyncio, json, sys
import httpx
from fustor_fusion_sdk.client import FusionClient

def event(source, *rows, kind="update"):
    return {"event_type": kind, "fields": ["path"], "rows": list(rows), "event_schema": "fs", "table": "files",
            "message_source": source, "index": 1}

def row(path, size, directory=False):
    return {"path": path, "file_name": path.rpartition("/")[2], "size": size, "modified_time": 1700000000.5,
            "created_time": 1700000000.5, "is_directory": directory}

async def live(endpoint, key):
    client = FusionClient(endpoint, key)
    said = {"session": await client.create_session("agent:pipe", source_type="fs", session_timeout_seconds=60)}
    session = said["session"]["session_id"]
    said["first beat"] = await client.send_heartbeat(session)
    said["snapshot"] = await client.push_events(
        session, [event("snapshot", row("/", 0, True), row("/d", 0, True), row("/d/a", 5), row("/d/b", 6))],
        "snapshot", is_snapshot_end=True)
    said["beat"] = await client.send_heartbeat(session, can_realtime=True)
    said["changes"] = await client.push_events(
        session, [event("realtime", {"path": "/d/b"}, kind="delete"), event("realtime", row("/d/c", 7))], "message")
    said["tasks"] = await client.get_sentinel_tasks()
    said["feedback"] = await client.submit_sentinel_feedback({"type": "suspect_update", "updates": []})
    said["audit start"] = await client.signal_audit_start(1)
    said["audit end"] = await client.signal_audit_end(1)
    if len(sys.argv) > 3:
        said["end"] = await client.terminate_session(session)
        try:
            await client.send_heartbeat(session)
        except httpx.HTTPStatusError as err:
            said["beat after the end"] = err.response.status_code
        said["push after the end"] = await client.push_events(session, [event("realtime", row("/x", 1))], "message")
    return said

print(json.dumps(asyncio.run(live(*sys.argv[1:3])), default=repr))
"""


@pytest.fixture
def fusion(tmp_path: Path, no_process_is_left: None) -> Iterator[FusionUnderTest]:
    fusion = FusionUnderTest(tmp_path / "fusion").start()
    yield fusion
    fusion.stop()


def _live(fusion: FusionUnderTest, *more: str) -> dict[str, Any]:
    try:
        said = run_sdk(_LIFE, fusion.endpoint, fusion.agent_key, *more)
    except NotInstallable as err:
        pytest.skip(f"the public SDK cannot be installed here: {err}")
    assert isinstance(said, dict)
    return said


def test_the_sdk_takes_every_answer_of_a_sessions_life(fusion: FusionUnderTest) -> None:
    said = _live(fusion, "and end it")
    assert said["session"]["role"] == "leader"
    assert said["beat"] | {"commands": []} == {
        "status": "ok", "role": "leader", "message": None, "can_realtime": None, "commands": [],
    }  # fmt: skip
    assert said["tasks"] == {}
    done = ["snapshot", "changes", "feedback", "audit start", "audit end", "end"]
    assert {name: said[name] for name in done} == dict.fromkeys(done, True)
    assert (said["beat after the end"], said["push after the end"]) == (419, False)
    found = {path.decode(): entry.size for path, entry in fusion.export(sync_s=None).items()}
    assert found == {"/d": 0, "/d/a": 5, "/d/c": 7}


def test_the_benchmarks_queries_are_all_answered(fusion: FusionUnderTest, tmp_path: Path) -> None:
    (tmp_path / "tree" / "d").mkdir(parents=True)
    for name in ("a", "c"):
        (tmp_path / "tree" / "d" / name).write_text(name)
    _live(fusion)
    proxy = RecordingProxy(fusion.port)
    try:
        said, report = run_benchmark_query(
            tmp_path / "benchmark", tree=tmp_path / "tree", endpoint=proxy.endpoint, key=fusion.reader_key,
            view=fusion.view, requests=10,
        )  # fmt: skip
    except NotInstallable as err:
        pytest.skip(f"the public benchmark cannot be installed here: {err}")
    finally:
        proxy.stop()
    refused = [(request.path, status) for request, status in proxy.answers if status != 200]
    assert not refused, said
    assert (report["metadata"]["total_files_in_scope"], report["metadata"]["total_directories_in_scope"]) == (2, 2)
    made = {name: len(part["raw"]) for name, part in report.items() if isinstance(part, dict) and "raw" in part}
    assert {count for name, count in made.items() if name.startswith("fusion")} == {10}, json.dumps(made)
