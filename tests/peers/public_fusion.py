"""The public Fusion 0.8.17, as released, in an environment of its own."""

import json
import signal
import socket
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final

from released import Program, install, pin

from agent import free_ports
from waiting import until

REQUIREMENTS: Final = pin(
    "fustor-fusion", "fustor-core", "fustor-fusion-sdk", "fustor-receiver-http", "fustor-schema-fs", "fustor-view-fs",
)  # fmt: skip
START_TIMEOUT_S: Final = 60.0


class PublicFusion:
    """
    One running public Fusion with one pipe and one view; owns its process until `stop`.

    Args:
        home: An empty directory for its configuration and log.
        same_ids: Call pipe and view the same: only then sentinel and audit calls with the push key work.
        session_timeout_s: For agents that do not ask for one.
        sentinel_interval_s: How often agents are to ask for suspects; None leaves the receiver's default.
    """

    push_key = "push-key-of-the-tests"
    view_key = "view-key-of-the-tests"

    def __init__(self, home: Path, *, same_ids: bool = False, session_timeout_s: int = 30,
                 sentinel_interval_s: float | None = None) -> None:
        self.home = home
        self.pipe_id = "both" if same_ids else "pipe-1"
        self.view_id = "both" if same_ids else "view-1"
        self._pipe: dict[str, Any] = {"session_timeout_seconds": session_timeout_s}
        if sentinel_interval_s is not None:
            self._pipe["sentinel_interval_sec"] = sentinel_interval_s
        self._program = Program(home)
        self.port = 0
        self.view_port = 0

    @property
    def endpoint(self) -> str:
        """What an agent is configured with."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "PublicFusion":
        """Start it, on ports that are free now or on those that it had before, and wait until it answers."""
        program = install("public-fusion", REQUIREMENTS) / "fustor-fusion"
        if not self.port:
            self.port, self.view_port = free_ports(2)
        (self.home / "fusion-config").mkdir(parents=True, exist_ok=True)
        (self.home / "fusion-config" / "default.yaml").write_text(json.dumps(self._config()))  # JSON is YAML
        self._program.start(str(program), "start")
        try:
            until(self._answers, within_s=START_TIMEOUT_S, what="the public Fusion")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it; nothing that it knew is kept."""
        self._program.end(signal.SIGTERM)

    def pids(self) -> list[int]:
        """Return its processes."""
        return self._program.pids()

    def log(self) -> str:
        """Return what it printed."""
        return self._program.log()

    def query(self, name: str, **parameters: object) -> Any:
        """
        Ask the view.

        Args:
            name: For example `tree`, `stats`, `blind-spots`.
            parameters: Of the query.

        Returns:
            The decoded answer; None where the view is not ready or the path is not there.
        """
        query = urllib.parse.urlencode(parameters)
        return self._get(f"/api/v1/views/{self.view_id}/{name}?{query}", self.view_key)

    def has_applied_all(self) -> bool:
        """Tell whether all it has taken is applied: it answers before, and what comes late outlives its session."""
        pipe = self._get("/api/v1/pipe/pipes", self.view_key)[self.pipe_id]
        counts = pipe["statistics"]
        return bool(counts["events_received"] == counts["events_processed"] and pipe["queue_size"] == 0)

    def nodes(self) -> dict[str, dict[str, Any]] | None:
        """Return all nodes but the root, by path; None while the view is not ready."""
        tree = self.query("tree", path="/")
        if tree is None:
            return None
        nodes: dict[str, dict[str, Any]] = {}
        todo = list(tree.get("children") or [])
        while todo:
            node = todo.pop()
            todo.extend(node.pop("children", None) or [])
            nodes[node["path"]] = node
        return nodes

    def _config(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.view_port,
            "session_cleanup_interval": 0.5,
            "receivers": {
                "receiver": {
                    "driver": "http",
                    "bind_host": "127.0.0.1",
                    "port": self.port,
                    "api_keys": [{"key": self.push_key, "pipe_id": self.pipe_id}],
                }
            },
            "views": {
                self.view_id: {
                    "driver": "fs",
                    "api_keys": [self.view_key],
                    # Above its default of 100,000 nodes a view answers no query at all.
                    "driver_params": {"max_tree_items": 0, "hot_file_threshold": 2.0},
                }
            },
            "pipes": {
                self.pipe_id: {
                    "receiver": "receiver",
                    "views": [self.view_id],
                    **self._pipe,
                }
            },
        }

    def _answers(self) -> bool:
        if self._program.process is not None and self._program.process.poll() is not None:
            raise RuntimeError(f"the public Fusion ended at once:\n{self.log()[-2000:]}")
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), 1),
                socket.create_connection(("127.0.0.1", self.view_port), 1),
            ):
                return True
        except OSError:
            return False

    def _get(self, path: str, key: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.view_port}{path}", headers={"X-API-Key": key})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as err:
            with err:
                if err.code in (404, 503):
                    return None
            raise
