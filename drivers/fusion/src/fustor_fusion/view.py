"""One view while it is served: its store, sessions, syncs and commands; lives in the event loop's thread."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from fustor_core.drivers import Role
from fustor_fusion.barriers import Barriers
from fustor_fusion.errors import RequestRefused, StoreUnavailable
from fustor_fusion.jobs import Job, Jobs
from fustor_fusion.paths import encode_raw, to_text
from fustor_fusion.positions import read_newest
from fustor_fusion.protocol import Command, LookCommand, ScanCommand, SyncCommand, VerifyCommand
from fustor_fusion.public import OpenAudit
from fustor_fusion.queries import find_suspects
from fustor_fusion.readers import Readers
from fustor_fusion.schema import name_database
from fustor_fusion.sessions import AgentSession, SessionExpired, Sessions, SessionUnknown
from fustor_fusion.store import Store, Work, Writer

log = logging.getLogger(__name__)

_SESSION_PRIORITY = 0
_MAX_QUEUED_COMMANDS = 1_000
_MAX_LOOKED_AT = 1_000

T = TypeVar("T")


class View:
    """
    Serves one view.

    Owns its store and readers; `close` ends them. Every method but `close`, `get_totals` and `read_newest`
    is called in the event loop's thread.

    Args:
        name: The view's.
        state_dir: Where its database is.
        clock: Monotonic seconds; injected in tests.
    """

    def __init__(self, name: str, state_dir: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.clock = clock
        self.store = Store(name_database(state_dir, name))
        self.readers = Readers(self.store.path)
        self.sessions = Sessions()
        self.barriers = Barriers()
        self.jobs = Jobs()
        self.audit: OpenAudit | None = None
        self.audit_before: OpenAudit | None = None
        self.last_audit_at: float | None = None
        self.audit_count = 0
        self.lag_s: float | None = None
        """How long the newest change took from its agent's look to the commit."""
        self._commands: dict[str, list[Command]] = {}
        self._polling: set[str] = set()
        self._changed = asyncio.Event()
        self._restore()

    def _restore(self) -> None:
        with self.readers.lease() as db:
            rows: list[Any] = db.execute("SELECT state, snapshot_done FROM sessions").fetchall()
        sessions = [(msgspec.json.decode(state, type=AgentSession), bool(done)) for state, done in rows]
        self.sessions.restore(sessions, now_s=self.clock())

    def close(self) -> None:
        """Close the store, with all that is queued applied, and the connections."""
        self.store.close()
        self.readers.close()

    # -- changes ------------------------------------------------------------------------------

    def notify(self) -> None:
        """Wake everything that waits for this view."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait_changed(self, timeout_s: float) -> None:
        """Wait until something changed, or the time is over."""
        try:
            await asyncio.wait_for(self._changed.wait(), max(0.0, timeout_s))
        except TimeoutError:
            return

    async def save_sessions(self) -> None:
        """Make the changes of sessions durable, and carry their consequences to jobs and syncs."""
        changed, self.sessions.changed = self.sessions.changed, []
        ended, self.sessions.ended = self.sessions.ended, []
        if not changed and not ended:
            return
        if ended:
            self.audit = self.audit_before = None  # its sender may be the one that is gone
        for session_id in ended:
            self.barriers.fail_session(session_id)
            self.jobs.drop_session(session_id, now_at=time.time())
            self._commands.pop(session_id, None)
            self._polling.discard(session_id)
        for session in changed:
            log.info("A session changed view=%s session=%.8s agent=%s role=%s",
                     self.name, session.id, session.agent_id, session.role.value)
        # One that ended later may come here late, after a failure.
        states = [(session.id, msgspec.json.encode(session)) for session in changed
                  if self.sessions.is_live(session.id)]

        def save(writer: Writer, _: bool) -> None:
            for state in states:
                if not writer.db.execute("SELECT 1 FROM sessions WHERE id=?", state[:1]).fetchall():
                    writer.arbiter.clear_blind_spots()
                writer.db.execute("INSERT INTO sessions(id, state) VALUES(?,?)"
                                  " ON CONFLICT DO UPDATE SET state=excluded.state", state)
            for session_id in ended:
                writer.db.execute("DELETE FROM sessions WHERE id=?", (session_id,))

        self.notify()
        try:
            await self.submit(save, priority=_SESSION_PRIORITY)
        except StoreUnavailable:
            self.sessions.changed[:0] = changed
            self.sessions.ended[:0] = ended
            raise

    async def submit(self, work: Work[T], *, priority: int = 0) -> T:
        """Have the writing thread do something, and wait for the commit."""
        try:
            return await asyncio.wrap_future(self.store.submit(work, priority=priority))
        finally:
            self.notify()

    async def wait_newer(self, seq: int, *, wait_s: float, is_over: Callable[[], bool]) -> None:
        """Wait up to `wait_s` for a change behind this one, or until `is_over` says that nobody waits any more."""
        until = self.clock() + wait_s
        while self.store.get_newest_change() == seq and not is_over() and (left := until - self.clock()) > 0:
            await self.wait_changed(left)

    def read_newest(self, agent: str, pipe: str) -> int:
        """Return the highest time of what an agent and pipe have sent, as it is committed; any thread."""
        return self._read(lambda db: read_newest(db, agent, pipe))

    def _read(self, query: Callable[[apsw.Connection], T]) -> T:
        """Read what is committed; raises StoreUnavailable; any thread."""
        try:
            with self.readers.lease() as db:
                return query(db)
        except apsw.Error as err:
            raise self.store.explain(err) from err

    # -- sessions -----------------------------------------------------------------------------

    def require(self, session_id: str) -> AgentSession:
        """
        Return a live session.

        Raises:
            RequestRefused: 404 unknown or closed, 419 expired.
        """
        try:
            return self.sessions.get(session_id, now_s=self.clock())
        except SessionExpired as err:
            raise RequestRefused(419, f"Session {session_id} expired") from err
        except SessionUnknown as err:
            raise RequestRefused(404, f"Session {session_id} not found or expired") from err

    def explain(self) -> str | None:
        """Say why the view is not current; None when it is."""
        self.sessions.expire(now_s=self.clock())
        return self.store.failure or self.store.obstacle or self.sessions.explain()

    # -- commands -----------------------------------------------------------------------------

    def queue_command(self, session_id: str, command: Command) -> None:
        """Queue a command for a session; the oldest is dropped when it takes none."""
        queued = self._commands.setdefault(session_id, [])
        queued.append(command)
        del queued[:-_MAX_QUEUED_COMMANDS]
        self.notify()

    def take_commands(self, session_id: str) -> list[Command]:
        """Return what a polling session is to be told now; syncs last, so that what is to be looked at goes first."""
        self._polling.add(session_id)
        due = self.barriers.take_due(session_id, now_s=self.clock())
        return [*self._commands.pop(session_id, []), *(SyncCommand(token) for token in due)]

    def take_scans(self, session_id: str) -> list[ScanCommand]:
        """Return the scans for a session's heartbeat; those that poll get them there, never twice."""
        if session_id in self._polling:
            return []
        return [command for command in self._commands.pop(session_id, []) if isinstance(command, ScanCommand)]

    async def wait_commands(self, session_id: str, *, wait_s: float, is_over: Callable[[], bool]) -> list[Command]:
        """Wait up to `wait_s` for commands, or until `is_over` says that nobody waits any more."""
        until = self.clock() + wait_s
        while True:
            if is_over():
                return []
            self.require(session_id)
            commands = self.take_commands(session_id)
            left = until - self.clock()
            if commands or left <= 0:
                return commands
            due = self.barriers.get_next_due(session_id)
            await self.wait_changed(left if due is None else min(left, due - self.clock()))

    def ask_for_scan(self, path: bytes, *, recursive: bool) -> Job | None:
        """Ask every session to look at a path; None when there is none."""
        sessions = self.sessions.get_all()
        if not sessions:
            return None
        text = to_text(path)[0]
        job = Job(secrets.token_hex(4), text, time.time(), len(sessions), {session.id for session in sessions})
        self.jobs.add(job)
        command = ScanCommand(text, encode_raw(path), recursive, job.job_id, job.created_at)
        for session in sessions:
            self.queue_command(session.id, command)
        return job

    def ask_to_look(self, session_id: str, paths: list[bytes]) -> None:
        """Ask a session to look at names again; syncs wait for what it finds."""
        for start in range(0, len(paths), _MAX_LOOKED_AT):
            part = paths[start : start + _MAX_LOOKED_AT]
            self.queue_command(session_id, LookCommand([encode_raw(path) for path in part]))
        self.barriers.ask_again(session_id)

    async def ask_for_looks(self) -> None:
        """Ask the leader, if it is an agent of ours, to look at files that may still be written."""
        leader = self.sessions.get_leader()
        if leader is None or not leader.ours:
            return
        waiting = self._commands.get(leader.id, [])
        if any(isinstance(command, VerifyCommand) for command in waiting):
            return
        paths = await self.find_suspects()
        if paths:
            self.queue_command(leader.id, VerifyCommand([encode_raw(path) for path in paths]))

    async def find_suspects(self) -> list[bytes]:
        """Return files that may still be written, so many as are asked for at once."""

        return await asyncio.to_thread(self._read, lambda db: find_suspects(db, limit=_MAX_LOOKED_AT))

    # -- read your writes -----------------------------------------------------------------------

    async def sync(self, timeout_s: float) -> None:
        """
        Wait until the view holds all that had happened before this call.

        Raises:
            RequestRefused: 409 an agent cannot promise it, 504 it takes too long; both say why.
        """
        until = self.clock() + timeout_s
        self.sessions.expire(now_s=self.clock())
        await self.save_sessions()
        round_ = self.barriers.begin(self._pick_witnesses())
        try:
            self.notify()
            while not round_.is_answered():
                left = until - self.clock()
                if left <= 0:
                    missing = ", ".join(round_.get_missing())
                    raise RequestRefused(504, f"not answered within {timeout_s:g} s by agent {missing}")
                await self.wait_changed(left)
            error = round_.get_error()
            if error is not None:
                raise RequestRefused(409, error)
            while (reason := self.sessions.explain()) is not None:
                left = until - self.clock()
                if left <= 0:
                    raise RequestRefused(504, f"the view is not current within {timeout_s:g} s: {reason}")
                await self.wait_changed(left)
        finally:
            self.barriers.end(round_)

    def _pick_witnesses(self) -> list[tuple[str, str]]:
        """Pick one session of each agent and pipe that can say when all has been pushed."""
        sessions = self.sessions.get_all()
        if not sessions:
            raise RequestRefused(409, "no agent is connected")
        mute = [session for session in sessions if not session.ours]
        if mute:
            raise RequestRefused(409, f"agent {mute[0].agent_id} cannot say when all has been pushed")
        seeing = [session for session in sessions if session.can_realtime]
        # Nobody sees changes yet: the leader is asked, and says itself whether it can.
        chosen = seeing or [session for session in sessions if session.role is Role.LEADER]
        newest = {(session.agent_id, session.pipe_id): session for session in chosen}
        return [(session.id, session.agent_id) for session in newest.values()]
