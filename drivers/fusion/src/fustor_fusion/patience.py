"""How long a request may take to come: who sends slowly, or nothing, holds no connection for ever."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S: Final = 30.0
"""Within so many seconds a request's head must have come, from its first byte or the beginning of the connection."""

BODY_S: Final = 30.0
"""So many seconds a body may take, and as many more as it has times `BODY_BYTES_PER_S`."""

BODY_BYTES_PER_S: Final = 1_000


def limit_body_s(size: int) -> float:
    """Return how many seconds a body may take of which so many bytes have come."""
    return BODY_S + size / BODY_BYTES_PER_S


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection on which a request's head does not come; between two requests uvicorn has a limit itself."""

    head_s = HEAD_S

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def on_message_begin(self) -> None:
        """Wait for the head of a request that has begun."""
        self._wait_for_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Serve the request."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(self.head_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
