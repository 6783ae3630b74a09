"""An HTTP server on a free port that remembers what comes, and does what a test tells it to."""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    """What came; header names in small letters, connections by the client's port."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


class Rule(NamedTuple):
    """What to do with the next requests that are wanted."""

    wanted: Callable[[Request], bool]
    act: Callable[["Exchange"], None]
    left: list[int]


class ScriptedServer:
    """
    Owns the server and its threads; `stop` ends them.

    Args:
        otherwise: Answers the requests that no rule takes.
    """

    def __init__(self, otherwise: Callable[["Exchange"], None]) -> None:
        self.requests: list[Request] = []
        """What came, oldest first."""
        self.lock = threading.Lock()
        self._otherwise = otherwise
        self._rules: list[Rule] = []
        self._sockets: set[socket.socket] = set()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, wanted: Callable[[Request], bool], act: Callable[["Exchange"], None], *, times: int) -> Rule:
        """Do something with the next requests that are wanted; the oldest rule goes first."""
        rule = Rule(wanted, act, [times])
        with self.lock:
            self._rules.append(rule)
        return rule

    def remove(self, *rules: Rule) -> None:
        """Forget rules, without any all."""
        with self.lock:
            self._rules = [rule for rule in self._rules if rules and rule not in rules]

    def drop_connections(self) -> None:
        """Close all connections, as a server does with idle ones; the clients have seen it when this returns."""
        with self.lock:
            for one in self._sockets:
                with suppress(OSError):  # it is closed already
                    one.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """End it; requests that are under way are cut."""
        self._server.shutdown()
        self.drop_connections()
        self._server.server_close()
        self._thread.join()

    def take(self, exchange: "Exchange") -> None:
        """Remember a request, and have it answered."""
        with self.lock:
            self.requests.append(exchange.request_read)
            rule = next((rule for rule in self._rules if rule.left[0] and rule.wanted(exchange.request_read)), None)
            if rule is not None:
                rule.left[0] -= 1
        (self._otherwise if rule is None else rule.act)(exchange)

    def attach(self, one: socket.socket, *, opened: bool) -> None:
        """Keep track of the connections."""
        with self.lock:
            (self._sockets.add if opened else self._sockets.discard)(one)


class _Server(ThreadingHTTPServer):
    block_on_close = True
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, owner: ScriptedServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), Exchange)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that are gone are part of the tests."""


class Exchange(BaseHTTPRequestHandler):
    """One request, to be answered or not."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.owner.attach(self.connection, opened=True)

    def finish(self) -> None:
        self.server.owner.attach(self.connection, opened=False)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.request_read = Request(self.command, self.path, headers, body, self.client_address[1])
        self.server.owner.take(self)

    do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = _any

    def hang_up(self) -> None:
        """Close the connection without an answer."""
        self.close_connection = True

    def reply(self, status: int, body: object = None, headers: Mapping[str, str] | None = None) -> None:
        """Answer, with bytes as they are or with JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
