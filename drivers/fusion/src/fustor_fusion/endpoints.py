"""What an endpoint is: one declaration, from which its route and its description in openapi.py are made."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fustor_fusion.keyfile import Role
from fustor_fusion.questions import Nothing

JSON = "application/json"

Serve = Callable[[Request], Awaitable[Response]]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """
    One method at one path.

    Args:
        method: Of HTTP.
        path: From the root; names in braces are asked.
        serve: Answers a request.
        about: What does it; its name and the first line of its docstring are told.
        key: The least that the request's key must be for; None without a key.
        asked: What path and query say.
        body: The type of its body; None without one.
        body_type: The media type of that.
        answers: The type of its answer, or several in a tuple.
        answer_type: The media type of that; of NDJSON, `answers` is one line.
        refusals: The statuses with which it may be refused.
        headers: Every answer says how current the view is.
    """

    method: str
    path: str
    serve: Serve
    about: Callable[..., object]
    key: Role | None
    asked: type[msgspec.Struct] = Nothing
    body: Any = None
    body_type: str = JSON
    answers: Any
    answer_type: str = JSON
    refusals: tuple[int, ...] = ()
    headers: bool = False


def make_routes(endpoints: Iterable[Endpoint]) -> list[Route]:
    """Make a route of each path, so that a wrong method is told all that are right."""
    by_path: dict[str, dict[str, Serve]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint.serve
    return [Route(path, _dispatch(serves), methods=list(serves)) for path, serves in by_path.items()]


def _dispatch(serves: Mapping[str, Serve]) -> Serve:
    async def serve(request: Request) -> Response:
        return await serves["GET" if request.method == "HEAD" else request.method](request)

    return serve
