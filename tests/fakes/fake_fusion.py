"""A Fusion that answers what it is told to, over real HTTP on a free port."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from scripted import Exchange, Request, ScriptedServer

SESSION = "3ec0e8a4-7805-423f-a4d1-83d291fb4b68"
KEY = "a-very-secret-key"

Wanted = Callable[[Request], bool]


class FakeFusion:
    """
    Owns its server; `stop` ends it.

    Args:
        ours: Answer the project's extension of the protocol.
        role: Given to new sessions.
    """

    def __init__(self, *, ours: bool = False, role: str = "leader") -> None:
        self.ours = ours
        self.compares = False
        self.role = role
        self.commands: list[dict[str, Any]] = []
        self._server = ScriptedServer(self._answer_well)
        self.url = self._server.url
        self.requests = self._server.requests
        self.stop = self._server.stop
        self.drop_connections = self._server.drop_connections

    def answer(
        self,
        method: str,
        pattern: str,
        status: int,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        times: int = 1,
        wanted: Wanted = lambda request: True,
    ) -> None:
        """Answer matching requests with this status, `times` times."""
        matches = _match(method, pattern)
        self._server.add(lambda request: matches(request) and wanted(request),
                         lambda exchange: exchange.reply(status, body, headers), times=times)

    def drop(self, method: str, pattern: str, *, times: int = 1) -> None:
        """Close the connection after a matching request was read, without an answer."""
        self._server.add(_match(method, pattern), Exchange.hang_up, times=times)

    @contextmanager
    def hold(self, method: str, pattern: str) -> Iterator[threading.Event]:
        """Leave matching requests unanswered inside the block; the event is set when one is there."""
        there, go_on = threading.Event(), threading.Event()

        def wait(exchange: Exchange) -> None:
            there.set()
            go_on.wait()
            self._answer_well(exchange)

        rule = self._server.add(_match(method, pattern), wait, times=1_000)
        try:
            yield there
        finally:
            self._server.remove(rule)
            go_on.set()

    def sent(self, pattern: str) -> list[Request]:
        """Return the requests whose path matches, oldest first."""
        return [request for request in self.requests if re.search(pattern, request.path)]

    def events(self) -> list[tuple[str, bool, list[dict[str, Any]]]]:
        """Return (source type, is_end, events) of every ingest."""
        bodies = (request.json for request in self.sent("/events$"))
        return [(body["source_type"], body["is_end"], body["events"]) for body in bodies]

    def _answer_well(self, exchange: Exchange) -> None:
        request, reply = exchange.request_read, exchange.reply
        if request.headers.get("x-api-key") != KEY:
            reply(401, {"detail": "Invalid or inactive X-API-Key"})
        elif request.method == "GET" and request.path.endswith("/session/"):
            reply(200, {"view_id": "pipe", "status": "authorized"})
        elif request.method == "POST" and request.path.endswith("/session/"):
            reply(200, self._created())
        elif request.path.endswith("/heartbeat"):
            commands, self.commands = self.commands, []
            reply(200, {"status": "ok", "role": self.role, "message": None, "commands": commands})
        elif "/commands" in request.path:
            reply(200, {"commands": self.commands})
        elif request.path.endswith("/sentinel/tasks"):
            reply(200, {})
        elif request.path.endswith("/sentinel/feedback"):
            reply(200, {"status": "processed", "drivers_updated": 1})
        elif "/batch" in request.path:
            reply(200, {"status": "ok", "count": 1, "refused": []})
        else:
            reply(200, {"status": "ok", "count": 1})

    def _created(self) -> dict[str, Any]:
        created: dict[str, Any] = {
            "session_id": SESSION,
            "role": self.role,
            "session_timeout_seconds": 30,
            "audit_interval_sec": 8.0,
            "sentinel_interval_sec": 5.0,
            "message": "Session created successfully",
        }
        if self.ours:
            created["fustor"] = {
                "protocol": 1,
                "encodings": ["msgpack"],
                "commits": True,
                "commands": True,
                "moves": True,
                "generation": "00ff",
                "view_id": "pipe",
            } | ({"compares": True} if self.compares else {})
        return created


def _match(method: str, pattern: str) -> Wanted:
    return lambda request: request.method == method and re.search(pattern, request.path) is not None
