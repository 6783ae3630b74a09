"""A Fusion that answers what it is told to, over real HTTP on a free port."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

SESSION = "3ec0e8a4-7805-423f-a4d1-83d291fb4b68"
KEY = "a-very-secret-key"


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Rule(NamedTuple):
    """What to do with requests that match: `act` gets the request's handler and answers itself."""

    method: str
    pattern: str
    wanted: Callable[[Request], bool]
    act: Callable[["_Connection"], None]
    left: list[int]


class FakeFusion:
    """
    Owns the server and its thread; `stop` ends both.

    Args:
        ours: Answer the project's extension of the protocol.
        role: Given to new sessions.
    """

    def __init__(self, *, ours: bool = False, role: str = "leader") -> None:
        self.ours = ours
        self.role = role
        self.requests: list[Request] = []
        self.commands: list[dict[str, Any]] = []
        self._rules: list[Rule] = []
        self._sockets: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self.drop_connections()
        self._server.server_close()
        self._thread.join()

    def answer(
        self,
        method: str,
        pattern: str,
        status: int,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        times: int = 1,
        wanted: Callable[[Request], bool] = lambda request: True,
    ) -> None:
        """Answer matching requests with this status, `times` times."""
        self._add(method, pattern, lambda one: one.reply(status, body, headers), times, wanted)

    def drop(self, method: str, pattern: str, *, times: int = 1) -> None:
        """Close the connection after a matching request was read, without an answer."""
        self._add(method, pattern, lambda one: one.hang_up(), times, lambda request: True)

    @contextmanager
    def hold(self, method: str, pattern: str) -> Iterator[threading.Event]:
        """Leave matching requests unanswered inside the block; the event is set when one is there."""
        there, go_on = threading.Event(), threading.Event()

        def wait(one: "_Connection") -> None:
            there.set()
            go_on.wait()
            one.default()

        self._add(method, pattern, wait, 1_000, lambda request: True)
        rule = self._rules[-1]
        try:
            yield there
        finally:
            self._rules.remove(rule)
            go_on.set()

    def drop_connections(self) -> None:
        """Close all connections, as a server does with idle ones; the clients have seen it when this returns."""
        with self._lock:
            sockets = list(self._sockets.values())
        for one in sockets:
            with suppress(OSError):  # it is closed already
                one.shutdown(socket.SHUT_RDWR)

    def sent(self, pattern: str) -> list[Request]:
        """Return the requests whose path matches, oldest first."""
        return [request for request in self.requests if re.search(pattern, request.path)]

    def events(self) -> list[tuple[str, bool, list[dict[str, Any]]]]:
        """Return (source type, is_end, events) of every ingest."""
        bodies = (request.json for request in self.sent("/events$"))
        return [(body["source_type"], body["is_end"], body["events"]) for body in bodies]

    def _add(
        self,
        method: str,
        pattern: str,
        act: Callable[["_Connection"], None],
        times: int,
        wanted: Callable[[Request], bool],
    ) -> None:
        self._rules.append(Rule(method, pattern, wanted, act, [times]))

    def take(self, connection: "_Connection", request: Request) -> None:
        with self._lock:
            self.requests.append(request)
            for rule in self._rules:
                if (
                    rule.left[0]
                    and rule.method == request.method
                    and re.search(rule.pattern, request.path)
                    and rule.wanted(request)
                ):
                    rule.left[0] -= 1
                    break
            else:
                rule = None
        if rule is None:
            connection.default()
        else:
            rule.act(connection)

    def opened(self, number: int, one: socket.socket) -> None:
        with self._lock:
            self._sockets[number] = one

    def closed(self, number: int) -> None:
        with self._lock:
            del self._sockets[number]


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def __init__(self, fusion: FakeFusion) -> None:
        self.fusion = fusion
        super().__init__(("127.0.0.1", 0), _Connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that are gone are part of the tests."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.number = self.client_address[1]
        self.server.fusion.opened(self.number, self.connection)

    def finish(self) -> None:
        self.server.fusion.closed(self.number)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.request_read = Request(self.command, self.path, headers, body, self.number)
        self.server.fusion.take(self, self.request_read)

    do_GET = do_POST = do_DELETE = _any

    def hang_up(self) -> None:
        self.close_connection = True

    def reply(self, status: int, body: object = None, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def default(self) -> None:
        fusion, request = self.server.fusion, self.request_read
        if request.headers.get("x-api-key") != KEY:
            self.reply(401, {"detail": "Invalid or inactive X-API-Key"})
        elif request.method == "GET" and request.path.endswith("/session/"):
            self.reply(200, {"view_id": "pipe", "status": "authorized"})
        elif request.method == "POST" and request.path.endswith("/session/"):
            self.reply(200, self._created(fusion))
        elif request.path.endswith("/heartbeat"):
            commands, fusion.commands = fusion.commands, []
            self.reply(200, {"status": "ok", "role": fusion.role, "message": None, "commands": commands})
        elif "/commands" in request.path:
            self.reply(200, {"commands": fusion.commands})
        elif request.path.endswith("/sentinel/tasks"):
            self.reply(200, {})
        elif request.path.endswith("/sentinel/feedback"):
            self.reply(200, {"status": "processed", "drivers_updated": 1})
        elif request.path.endswith("/batch"):
            self.reply(200, {"status": "ok", "count": 1, "refused": []})
        else:
            self.reply(200, {"status": "ok", "count": 1})

    def _created(self, fusion: FakeFusion) -> dict[str, Any]:
        created: dict[str, Any] = {
            "session_id": SESSION,
            "role": fusion.role,
            "session_timeout_seconds": 30,
            "audit_interval_sec": 8.0,
            "sentinel_interval_sec": 5.0,
            "message": "Session created successfully",
        }
        if fusion.ours:
            created["fustor"] = {
                "protocol": 1,
                "encodings": ["msgpack"],
                "commits": True,
                "commands": True,
                "generation": "00ff",
                "view_id": "pipe",
            }
        return created
