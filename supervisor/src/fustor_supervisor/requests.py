"""What workers and the program ask of each other through the supervisor."""

import itertools
import logging
from collections.abc import Callable

import msgspec

from fustor_supervisor.messages import Reply, Request

_log = logging.getLogger(__name__)

OnReply = Callable[[Reply], None]


class RequestResult(msgspec.Struct, frozen=True):
    """What the program answers to a worker's request."""

    result: str
    ok: bool = True


OnRequest = Callable[[Request], RequestResult | None]


def call_program(on_request: OnRequest | None, request: Request) -> RequestResult | None:
    """Have the program answer a request; None means that it answers later."""
    if on_request is None:
        return RequestResult(f'nothing here knows "{request.action}"', ok=False)
    try:
        return on_request(request)
    except Exception as err:  # a callback's edge: the program's fault must not end the supervisor
        _log.exception("request failed worker=%s action=%s", request.worker, request.action)
        return RequestResult(f"{type(err).__name__}: {err}", ok=False)


class PendingCommands:
    """Gives commands their numbers and calls back when the reply comes, or never can."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[str, OnReply | None]] = {}

    def add(self, worker: str, on_reply: OnReply | None) -> int:
        """Return the number of a new command to a worker."""
        number = next(self._ids)
        self._waiting[number] = (worker, on_reply)
        return number

    def finish(self, reply: Reply) -> None:
        """Hand over a reply; one that nobody waits for is dropped."""
        _, on_reply = self._waiting.pop(reply.id, ("", None))
        if on_reply is None:
            return
        try:
            on_reply(reply)
        except Exception:  # a callback's edge: the program's fault must not end the supervisor
            _log.exception("reply callback failed id=%d", reply.id)

    def fail_all(self, worker: str, generation: int, reason: str) -> None:
        """Answer for a worker that cannot any more."""
        for number in [number for number, (name, _) in self._waiting.items() if name == worker]:
            self.finish(Reply(generation=generation, id=number, result=reason, ok=False))
