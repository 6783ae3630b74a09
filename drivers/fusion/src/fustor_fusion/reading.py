"""One question to one view: reading beside the writer, and how current the answer is."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, TypeVar

import apsw
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.responses import Response, StreamingResponse

from fustor_fusion.changes import read_token
from fustor_fusion.errors import StoreUnavailable
from fustor_fusion.questions import Ask
from fustor_fusion.readers import Readers
from fustor_fusion.view import View

CURRENT, BECAUSE, TOKEN = "X-Fustor-Current", "X-Fustor-Not-Current-Because", "X-Fustor-Token"
Query = Callable[[apsw.Connection], Iterator[bytes]]
Q = TypeVar("Q", bound=Ask)
T = TypeVar("T")


class LeasedStream:
    """
    The pieces of an answer, read from one read transaction that ends with the last of them.

    Owns the lease; it is given back after the last piece, or when nobody holds the stream any more.
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

    def __del__(self) -> None:
        self._lease.close()


class Reading(Generic[Q]):
    """
    One question while it is answered.

    Args:
        view: Which is asked.
        asked: The question.
        turns: How many questions are looked up at once.
    """

    def __init__(self, view: View, asked: Q, turns: CapacityLimiter) -> None:
        self.view = view
        self.asked = asked
        self.headers = describe_state(view)
        """What every answer says: how current the view was before it was read, and the token of what was read."""
        self._turns = turns

    async def ask(self, query: Callable[[apsw.Connection], T]) -> T:
        """Run a query with a short answer; raises StoreUnavailable when the database cannot be read."""
        def ask() -> tuple[T, str]:
            with self.view.readers.lease() as db:
                return query(db), str(read_token(db))

        result, self.headers[TOKEN] = await self._read(ask)
        return result

    async def stream(self, query: Query, media_type: str = "application/json") -> Response:
        """Answer with a query's pieces as they are read; raises StoreUnavailable when the first cannot be."""
        stream = await self._read(lambda: LeasedStream(self.view.readers, query))
        self.headers[TOKEN] = stream.token
        return StreamingResponse(self._iterate(stream), media_type=media_type)

    async def _iterate(self, stream: LeasedStream) -> AsyncIterator[bytes]:
        while (piece := await self._read(stream.read)) is not None:
            yield piece

    async def _read(self, read: Callable[[], T]) -> T:
        try:
            return await run_sync(read, limiter=self._turns)
        except apsw.Error as err:
            self.view.store.note_damage(err)
            raise StoreUnavailable(f"{self.view.store.path.name}: {err}") from err


def describe_state(view: View) -> dict[str, str]:
    """Make the headers that say how current a view is."""
    reason = view.explain()
    if reason is None:
        return {CURRENT: "true"}
    return {CURRENT: "false", BECAUSE: "".join(c if 31 < ord(c) < 127 else "?" for c in reason)}
