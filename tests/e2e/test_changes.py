"""A reader that follows the changes over HTTP has, after a sync, what the export says."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests

from agent import AgentUnderTest
from treeops import RandomTree

_STEPS = 150


class Follower:
    """A copy of a view, by path, that knows the view only by its endpoints."""

    def __init__(self, agent: AgentUnderTest) -> None:
        self._base = f"{agent.fusion_url}/api/v1/views/{agent.view}"
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["X-API-Key"] = agent.reader_key()
        self.rows, self._token = self.export()

    def close(self) -> None:
        self._http.close()

    def export(self, path: bytes = b"/") -> tuple[dict[bytes, Any], str]:
        """Return what is below a path, and the token of that answer."""
        response = self._http.get(f"{self._base}/export", params={"raw": encode(path)})
        assert response.status_code in (200, 404), response.text
        lines = response.content.splitlines() if response.status_code == 200 else []
        return {get_path(row): row for row in map(json.loads, lines)}, response.headers.get("X-Fustor-Token", "")

    def follow(self, **query: object) -> bool:
        """Look at what changed, once; tells whether there was anything."""
        response = self._http.get(f"{self._base}/changes", params={"since": self._token, "limit": 50, **query})
        assert response.status_code == 200, response.text
        page = response.json()
        for change in page["changes"]:
            self._look(change["kind"], get_path(change))
        self._token = page["token"]
        return bool(page["changes"])

    def _look(self, kind: str, path: bytes) -> None:
        if kind in ("gone", "listed"):
            for each in [each for each in self.rows if each.startswith(path.rstrip(b"/") + b"/")]:
                del self.rows[each]
        if kind == "listed":
            self.rows |= self.export(path)[0]
            return
        self.rows.pop(path, None)
        if kind == "put" and path != b"/":
            response = self._http.get(f"{self._base}/metadata", params={"raw": encode(path)})
            if response.status_code == 200:
                self.rows[path] = response.json()


def get_path(row: dict[str, Any]) -> bytes:
    return msgspec.convert(row["raw"], bytes) if "raw" in row else row["path"].encode()


def encode(path: bytes) -> str:
    return str(msgspec.to_builtins(path)).replace("+", "-").replace("/", "_")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    below = tmp_path / "in" / "below"
    below.mkdir(parents=True)
    (tmp_path / "out").mkdir()
    for number in range(50):
        (below / f"f{number}").write_text("x" * number)
    return tmp_path / "in"


@pytest.fixture
def follower(tree: Path, start_agent: Callable[..., AgentUnderTest]) -> Iterator[Follower]:
    agent = start_agent(watch=tree)
    agent.wait_ready()
    follower = Follower(agent)
    yield follower
    follower.close()


def test_a_copy_that_follows_the_changes_ends_as_the_view(tree: Path, follower: Follower) -> None:
    seed = random.randrange(1 << 30)
    operations = RandomTree(tree, tree.parent / "out", random.Random(seed))
    writer = threading.Thread(target=lambda: [operations.step() for _ in range(_STEPS)])
    writer.start()
    while writer.is_alive():
        follower.follow(wait=0.2)
    writer.join()
    while follower.follow(sync=30):
        pass
    rows, _ = follower.export()
    log = "\n".join(operations.log[-20:])
    assert follower.rows == rows, f"seed {seed}\n{log}"
