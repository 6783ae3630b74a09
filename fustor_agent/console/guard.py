"""
Refuses requests that a web page somewhere else makes through a person's browser.

A page of another site can send requests to a loopback address, and a name whose address
changes (DNS rebinding) can even make the browser take the answers for its own. Both
show: in `Origin`, and in `Host`.
"""

import ipaddress
import socket
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_FORBIDDEN = 403


class Guard:
    """
    Lets requests for this server, from this server's pages or from no page, through to an application.

    Args:
        app: The application.
        host: Where the console listens.
    """

    def __init__(self, app: ASGIApp, *, host: str) -> None:
        self._app = app
        self._host = host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or pass on; in both cases with the security headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        reason = explain_foreign(Headers(scope=scope), self._host)
        app = self._app if reason is None else JSONResponse({"detail": reason}, status_code=_FORBIDDEN)
        await app(scope, receive, send_guarded)


def explain_foreign(headers: Headers, listens_on: str) -> str | None:
    """
    Say why a request is refused; None when it is not.

    Args:
        headers: Of the request.
        listens_on: The configured host.
    """
    host = headers.get("host", "")
    name = (_parse_name(f"//{host}") or "").rstrip(".")
    if not name or not _is_own(name, listens_on):
        return "this Host is not the console's; use http://localhost and its port"
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        return "this Origin is not the console's; pages of other sites may not use it"
    return None


def _is_own(name: str, listens_on: str) -> bool:
    """Tell whether a name can only mean this server, whatever a name server says."""
    if name in ("localhost", listens_on):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return not _is_loopback(listens_on) and name == socket.gethostname().lower()
    # Somebody who opened it to the network may reach it by any of its addresses.
    return address.is_loopback or not _is_loopback(listens_on)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parse_name(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    # A host has neither a user nor a path; `a@localhost` is not localhost for everyone.
    return parts.hostname if parts.username is None and not parts.path else None
