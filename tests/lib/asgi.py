"""Ask an ASGI application without a network, exactly with the headers that a test names."""

import asyncio
import json
from typing import Any, NamedTuple
from urllib.parse import unquote


class Answer(NamedTuple):
    """What an application answered."""

    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


class AsgiClient:
    """
    Sends one request at a time.

    Args:
        app: The application.
        host: The `Host` of requests that name none.
    """

    def __init__(self, app: Any, *, host: str) -> None:
        self._app = app
        self._host = host

    def get(self, path: str, headers: dict[str, str | bytes] | None = None) -> Answer:
        return self.request("GET", path, headers)

    def post(self, path: str, headers: dict[str, str | bytes] | None = None) -> Answer:
        return self.request("POST", path, headers)

    def request(self, method: str, path: str, headers: dict[str, str | bytes] | None = None) -> Answer:
        return asyncio.run(self._request(method, path, {"Host": self._host, **(headers or {})}))

    async def _request(self, method: str, path: str, headers: dict[str, str | bytes]) -> Answer:
        raw_path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw_path),
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), _encode(value)) for name, value in headers.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8100),
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start, *bodies = sent
        answered = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], answered, b"".join(body.get("body", b"") for body in bodies))


def _encode(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")
