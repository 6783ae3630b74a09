"""What the console answers."""

import hmac
import posixpath
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qs, quote

import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fustor_agent.console.board import StatusBoard
from fustor_agent.console.guard import Guard
from fustor_agent.statusmodel import AgentStatus, encode

PIPE_ACTIONS: Final = ("start", "stop", "restart", "snapshot", "audit", "rescan", "record")
AUDIT_ACTIONS: Final = {"full": "audit", "incremental": "incremental-audit"}
"""What the agent is asked for, by the kind of the audit."""
RELOAD: Final = "reload"
_ASSETS: Final = Path(__file__).with_name("assets")
_PAGES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/assets/console.css": ("console.css", "text/css; charset=utf-8"),
    "/assets/console.js": ("console.js", "text/javascript; charset=utf-8"),
    "/assets/icon.svg": ("icon.svg", "image/svg+xml"),
}


class ActionTimedOut(Exception):
    """The agent did not answer in time; the action may still be done."""


class Answer(Protocol):
    """What the agent says to an action."""

    @property
    def ok(self) -> bool:
        """Whether it is done."""

    @property
    def result(self) -> str:
        """What was done, or why not."""


Act = Callable[[str, str], Answer]


class Readiness(msgspec.Struct, frozen=True):
    """The answer of `/readyz`: why which pipe is not current."""

    ready: bool
    reasons: dict[str, str] = {}


def build_app(board: StatusBoard, *, act: Act, token: str, host: str) -> Starlette:
    """
    Build the console's application.

    Args:
        board: Where the status is.
        act: Forwards an action and its target to the agent; may block; raises `ActionTimedOut`.
        token: What a changing request must present.
        host: Where the console listens.
    """
    console = _Console(board, act, token)
    pages = [Route(path, _make_page(*page), methods=["GET"]) for path, page in _PAGES.items()]
    return Starlette(
        routes=[
            *pages,
            Route("/api/status", console.show_status, methods=["GET"]),
            Route("/healthz", console.show_health, methods=["GET"]),
            Route("/readyz", console.show_readiness, methods=["GET"]),
            Route("/api/reload", console.reload, methods=["POST"]),
            Route("/api/pipes/{pipe}/{action}", console.act_on_pipe, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={HTTPException: _say_error},
    )


class _Console:
    """The endpoints; all they share is the board, the way to the agent, and the token."""

    def __init__(self, board: StatusBoard, act: Act, token: str) -> None:
        self._board = board
        self._act = act
        self._token = token.encode()

    async def show_status(self, request: Request) -> Response:
        return Response(encode(self._get_status()), media_type="application/json")

    async def show_health(self, request: Request) -> Response:
        reason = self._board.explain_unhealthy()
        return JSONResponse({"ok": reason is None, "detail": reason or "the agent runs"}, 503 if reason else 200)

    async def show_readiness(self, request: Request) -> Response:
        unhealthy = self._board.explain_unhealthy()
        if unhealthy:
            readiness = Readiness(ready=False, reasons={"agent": unhealthy})
        else:
            pipes = [pipe for pipe in self._get_status().pipes if pipe.enabled and not pipe.current]
            reasons = {pipe.id: pipe.not_current_because or "it is not current" for pipe in pipes}
            readiness = Readiness(ready=not reasons, reasons=reasons)
        code = 200 if readiness.ready else 503
        return Response(msgspec.json.encode(readiness), code, media_type="application/json")

    async def act_on_pipe(self, request: Request) -> Response:
        self._authorise(request)
        pipe, action = request.path_params["pipe"], request.path_params["action"]
        if action not in PIPE_ACTIONS:
            raise HTTPException(404, f'there is no action "{action}"; use one of: {", ".join(PIPE_ACTIONS)}')
        known = [one.id for one in self._get_status().pipes]
        if pipe not in known:
            raise HTTPException(404, f'there is no pipe "{pipe}"; use one of: {", ".join(known) or "none"}')
        if action == "rescan":
            job_id = secrets.token_hex(4)
            return await self._forward(action, f"{pipe}/{job_id}{_quote_path(request)}", job_id=job_id)
        return await self._forward(_name_audit(request) if action == "audit" else action, pipe)

    async def reload(self, request: Request) -> Response:
        self._authorise(request)
        return await self._forward(RELOAD, "")

    def _get_status(self) -> AgentStatus:
        status = self._board.get()
        if status is None:
            raise HTTPException(503, "the agent has not published a status yet; try again in a moment")
        return status

    def _authorise(self, request: Request) -> None:
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        # Headers are latin-1 on the wire; compared as bytes, and in constant time.
        matches = hmac.compare_digest(presented.strip().encode("latin-1"), self._token)
        if scheme.lower() != "bearer" or not matches:
            remedy = "send the content of the file `token` in FUSTOR_HOME as `Authorization: Bearer …`"
            raise HTTPException(401, f"this needs the agent's token; {remedy}", {"WWW-Authenticate": "Bearer"})

    async def _forward(self, action: str, target: str, **further: str) -> Response:
        try:
            answer = await anyio.to_thread.run_sync(self._act, action, target)
        except ActionTimedOut as err:
            raise HTTPException(504, str(err)) from err
        return JSONResponse({"ok": answer.ok, "detail": answer.result, **further}, 200 if answer.ok else 409)


def _name_audit(request: Request) -> str:
    kind = request.query_params.get("kind", "full")
    if kind not in AUDIT_ACTIONS:
        raise HTTPException(400, f'there is no audit of kind "{kind}"; use one of: {", ".join(AUDIT_ACTIONS)}')
    return AUDIT_ACTIONS[kind]


def _quote_path(request: Request) -> str:
    """Return the path that is to be scanned, any bytes but NUL, percent-encoded."""
    query = parse_qs(request.url.query, errors="surrogateescape")
    path = query.get("path", ["/"])[-1]
    if not path.startswith("/") or "\0" in path or posixpath.normpath(path).lstrip("/") != path.strip("/"):
        remedy = "begin with /, and leave out . and .."
        raise HTTPException(400, f"path {path!r:.200} is none below the source's root; {remedy}")
    return quote(path, errors="surrogateescape")


def _make_page(name: str, media_type: str) -> Callable[[Request], Response]:
    content = (_ASSETS / name).read_bytes()

    def show_page(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return show_page


async def _say_error(request: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)
    return JSONResponse({"ok": False, "detail": err.detail}, err.status_code, headers=err.headers)
