"""What the routes share: the configuration, the views, and how a request is read and answered."""

import asyncio
import functools
import logging
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from anyio import CapacityLimiter
from starlette.requests import Request
from starlette.responses import Response

from fustor_fusion.answers import Refusal
from fustor_fusion.config import FusionConfig
from fustor_fusion.errors import RequestRefused, StoreUnavailable
from fustor_fusion.guard import check_view, find_key, read_body
from fustor_fusion.keyfile import Key, Role
from fustor_fusion.keyring import KeyRing
from fustor_fusion.sessions import AgentSession
from fustor_fusion.view import View

log = logging.getLogger(__name__)

_MAX_READ_AT_ONCE = 8  # more would only take turns with each other
_encode = msgspec.json.encode

T = TypeVar("T")


class Context:
    """
    What one server's routes work with.

    Args:
        config: The server's.
        views: By name.
        keys: Who may ask.
        stopping: Set when the server begins to stop; long polls then end.
    """

    def __init__(
        self, config: FusionConfig, views: Mapping[str, View], keys: KeyRing, stopping: asyncio.Event
    ) -> None:
        self.config = config
        self.views = views
        self.keys = keys
        self.stopping = stopping
        self.sessions_changed = asyncio.Event()

    @functools.cached_property
    def turns(self) -> CapacityLimiter:
        """How many questions are looked up at once, each on a thread; others wait, agents never behind them."""
        return CapacityLimiter(_MAX_READ_AT_ONCE)

    def authorise(self, request: Request, least: Role) -> Key:
        """Find the request's key, which must be for a role at least; raises RequestRefused 401 or 503."""
        if self.keys.refresh():
            self.end_revoked()
        return find_key(request, self.keys, may_read_only=least is Role.READER)

    def end_revoked(self) -> None:
        """End the sessions whose key was revoked."""
        for view in self.views.values():
            for session in view.sessions.get_all():
                if session.key_id and not self.keys.may_push(session.key_id, view.name):
                    log.info("A session ends with its key view=%s session=%.8s key=%s",
                             view.name, session.id, session.key_id)
                    view.sessions.close(session.id)
                    view.notify()
        self.sessions_changed.set()

    def list_views(self, key: Key) -> list[View]:
        """Return the views that are served and that a key is for."""
        return [view for view in self.views.values() if view.name in key.views]

    def find_session(self, session_id: str, key: Key) -> tuple[View, AgentSession]:
        """
        Return a live session by its id, and its view.

        Raises:
            RequestRefused: 404 unknown or closed, 419 expired, 403 of a view that the key is not for.
        """
        unknown = RequestRefused(404, f"Session {session_id:.100} not found or expired")
        for view in self.views.values():
            try:
                session = view.require(session_id)
            except RequestRefused as err:
                if err.status == 419:
                    raise
                continue
            check_view(key, view.name)
            return view, session
        raise unknown

    async def read(self, request: Request, kind: type[T]) -> T:
        """
        Read a JSON body.

        Raises:
            RequestRefused: 422 malformed, and what `read_body` raises.
        """
        return decode(await read_body(request, self.config.max_body_bytes), kind)


def decode(body: bytes, kind: type[T]) -> T:
    """Decode a JSON body; raises RequestRefused 422 with the reason."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as err:
        raise RequestRefused(422, f"malformed body: {err}") from err


def answer(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Make a JSON answer."""
    return Response(_encode(content), status, headers, "application/json")


def refuse(err: RequestRefused | StoreUnavailable) -> Response:
    """Make the answer that says why a request is refused."""
    if isinstance(err, RequestRefused):
        # What still comes of a body that came too slowly is read by nobody.
        headers = {"Connection": "close"} if err.status == 408 else None
        return answer(Refusal(err.detail), status=err.status, headers=headers)
    return answer(Refusal(str(err)), status=503, headers={"Retry-After": "1"})
