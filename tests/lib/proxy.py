"""An HTTP proxy in front of a Fusion: it remembers what passes, and answers itself what a test tells it to."""

import http.client
import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec

Wanted = Callable[["Passed"], bool]

_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length"})
_OWN = frozenset({"connection", "host"})
_TIMEOUT_S = 120


class Passed(NamedTuple):
    """One request."""

    method: str
    path: str
    body: bytes


def read_lane(request: Passed) -> str | None:
    """Return the lane of a batch; None for every other request. See docs/protocol.md, Pushes."""
    if not request.path.endswith("/batch"):
        return None
    return msgspec.msgpack.decode(request.body, type=tuple[int, str, int, msgspec.Raw])[1]


class RecordingProxy:
    """
    Owns its server and threads; `stop` ends them.

    Args:
        port: Where the Fusion listens on the loopback.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.requests: list[Passed] = []
        """What came, in order."""
        self.answers: list[tuple[Passed, int]] = []
        """What was answered, and how, in order; 0 is a connection that was cut."""
        self._faults: list[tuple[Wanted, int, list[int]]] = []
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """What an agent is configured with."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fail(self, wanted: Wanted, status: int, *, times: int) -> None:
        """Answer the next requests that are wanted with this status, instead of passing them on."""
        with self._lock:
            self._faults.append((wanted, status, [times]))

    def pass_all(self) -> None:
        """Forget the faults that have not happened."""
        with self._lock:
            self._faults.clear()

    def list_lanes(self, session_id: str | None = None) -> list[str]:
        """Return the lanes of the batches that were committed, in order; of one session, or of all."""
        with self._lock:
            answers = list(self.answers)
        return [
            lane
            for request, status in answers
            if status == 200 and (lane := read_lane(request)) and (session_id is None or session_id in request.path)
        ]

    def stop(self) -> None:
        """End it; requests that are under way are cut."""
        self._server.shutdown()
        with self._lock:
            for one in self._sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def take(self, request: Passed) -> int | None:
        """Remember a request; returns what to answer instead of passing it on."""
        with self._lock:
            self.requests.append(request)
            for wanted, status, left in self._faults:
                if left[0] and wanted(request):
                    left[0] -= 1
                    return status
        return None

    def note(self, request: Passed, status: int) -> None:
        """Remember an answer."""
        with self._lock:
            self.answers.append((request, status))

    def attach(self, one: socket.socket, *, opened: bool) -> None:
        """Keep track of the connections."""
        with self._lock:
            (self._sockets.add if opened else self._sockets.discard)(one)


class _Server(ThreadingHTTPServer):
    block_on_close = True
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, proxy: RecordingProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that are gone are part of the tests."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.proxy.attach(self.connection, opened=True)

    def finish(self) -> None:
        self.server.proxy.attach(self.connection, opened=False)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _any(self) -> None:
        proxy = self.server.proxy
        request = Passed(self.command, self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        status = proxy.take(request)
        if status is not None:
            proxy.note(request, status)
            self._reply(status, [("Content-Type", "application/json")], json.dumps({"detail": "injected"}).encode())
            return
        onward = http.client.HTTPConnection("127.0.0.1", proxy.target, timeout=_TIMEOUT_S)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
            onward.request(self.command, self.path, request.body or None, headers)
            answer = onward.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            proxy.note(request, 0)
            self.close_connection = True
            return
        finally:
            onward.close()
        proxy.note(request, answer.status)
        self._reply(answer.status, answer.getheaders(), data)

    do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = _any

    def _reply(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
