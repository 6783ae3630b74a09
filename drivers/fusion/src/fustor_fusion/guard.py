"""Who may ask: host and origin of a request, its key, and the size of its body."""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import ClientDisconnect, Request

from fustor_fusion.errors import RequestRefused
from fustor_fusion.keyfile import Key, Role
from fustor_fusion.keyring import KeyRing
from fustor_fusion.patience import BODY_BYTES_PER_S, limit_body_s

_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_READING = frozenset(("GET", "HEAD", "OPTIONS"))

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class HostGuard:
    """
    Refuses requests that a foreign web page made a browser send.

    A page can point its own name at this address, but cannot forge `Host` and `Origin`; so only
    loopback names, the configured ones and, when the host is no loopback, plain addresses are taken.

    Args:
        app: What answers the requests that pass.
        host: The configured host.
        allowed_hosts: Further names.
    """

    def __init__(self, app: App, host: str, allowed_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._names = _LOOPBACK | {host.lower()} | {name.lower() for name in allowed_hosts}
        self._takes_addresses = host not in _LOOPBACK
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] == "http":
            self.requests += 1
            if sum(name == b"host" for name, _ in scope["headers"]) > 1:
                await _refuse(send, 400, "several headers Host; send one")
                return
            reason = self._find_fault(scope)
            if reason is not None:
                await _refuse(send, 403, reason)
                return
        await self._app(scope, receive, send)

    def _find_fault(self, scope: Scope) -> str | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._is_ours(f"//{host}"):
            return f"host {host!r:.100} is not served here; use localhost, the configured host or one of allowed_hosts"
        origin = headers.get(b"origin")
        if origin is not None and scope["method"] not in _READING and not self._is_ours(origin.decode("latin-1")):
            return f"origin {origin.decode('latin-1')!r:.100} may not change anything here"
        return None

    def _is_ours(self, url: str) -> bool:
        try:
            name = urlsplit(url).hostname
        except ValueError:
            return False
        if name is None:
            return False
        if name in self._names:
            return True
        if not self._takes_addresses:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = msgspec.json.encode({"detail": reason})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def find_key(request: Request, ring: KeyRing, *, may_read_only: bool) -> Key:
    """
    Find the key of the header `X-API-Key`.

    Args:
        request: The request.
        ring: The keys.
        may_read_only: A key that may only read is enough.

    Raises:
        RequestRefused: 401 without a good key, 503 when it may be in a file that cannot be read.
    """
    given = request.headers.get("x-api-key")
    if not given:
        raise RequestRefused(401, "X-API-Key header is missing")
    key = ring.find(given.encode("utf-8", "surrogateescape"))
    if key is None and ring.fault is not None:
        raise RequestRefused(503, f"the key cannot be checked: {ring.fault}")
    if key is None or (key.role is Role.READER and not may_read_only):
        raise RequestRefused(401, "Invalid or inactive X-API-Key" if may_read_only else "Invalid API key")
    return key


def check_view(key: Key, view: str) -> None:
    """Refuse a key that is not for a view, with 403."""
    if view not in key.views:
        raise RequestRefused(403, f'key {key.id} is not for view "{view:.100}"; it is for {", ".join(key.views)}')


async def read_body(request: Request, limit: int) -> bytes:
    """
    Read a request's body.

    Raises:
        RequestRefused: 413 longer than the limit, 400 compressed or cut off, 408 it comes too slowly.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestRefused(400, "compressed bodies are not taken; send identity")
    too_long = RequestRefused(413, f"the body is longer than {limit} bytes; send smaller batches")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_long
    parts: list[bytes] = []
    size = 0
    began_s = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(limit_body_s(0)) as patience:
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise too_long
                parts.append(part)
                patience.reschedule(began_s + limit_body_s(size))
    except ClientDisconnect as err:
        raise RequestRefused(400, "the body was cut off") from err
    except TimeoutError as err:
        raise RequestRefused(
            408, f"of the body only {size} bytes came within {limit_body_s(size):.0f} s; "
            f"send at least {BODY_BYTES_PER_S} bytes per second") from err
    return b"".join(parts)
