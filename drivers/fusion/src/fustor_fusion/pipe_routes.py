"""The routes of agents, under /api/v1/pipe; see docs/protocol.md."""

import base64
import secrets
import time
from collections.abc import Callable
from functools import partial

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fustor_core.drivers import Role
from fustor_event_model import FsItem, MessageSource, SnapshotEnd
from fustor_fusion.context import Context, answer, decode, parse_wait
from fustor_fusion.errors import RequestRefused, StoreUnavailable
from fustor_fusion.guard import check_view, read_body
from fustor_fusion.ingest import apply_feedback, apply_public, apply_push, peek_priority
from fustor_fusion.keyfile import Key
from fustor_fusion.paths import to_text
from fustor_fusion.protocol import (
    BarrierBody,
    CreateSession,
    FustorAnswer,
    HeartbeatAnswer,
    HeartbeatBody,
    PublicIngest,
    PushAnswer,
    RefusedAnswer,
    SentinelFeedback,
    SentinelUpdate,
    SessionCreated,
)
from fustor_fusion.public import convert_events, decode_ingest, end_audit, start_audit
from fustor_fusion.sessions import AgentSession
from fustor_fusion.view import View

_MIN_TIMEOUT_S, _MAX_TIMEOUT_S = 0.5, 86_400.0
_NOTICES = frozenset(("job_complete", "on_demand_job", "scan_complete", "find_complete"))


class PipeRoutes:
    """Answers agents."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def list_routes(self) -> list[Route]:
        """Return the routes, below /api/v1/pipe."""
        return [
            Route("/session/", self.discover, methods=["GET"]),
            Route("/session/", self.create, methods=["POST"]),
            Route("/session/{sid}", self.close, methods=["DELETE"]),
            Route("/session/{sid}/heartbeat", self.heartbeat, methods=["POST"]),
            Route("/session/{sid}/commands", self.poll_commands, methods=["GET"]),
            Route("/session/{sid}/barrier", self.report_barrier, methods=["POST"]),
            Route("/ingest/{sid}/batch", self.push, methods=["POST"]),
            Route("/ingest/{sid}/events", self.push_public, methods=["POST"]),
            Route("/consistency/audit/start", self.start_audit, methods=["POST"]),
            Route("/consistency/audit/end", self.end_audit, methods=["POST"]),
            Route("/consistency/sentinel/tasks", self.get_sentinel_tasks, methods=["GET"]),
            Route("/consistency/sentinel/feedback", self.take_feedback, methods=["POST"]),
        ]

    # -- sessions -----------------------------------------------------------------------------

    async def discover(self, request: Request) -> Response:
        """Say that the key is good, and name the first view that it is for."""
        views = self._context.list_views(self._context.authorise(request, may_read_only=True))
        return answer({"view_id": views[0].name if views else None, "status": "authorized"})

    async def create(self, request: Request) -> Response:
        """Open a session."""
        context = self._context
        key = context.authorise(request)
        body = await context.read(request, CreateSession)
        view = self._pick_view(body, key)
        ours = body.fustor is not None and body.fustor.protocol >= 1 and body.fustor.schema == "fs"
        made = self._make_session(body, key)
        made.before = await run_in_threadpool(view.read_newest, made.agent_id, made.pipe_id)
        session = view.sessions.open(made, now_s=view.clock())
        view.audit = None
        try:
            await view.save_sessions()
        except StoreUnavailable:
            view.sessions.close(session.id)  # the agent never learns its name, and opens another
            raise
        context.sessions_changed.set()
        timeout_s = session.timeout_s
        return answer(SessionCreated(
            session_id=session.id, role=session.role.value,
            session_timeout_seconds=int(timeout_s) if timeout_s.is_integer() else timeout_s,
            audit_interval_sec=context.config.audit_interval_s,
            sentinel_interval_sec=context.config.sentinel_interval_s,
            message="Session created successfully",
            fustor=FustorAnswer(generation=view.store.generation, view_id=view.name) if ours else None,
        ))

    def _pick_view(self, body: CreateSession, key: Key) -> View:
        views = {view.name: view for view in self._context.list_views(key)}
        if len(views) == 1:
            return next(iter(views.values()))
        if not views:
            raise RequestRefused(409, f"key {key.id} is for {', '.join(key.views)}; none of these is served here")
        names = [body.task_id.partition(":")[2]]
        if body.fustor is not None:
            names.append(body.fustor.pipe_id)
        for name in names:
            if name in views:
                return views[name]
        for name in names:
            if name in self._context.views:
                check_view(key, name)
        known = ", ".join(views)
        raise RequestRefused(409, f"task_id {body.task_id!r:.200}: behind the first ':' must be a view: {known}")

    def _make_session(self, body: CreateSession, key: Key) -> AgentSession:
        asked = body.session_timeout_seconds
        timeout_s = self._context.config.session_timeout_s if not asked or asked < 0 else asked
        agent_id, _, pipe_id = body.task_id.partition(":")
        hello, info = body.fustor, body.client_info
        return AgentSession(
            id=secrets.token_hex(16), task_id=body.task_id,
            agent_id=hello.agent_id if hello else agent_id, pipe_id=hello.pipe_id if hello else pipe_id,
            ours=hello is not None, timeout_s=float(min(max(timeout_s, _MIN_TIMEOUT_S), _MAX_TIMEOUT_S)),
            created_at=time.time(), source_uri=info.source_uri if info else None,
            client_ip=info.client_ip if info else None, key_id=key.id,
        )

    async def heartbeat(self, request: Request) -> Response:
        """Keep a session alive; 419 for one that is not known."""
        context = self._context
        key = context.authorise(request)
        data = await read_body(request, context.config.max_body_bytes)
        try:
            can_realtime = decode(data, HeartbeatBody).can_realtime
        except RequestRefused:
            can_realtime = False  # as the public protocol has it
        try:
            view, session = context.find_session(request, key)
        except RequestRefused as err:
            if err.status == 403:
                raise
            raise RequestRefused(419, "Session obsoleted" if err.status == 404 else err.detail) from err
        before = view.sessions.explain()
        view.sessions.beat(session.id, now_s=view.clock(), can_realtime=can_realtime)
        await view.save_sessions()
        if before != view.sessions.explain():
            view.notify()
        return answer(HeartbeatAnswer(role=session.role.value, commands=view.take_scans(session.id)))

    async def close(self, request: Request) -> Response:
        """End a session; unknown ones too."""
        key = self._context.authorise(request)
        session_id = request.path_params["sid"]
        for view in self._context.views.values():
            if view.sessions.is_live(session_id):
                check_view(key, view.name)
                view.sessions.close(session_id)
                await view.save_sessions()
        return answer({"status": "terminated", "session_id": session_id})

    async def poll_commands(self, request: Request) -> Response:
        """Wait for commands."""
        context = self._context
        key = context.authorise(request)
        wait_s = parse_wait(request.query_params.get("wait", "0"))
        view, session = context.find_session(request, key)
        view.sessions.beat(session.id, now_s=view.clock())
        if await request.is_disconnected():
            return answer({"commands": []})
        commands = await view.wait_commands(session.id, wait_s=wait_s, is_over=context.stopping.is_set)
        view.sessions.beat(session.id, now_s=view.clock())
        return answer({"commands": commands})

    async def report_barrier(self, request: Request) -> Response:
        """Take the answer to a sync."""
        context = self._context
        key = context.authorise(request)
        body = await context.read(request, BarrierBody)
        view, session = context.find_session(request, key)
        if view.barriers.answer(session.id, body.token, body.error):
            view.notify()
        return answer({"status": "ok"})

    # -- pushes ---------------------------------------------------------------------------------

    async def push(self, request: Request) -> Response:
        """Take a batch of our own protocol; answered after the commit."""
        context = self._context
        key = context.authorise(request)
        context.find_session(request, key)
        body = await read_body(request, context.config.max_body_bytes)
        view, session = context.find_session(request, key)  # it may have ended while the body came
        if not session.ours:
            raise RequestRefused(409, "this session was not opened for batches; use events")
        applied = await view.submit(
            partial(apply_push, body=body, agent=session.agent_id, pipe=session.pipe_id, session_id=session.id,
                    leads=session.role is Role.LEADER, present=view.sessions.list_present()),
            priority=peek_priority(body))
        self._note(view, session, applied.jobs, snapshot=applied.snapshot_complete, audit=applied.audit_complete)
        refused = [RefusedAnswer(base64.b64encode(row.path).decode("ascii"), row.reason) for row in applied.refused]
        return answer(PushAnswer(applied.rows, refused))

    def _note(self, view: View, session: AgentSession, jobs: list[str], *, snapshot: bool, audit: bool) -> None:
        if snapshot:
            view.sessions.accept_snapshot(session.id)
        if audit:
            view.last_audit_at = time.time()
            view.audit_count += 1
        for job_id in jobs:
            view.jobs.report(session.id, job_id=job_id, path=None, now_at=time.time())
        if snapshot or jobs:
            view.notify()

    async def push_public(self, request: Request) -> Response:
        """Take events of a public agent; answered after the commit."""
        context = self._context
        key = context.authorise(request)
        view, session = context.find_session(request, key)
        if not session.ours:
            # Released agents send no heartbeat while they push.
            view.sessions.beat(session.id, now_s=view.clock())
        body: PublicIngest | None = None
        try:
            data = await read_body(request, context.config.max_body_bytes)
            view, session = context.find_session(request, key)  # it may have ended while the body came
            try:
                body = decode_ingest(data)
            except (msgspec.DecodeError, ValueError, RecursionError) as err:
                raise RequestRefused(422, f"malformed body: {err}") from err
            return await self._take_public(view, session, body)
        except (RequestRefused, StoreUnavailable):
            # Released agents go on as if it had been taken, and say at the end that all was sent.
            if view.audit is not None and (body is None or body.source_type == "audit"):
                view.audit.broken = True
            if body is None or body.source_type == "snapshot":
                view.sessions.spoil_snapshot(session.id)
            raise

    async def _take_public(self, view: View, session: AgentSession, body: PublicIngest) -> Response:
        notice = body.metadata is not None and body.source_type in _NOTICES
        if notice and not body.events:
            self._report_job(view, session, body)
            return answer({"status": "ok", "phase": "job_complete"})
        if body.is_end and body.source_type == "snapshot" and view.sessions.is_snapshot_spoilt(session.id):
            view.sessions.close(session.id)
            await view.save_sessions()
            self._context.sessions_changed.set()
            raise RequestRefused(419, "a part of this snapshot was refused; open a new session and send it again")
        refused = await self._apply_public(view, session, body)
        if notice:
            self._report_job(view, session, body)
        return answer(PushAnswer(len(body.events), refused))

    def _report_job(self, view: View, session: AgentSession, body: PublicIngest) -> None:
        metadata = body.metadata
        if metadata is not None and metadata.scan_path:
            view.jobs.report(session.id, job_id=metadata.job_id, path=metadata.scan_path, now_at=time.time())
            view.notify()

    async def _apply_public(self, view: View, session: AgentSession, body: PublicIngest) -> list[RefusedAnswer]:
        leads = session.role is Role.LEADER
        if leads and view.audit is None and any(event.message_source == "audit" for event in body.events):
            view.audit = start_audit(time.time_ns())
        audit = view.audit if leads else None
        refused: list[RefusedAnswer] = []
        makers = [convert_events(body.events, refused, audit)]
        snapshot = body.is_end and body.source_type == "snapshot"
        audited = False
        if audit is not None and body.is_end and body.source_type == "audit":
            view.audit = None
            audited = not audit.broken
            if audited:
                makers.append(end_audit(audit))

        def make_items(stamp: Callable[[], int]) -> list[FsItem]:
            items = [item for make in makers for item in make(stamp)]
            if snapshot:
                items.append(SnapshotEnd(index=stamp(), message_source=MessageSource.SNAPSHOT, complete=True))
            return items

        applied = await view.submit(partial(
            apply_public, items=make_items, agent=session.agent_id, pipe=session.pipe_id, session_id=session.id,
            leads=leads, present=view.sessions.list_present()))
        self._note(view, session, [], snapshot=applied.snapshot_complete, audit=audited)
        return refused + [RefusedAnswer(base64.b64encode(row.path).decode("ascii"), row.reason)
                          for row in applied.refused]

    # -- consistency ------------------------------------------------------------------------------

    async def start_audit(self, request: Request) -> Response:
        """Open an audit; with a key for several views nobody can say of which."""
        views = self._context.list_views(self._context.authorise(request, may_read_only=True))
        if len(views) == 1:
            views[0].audit = start_audit(time.time_ns())
        return answer({"status": "audit_started", "drivers_handled": int(len(views) == 1)})

    async def end_audit(self, request: Request) -> Response:
        """Answer the signal; an audit ends with its last push."""
        self._context.authorise(request, may_read_only=True)
        return answer({"status": "audit_ended", "drivers_handled": 0})

    async def get_sentinel_tasks(self, request: Request) -> Response:
        """Name files that may still be written, for public agents to look at; none for a key of several views."""
        views = self._context.list_views(self._context.authorise(request, may_read_only=True))
        texts = [to_text(path) for path in await views[0].find_suspects()] if len(views) == 1 else []
        paths = [text for text, raw in texts if raw is None]
        return answer({"type": "suspect_check", "paths": paths, "view_id": views[0].name} if paths else {})

    async def take_feedback(self, request: Request) -> Response:
        """Take what a public agent found at suspects; of one that it misses it tells by a deletion."""
        views = self._context.list_views(self._context.authorise(request))
        body = await self._context.read(request, SentinelFeedback)
        if body.type != "suspect_update":
            return answer({"status": "ignored", "reason": "unknown_type"})
        updates = [update for raw in body.updates if (update := _read_update(raw)) is not None]
        taken = 0
        if updates and len(views) == 1:
            taken = await views[0].submit(partial(apply_feedback, updates=updates))
        return answer({"status": "processed", "drivers_updated": int(taken > 0)})


def _read_update(raw: msgspec.Raw) -> SentinelUpdate | None:
    """Decode an update; None for one that is malformed, or of a file that the agent missed."""
    try:
        update = msgspec.json.decode(raw, type=SentinelUpdate)
    except msgspec.DecodeError:
        return None
    return update if update.status != "missing" else None
