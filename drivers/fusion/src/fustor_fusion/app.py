"""The application: routes, and what an error becomes."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from fustor_fusion import __version__
from fustor_fusion.context import Context, answer
from fustor_fusion.errors import RequestRefused, StoreUnavailable
from fustor_fusion.guard import HostGuard
from fustor_fusion.pipe_routes import PipeRoutes
from fustor_fusion.view_routes import ViewRoutes


def build_app(context: Context) -> HostGuard:
    """Build the application of one server."""
    app = Starlette(
        routes=[
            Route("/", _say_hello, methods=["GET"]),
            Mount("/api/v1/pipe", routes=PipeRoutes(context).list_routes()),
            Mount("/api/v1/views", routes=ViewRoutes(context).list_routes()),
        ],
        exception_handlers={
            RequestRefused: _answer_refusal,
            StoreUnavailable: _answer_unavailable,
            HTTPException: _answer_http,
        },
    )
    return HostGuard(app, context.config.host, context.config.allowed_hosts)


async def _say_hello(_: Request) -> Response:
    """Say who answers here, without a key: a look at whether the port is served, as clients of the protocol have it."""
    return answer({"message": f"Fustor Fusion {__version__}"})


async def _answer_refusal(_: Request, err: Exception) -> Response:
    assert isinstance(err, RequestRefused)
    return answer({"detail": err.detail}, status=err.status)


async def _answer_unavailable(_: Request, err: Exception) -> Response:
    return answer({"detail": str(err)}, status=503, headers={"Retry-After": "1"})


async def _answer_http(_: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)
    return answer({"detail": err.detail}, status=err.status_code, headers=err.headers)
