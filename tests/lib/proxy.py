"""An HTTP proxy in front of a Fusion: it remembers what passes, and answers itself what a test tells it to."""

import http.client
from collections.abc import Callable

import msgspec

from scripted import Exchange, Request, ScriptedServer

_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length"})
_OWN = frozenset({"connection", "host"})
_TIMEOUT_S = 120


def read_lane(request: Request) -> str | None:
    """Return the lane of a batch; None for every other request. See docs/protocol.md, Pushes."""
    if "/batch" not in request.path:
        return None
    return msgspec.msgpack.decode(request.body, type=tuple[int, str, int, msgspec.Raw])[1]


class RecordingProxy:
    """
    Owns its server; `stop` ends it.

    Args:
        port: Where the Fusion listens on the loopback.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.answers: list[tuple[Request, int]] = []
        """What was answered, and how, in order; 0 is a connection that was cut."""
        self._server = ScriptedServer(self._pass_on)
        self.endpoint = self._server.url
        """What an agent is configured with."""
        self.stop = self._server.stop

    def fail(self, wanted: Callable[[Request], bool], status: int, *, times: int) -> None:
        """Answer the next requests that are wanted with this status, instead of passing them on."""
        def refuse(exchange: Exchange) -> None:
            self._note(exchange, status)
            exchange.reply(status, {"detail": "injected"}, {"Content-Type": "application/json"})

        self._server.add(wanted, refuse, times=times)

    def lose_answers(self, wanted: Callable[[Request], bool], *, times: int) -> None:
        """Pass the next requests that are wanted on, and hang up when they have been answered."""
        self._server.add(wanted, lambda exchange: self._pass_on(exchange, answers=False), times=times)

    def pass_all(self) -> None:
        """Forget the faults that have not happened."""
        self._server.remove()

    def list_lanes(self, session_id: str | None = None) -> list[str]:
        """Return the lanes of the batches that were committed, in order; of one session, or of all."""
        with self._server.lock:
            answers = list(self.answers)
        return [
            lane
            for request, status in answers
            if status == 200 and (lane := read_lane(request)) and (session_id is None or session_id in request.path)
        ]

    def _note(self, exchange: Exchange, status: int) -> None:
        with self._server.lock:
            self.answers.append((exchange.request_read, status))

    def _pass_on(self, exchange: Exchange, *, answers: bool = True) -> None:
        request = exchange.request_read
        onward = http.client.HTTPConnection("127.0.0.1", self.target, timeout=_TIMEOUT_S)
        try:
            headers = {name: value for name, value in request.headers.items() if name not in _OWN}
            onward.request(request.method, request.path, request.body or None, headers)
            answer = onward.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            self._note(exchange, 0)
            exchange.hang_up()
            return
        finally:
            onward.close()
        self._note(exchange, answer.status if answers else 0)
        if not answers:
            exchange.hang_up()
            return
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        exchange.reply(answer.status, data, headers)
