"""The database of one view and its one writing thread: takes all that is queued, commits once, answers all."""

import heapq
import itertools
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, TypeVar

import apsw

from fustor_fusion.arbiter import Arbiter
from fustor_fusion.arrival import ArrivalClock
from fustor_fusion.changes import read_newest
from fustor_fusion.errors import FusionError, StoreUnavailable
from fustor_fusion.positions import Positions, make_clock
from fustor_fusion.removal import purge
from fustor_fusion.schema import BUSY_TIMEOUT_MS, ROOT_ID, mark_damaged, open_database, read_meta
from fustor_fusion.totals import read_sums
from fustor_fusion.tree import Tree

log = logging.getLogger(__name__)

_MAX_GROUP = 32
_TOMBSTONE_AGE_NS = 3600 * 10**9
_PURGE_EVERY = 4096
LARGE_LOG_BYTES = 64 << 20
_LOG_WAIT_MS = 200

T = TypeVar("T")


class Writer:
    """
    What a piece of work may use; lives in the writing thread.

    Args:
        connection: The writing connection, inside a transaction while work runs.
        arrivals: Fusion's clock; None makes it.
    """

    def __init__(self, connection: apsw.Connection, arrivals: ArrivalClock | None = None) -> None:
        self.db = connection
        self.tree = Tree(connection)
        self.arbiter = Arbiter(self.tree)
        self.arrivals = arrivals or make_clock(connection)
        self.positions = Positions(connection, self.arrivals)
        self.rows_applied = 0


Work = Callable[[Writer, bool], T]


class _Job(Generic[T]):
    __slots__ = ("error", "future", "result", "work")

    def __init__(self, work: Work[T]) -> None:
        self.work = work
        self.future: Future[T] = Future()
        self.future.set_running_or_notify_cancel()  # nobody can cancel it: it is done whether or not somebody waits
        self.result: T | None = None
        self.error: BaseException | None = None


class Store:
    """
    Owns the database of one view, its writing connection and its writing thread.

    Readers open connections of their own (`schema.open_reader`) and never wait for the writer.

    Args:
        path: The database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db, self.damage = open_database(path)
        self.failure: str | None = None
        self.obstacle: str | None = None
        """Why the last transaction was not committed; None when it was."""
        self._writer = Writer(self._db)
        self.generation: str = read_meta(self._db)["generation"]
        self.arrivals = self._writer.arrivals
        self._queue: list[tuple[int, int, _Job[Any]]] = []
        self._numbers = itertools.count()
        self._filled = threading.Condition()
        self._closing = False
        self._busy = False
        self._commits = 0
        self._totals = self._read_totals()
        self._newest_change = read_newest(self._db)
        self._shorten_at = LARGE_LOG_BYTES
        self._thread = threading.Thread(target=self._run, name=f"writer {path.stem}", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T], *, priority: int = 0) -> "Future[T]":
        """
        Queue work for the writing thread.

        Args:
            work: Called as `work(writer, careful)` inside a transaction; called a second time with
                `careful=True`, after a rollback, when it raised `OverflowError`.
            priority: Lower goes first.

        Returns:
            Done once the work is committed (synchronous=FULL) or has failed; `StoreUnavailable`
            means that nothing of it was applied.
        """
        job = _Job(work)
        with self._filled:
            if self._closing:
                job.future.set_exception(StoreUnavailable("the store is closing"))
                return job.future
            heapq.heappush(self._queue, (priority, next(self._numbers), job))
            self._filled.notify()
        return job.future

    def close(self) -> None:
        """Finish what is queued, stop the thread, close the connection."""
        with self._filled:
            self._closing = True
            self._filled.notify()
        self._thread.join()
        self._db.close()

    def get_totals(self) -> dict[str, int]:
        """Return files, directories, bytes, and rows applied since the start; any thread."""
        return self._totals

    def get_newest_change(self) -> int:
        """Return the number of the last change that was committed; any thread."""
        return self._newest_change

    def get_commits(self) -> int:
        """Return how many transactions were committed since the start; any thread."""
        return self._commits

    def get_log_bytes(self) -> int:
        """Return how large the write-ahead log is; any thread."""
        try:
            return os.stat(f"{self.path}-wal").st_size
        except FileNotFoundError:
            return 0

    def owes_work(self) -> bool:
        """Tell whether something is queued or under way; any thread."""
        return bool(self._queue) or self._busy

    def note_damage(self, err: apsw.Error) -> None:
        """If an error means damage, say so, and look at every page at the next start; any thread."""
        if isinstance(err, (apsw.CorruptError, apsw.NotADBError)):
            self.failure = f"the database is damaged ({err}); it is set aside at the next start"
            mark_damaged(self.path)

    def explain(self, err: apsw.Error) -> StoreUnavailable:
        """Turn an error of the database into what a caller is told, noting damage; any thread."""
        self.note_damage(err)
        return StoreUnavailable(f"{self.path.name}: {err}")

    # -- the writing thread -----------------------------------------------------------------

    def _run(self) -> None:
        while jobs := self._take():
            self._commit_group(jobs)
            for job in jobs:
                if job.error is not None:
                    job.future.set_exception(job.error)
                else:
                    job.future.set_result(job.result)
            if self.get_log_bytes() >= self._shorten_at:
                self._shorten_log()
            self._busy = False

    def _shorten_log(self) -> None:
        """
        Begin the write-ahead log anew.

        SQLite does so by itself whenever it meets no reader, but readers may overlap for ever: wait
        a moment for those that are there, since new ones need the log no more once all is carried over.
        """
        self._db.set_busy_timeout(_LOG_WAIT_MS)
        try:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.Error as err:
            log.debug("The log was not begun anew path=%s error=%s", self.path, err)
        finally:
            self._db.set_busy_timeout(BUSY_TIMEOUT_MS)
        self._shorten_at = self.get_log_bytes() + LARGE_LOG_BYTES

    def _take(self) -> list[_Job[Any]]:
        with self._filled:
            while not self._queue and not self._closing:
                self._filled.wait()
            self._busy = bool(self._queue)
            return [heapq.heappop(self._queue)[2] for _ in range(min(len(self._queue), _MAX_GROUP))]

    def _commit_group(self, jobs: list[_Job[Any]]) -> None:
        writer = self._writer
        before = writer.rows_applied
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._do(job)
            if self._commits % _PURGE_EVERY == _PURGE_EVERY - 1:
                self._purge()
            totals, newest_change = self._read_totals(), read_newest(self._db)
            self._db.execute("COMMIT")
        except apsw.Error as err:
            self._roll_back(before, err)
            for job in jobs:
                job.error = StoreUnavailable(f"{self.path.name}: {err}")
            return
        self.obstacle = None
        self._commits += 1
        self._totals, self._newest_change = totals, newest_change

    def _do(self, job: _Job[Any]) -> None:
        for careful in (False, True):
            rows = self._writer.rows_applied
            self._db.execute("SAVEPOINT work")
            try:
                job.result = job.work(self._writer, careful)
                # Now, not with the commit: a later job of the group that fails makes the writer forget.
                self._writer.positions.save()
                self._writer.tree.save()
                self._db.execute("RELEASE work")
                return
            except apsw.Error:
                raise
            # Whatever a piece of work raises is its caller's answer; the others of the group go on.
            except Exception as err:
                self._db.execute("ROLLBACK TO work; RELEASE work")
                self._forget(rows)
                if isinstance(err, OverflowError) and not careful:
                    continue
                if not isinstance(err, FusionError):
                    log.exception("A piece of work failed path=%s", self.path)
                job.error = err
                return

    def _roll_back(self, before: int, err: apsw.Error) -> None:
        log.error("A transaction failed; its batches were not applied path=%s error=%s", self.path, err)
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._forget(before)
        self.obstacle = f"the newest changes could not be stored: {err}"
        self.note_damage(err)

    def _forget(self, rows: int) -> None:
        writer = self._writer
        writer.tree.forget()
        writer.arbiter.forget()
        writer.positions.forget()
        writer.rows_applied = rows

    def _purge(self) -> None:
        for owner in self._writer.positions.get_owners():
            if purged := purge(self._writer.tree, owner.id, owner.newest - _TOMBSTONE_AGE_NS):
                log.info("Old tombstones were forgotten path=%s count=%d", self.path, purged)
        self._writer.tree.save()

    def _read_totals(self) -> dict[str, int]:
        sums = read_sums(self._db, ROOT_ID)
        return {"files": sums.files, "directories": sums.directories, "bytes": sums.bytes,
                "rows_applied": self._writer.rows_applied}
