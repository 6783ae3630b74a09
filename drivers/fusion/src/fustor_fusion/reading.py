"""One question to one view: reading beside the writer, and how current the answer is."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, TypeVar

import apsw
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Send

from fustor_fusion.changes import read_token
from fustor_fusion.errors import RequestRefused
from fustor_fusion.questions import Ask
from fustor_fusion.readers import Readers
from fustor_fusion.store import Store
from fustor_fusion.view import View

log = logging.getLogger(__name__)

MAX_LOG_BYTES = 512 << 20
MAX_WAITED_S = 30.0
_LOOK_EVERY_S = 1.0
_MAX_WHOLE_BYTES = 256 << 10

CURRENT, BECAUSE, TOKEN = "X-Fustor-Current", "X-Fustor-Not-Current-Because", "X-Fustor-Token"
Query = Callable[[apsw.Connection], Iterator[bytes]]
Q = TypeVar("Q", bound=Ask)
T = TypeVar("T")


class LeasedStream:
    """
    The pieces of an answer, read from one read transaction that ends with the last of them.

    Owns the lease; it is given back after the last piece, by `close`, or when nobody holds the stream any more.
    """

    def __init__(self, readers: Readers, query: Query) -> None:
        self._lease = contextlib.ExitStack()
        try:
            db = self._lease.enter_context(readers.lease())
            self.token = str(read_token(db))
            self._pieces = query(db)
            self._first: bytes | None = next(self._pieces, b"")
        except BaseException:
            self._lease.close()
            raise

    def read(self) -> bytes | None:
        """Return the next piece; None after the last."""
        piece, self._first = self._first, None
        if piece is None:
            piece = next(self._pieces, None)
        if piece is None:
            self._lease.close()
        return piece

    def read_whole(self) -> bytes:
        """Return all; raises RequestRefused 505 when that is too much to be kept."""
        pieces: list[bytes] = []
        size = 0
        while (piece := self.read()) is not None:
            pieces.append(piece)
            size += len(piece)
            if size > _MAX_WHOLE_BYTES:
                raise RequestRefused(505, "the answer is too long for HTTP/1.0, which takes none in pieces; use 1.1")
        return b"".join(pieces)

    def close(self) -> None:
        """Give back the lease; no piece may be under way."""
        self._lease.close()

    def __del__(self) -> None:
        self._lease.close()


class _Patient(StreamingResponse):
    """
    Sends pieces as they are read, to a reader who takes his time.

    The read transaction keeps the database's log from being begun anew, so the answer ends unfinished
    once the log is too large and Fusion has waited long enough for this reader.

    Args:
        stream: The pieces; closed at the end.
        pieces: Gives them.
        media_type: Theirs.
        store: Whose log it is.
    """

    def __init__(self, stream: LeasedStream, pieces: AsyncIterator[bytes], media_type: str, store: Store) -> None:
        super().__init__(pieces, media_type=media_type)
        self._stream = stream
        self._store = store
        self._waited_s = 0.0

    async def stream_response(self, send: Send) -> None:
        """Send all, or as much as the reader takes in time; the connection is closed then."""
        try:
            await super().stream_response(functools.partial(self._send, send))
        except _TooSlow:
            log.warning("An answer ended unfinished: its reader was too slow, and the log too large database=%s "
                        "waited_s=%.0f", self._store.path.name, self._waited_s)
        finally:
            self._stream.close()

    async def _send(self, send: Send, message: Message) -> None:
        sending = asyncio.ensure_future(send(message))
        try:
            while not sending.done():
                began_s = time.monotonic()
                await asyncio.wait((sending,), timeout=_LOOK_EVERY_S)
                self._waited_s += time.monotonic() - began_s
                if self._waited_s > MAX_WAITED_S and self._store.get_log_bytes() > MAX_LOG_BYTES:
                    raise _TooSlow
            sending.result()
        finally:
            sending.cancel()


class _TooSlow(Exception):
    """The reader keeps the log from being begun anew."""


class Reading(Generic[Q]):
    """
    One question while it is answered.

    Args:
        view: Which is asked.
        asked: The question.
        turns: How many questions are looked up at once.
        in_pieces: The asker takes an answer in pieces, whose length is not known before; not by HTTP/1.0.
    """

    def __init__(self, view: View, asked: Q, turns: CapacityLimiter, *, in_pieces: bool) -> None:
        self.view = view
        self.asked = asked
        self.headers = describe_state(view)
        """What every answer says: how current the view was before it was read, and the token of what was read."""
        self._turns = turns
        self._in_pieces = in_pieces

    async def ask(self, query: Callable[[apsw.Connection], T]) -> T:
        """Run a query with a short answer; raises StoreUnavailable when the database cannot be read."""
        def ask() -> tuple[T, str]:
            with self.view.readers.lease() as db:
                return query(db), str(read_token(db))

        result, self.headers[TOKEN] = await self._read(ask)
        return result

    async def stream(self, query: Query, media_type: str = "application/json") -> Response:
        """
        Answer with a query's pieces as they are read.

        Raises:
            StoreUnavailable: The first cannot be read.
            RequestRefused: 505 the asker takes no pieces, and they are too long to be kept.
        """
        stream = await self._read(lambda: LeasedStream(self.view.readers, query))
        self.headers[TOKEN] = stream.token
        if not self._in_pieces:
            try:
                return Response(await self._read(stream.read_whole), media_type=media_type)
            finally:
                stream.close()
        return _Patient(stream, self._iterate(stream), media_type, self.view.store)

    async def _iterate(self, stream: LeasedStream) -> AsyncIterator[bytes]:
        while (piece := await self._read(stream.read)) is not None:
            yield piece

    async def _read(self, read: Callable[[], T]) -> T:
        try:
            return await run_sync(read, limiter=self._turns)
        except apsw.Error as err:
            raise self.view.store.explain(err) from err


def describe_state(view: View) -> dict[str, str]:
    """Make the headers that say how current a view is."""
    reason = view.explain()
    if reason is None:
        return {CURRENT: "true"}
    return {CURRENT: "false", BECAUSE: "".join(c if 31 < ord(c) < 127 else "?" for c in reason)}
