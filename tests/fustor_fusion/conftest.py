"""A Fusion over a real socket, and an agent of our own that talks to it."""

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
import requests

from fustor_event_model import FsItem, FsRow, Listed, MessageSource, SnapshotEnd, UpdateEvent, encode_items
from fustor_fusion import FusionConfig, FusionServer
from fustor_fusion.view import View

START_LIMIT_S = 30


class RunningFusion:
    """A server in a thread, and its two clients."""

    def __init__(self, config: FusionConfig) -> None:
        self.server = FusionServer(config)
        ports: queue.Queue[int] = queue.Queue()
        self.thread = threading.Thread(target=self.server.run, kwargs={"on_ready": ports.put})
        self.thread.start()
        self.base = f"http://127.0.0.1:{ports.get(timeout=START_LIMIT_S)}/api/v1"
        self.agent, self.reader = requests.Session(), requests.Session()
        self.agent.headers["X-API-Key"] = config.agent_key
        self.reader.headers["X-API-Key"] = config.reader_key
        for client in (self.agent, self.reader):
            client.trust_env = False

    def stop(self) -> None:
        self.agent.close()
        self.reader.close()
        self.server.stop()
        self.thread.join(START_LIMIT_S)
        assert not self.thread.is_alive()

    def get(self, path: str, /, **query: object) -> requests.Response:
        return self.reader.get(f"{self.base}/views/{path}", params=query)

    def post(self, path: str, body: object = None) -> requests.Response:
        return self.agent.post(f"{self.base}/pipe/{path}", data=msgspec.json.encode(body))


class Agent:
    """What an agent of ours does, step by step."""

    def __init__(
        self, fusion: RunningFusion, *, name: str = "agent", pipe: str = "p", clock: int = 0, **extra: object
    ) -> None:
        self.fusion = fusion
        body = {"task_id": f"{name}:{pipe}",
                "fustor": {"protocol": 1, "agent_id": name, "pipe_id": pipe, "schema": "fs", "clock": clock},
                **extra}
        response = fusion.post("session/", body)
        assert response.status_code == 200, response.text
        self.opened: dict[str, Any] = response.json()
        self.id: str = self.opened["session_id"]
        self.seq = 0

    def beat(self, *, can_realtime: bool = True) -> requests.Response:
        return self.fusion.post(f"session/{self.id}/heartbeat", {"can_realtime": can_realtime})

    def push(self, *items: FsItem, lane: str = "realtime", epoch: int = 1, seq: int | None = None,
             clock: int | None = None) -> requests.Response:
        self.seq = self.seq + 1 if seq is None else seq
        head = b"".join(map(msgspec.msgpack.encode, (epoch, lane, self.seq)))
        return self.fusion.agent.post(f"{self.fusion.base}/pipe/ingest/{self.id}/batch",
                                      data=b"\x94" + head + encode_items(items),
                                      headers={"Content-Type": "application/msgpack"}, params={"clock": clock})

    def poll(self, wait_s: float = 20) -> list[dict[str, Any]]:
        response = self.fusion.agent.get(f"{self.fusion.base}/pipe/session/{self.id}/commands", params={"wait": wait_s})
        assert response.status_code == 200, response.text
        return list(response.json()["commands"])

    def answer(self, token: str, error: str | None = None) -> requests.Response:
        return self.fusion.post(f"session/{self.id}/barrier", {"token": token, "error": error})

    def snapshot(self, *items: FsItem, **how: Any) -> requests.Response:
        end = SnapshotEnd(index=1, message_source=MessageSource.SNAPSHOT, complete=True)
        return self.push(*items, end, lane="snapshot", **how)


def make_row(name: bytes, *, mode: int = 0o100644, size: int = 5, inode: int = 7, target: bytes | None = None) -> FsRow:
    return FsRow(name, size, 1_500_000_000, 2_500_000_000, mode, 10, 20, 1, inode, 1, target)


def make_update(index: int, prefix: bytes, rows: Sequence[FsRow],
                source: MessageSource = MessageSource.REALTIME) -> FsItem:
    return UpdateEvent(index=index, message_source=source, event_schema="fs", table="files", rows=list(rows),
                       prefix=prefix)


def make_listed(index: int, path: bytes) -> FsItem:
    return Listed(index=index, message_source=MessageSource.SNAPSHOT, path=path)


def make_config(folder: Path, **changes: Any) -> FusionConfig:
    settings: dict[str, Any] = {"state_dir": folder, "views": ("p",), "agent_key": "agent-key",
                                "reader_key": "reader-key", "port": 0}
    return FusionConfig(**(settings | changes))


def damage(view: View) -> None:
    """Overwrite all of a view's database but the page that says what it is."""
    with contextlib.closing(apsw.Connection(str(view.store.path))) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(view.store.path, "r+b") as file:
        file.seek(4096)  # the first page says what it is
        file.write(b"\xff" * (view.store.path.stat().st_size - 4096))


class Make:
    """The makers above, for tests, which cannot import this file."""

    config = staticmethod(make_config)
    damage = staticmethod(damage)
    fusion = RunningFusion
    agent = Agent
    row = staticmethod(make_row)
    update = staticmethod(make_update)
    listed = staticmethod(make_listed)


@pytest.fixture
def make() -> type[Make]:
    return Make


@pytest.fixture
def fusion(tmp_path: Path) -> Iterator[RunningFusion]:
    running = RunningFusion(make_config(tmp_path))
    yield running
    running.stop()
