"""The application: what is served, and what an error becomes."""

import functools

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from fustor_fusion import __version__
from fustor_fusion.context import Context, answer, refuse
from fustor_fusion.endpoints import JSON, Endpoint, make_routes
from fustor_fusion.errors import RequestRefused, StoreUnavailable
from fustor_fusion.guard import HostGuard
from fustor_fusion.openapi import describe
from fustor_fusion.pipe_routes import PipeRoutes
from fustor_fusion.protocol import Hello
from fustor_fusion.view_routes import ViewRoutes


def build_app(context: Context) -> HostGuard:
    """Build the application of one server."""
    app = Starlette(
        routes=make_routes(list_endpoints(context)),
        exception_handlers={
            RequestRefused: _answer_refusal,
            StoreUnavailable: _answer_refusal,
            HTTPException: _answer_http,
        },
    )
    return HostGuard(app, context.config.host, context.config.allowed_hosts)


def list_endpoints(context: Context) -> list[Endpoint]:
    """Return everything that is served."""
    endpoints = [
        Endpoint(method="GET", path="/", serve=say_hello, about=say_hello, key=None, answers=Hello),
        *PipeRoutes(context).list_endpoints(),
        *ViewRoutes(context).list_endpoints(),
    ]

    @functools.cache  # it takes as long as hundreds of questions, and anybody may ask
    def encode() -> bytes:
        return msgspec.json.encode(describe(endpoints, __version__))

    async def describe_all(_: Request) -> Response:
        """Describe everything that is served, as an OpenAPI document."""
        return Response(encode(), media_type=JSON)

    endpoints.append(Endpoint(method="GET", path="/api/v1/openapi.json", serve=describe_all, about=describe_all,
                              key=None, answers=dict))
    return endpoints


async def say_hello(_: Request) -> Response:
    """Say who answers here, as clients of the protocol ask it, to see whether the port is served."""
    return answer(Hello(f"Fustor Fusion {__version__}"))


async def _answer_refusal(_: Request, err: Exception) -> Response:
    assert isinstance(err, RequestRefused | StoreUnavailable)
    return refuse(err)


async def _answer_http(_: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)
    return answer({"detail": err.detail}, status=err.status_code, headers=err.headers)
