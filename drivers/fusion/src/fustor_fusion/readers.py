"""Reading connections of one view, each query in one read transaction; never in the writer's way."""

import contextlib
import queue
from collections.abc import Iterator
from pathlib import Path

import apsw

from fustor_fusion.schema import open_reader

_MAX_IDLE = 4


class Readers:
    """
    Lends reading connections and keeps a few of them.

    Args:
        path: The database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: queue.LifoQueue[apsw.Connection] = queue.LifoQueue(_MAX_IDLE)

    @contextlib.contextmanager
    def lease(self) -> Iterator[apsw.Connection]:
        """Lend a connection inside a read transaction: all its queries see one state, the newest committed."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = open_reader(self._path)
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            if connection.in_transaction:  # not when it could not even begin
                connection.execute("ROLLBACK")
            try:
                self._idle.put_nowait(connection)
            except queue.Full:
                connection.close()

    def close(self) -> None:
        """Close the connections that are not lent."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()
