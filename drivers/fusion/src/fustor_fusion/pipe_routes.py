"""The endpoints of agents, under /api/v1/pipe; see docs/protocol.md."""

import base64
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from fustor_core.drivers import Role as SessionRole
from fustor_event_model import FsItem, MessageSource, SnapshotEnd
from fustor_fusion.arbiter import Applied
from fustor_fusion.context import Context, answer, decode
from fustor_fusion.endpoints import JSON, Endpoint
from fustor_fusion.errors import RequestRefused, StoreUnavailable
from fustor_fusion.guard import check_view, read_body
from fustor_fusion.ingest import (
    LEADERS_LANES,
    PushBody,
    apply_feedback,
    apply_public,
    apply_push,
    note_clock,
    peek_priority,
)
from fustor_fusion.keyfile import Key, Role
from fustor_fusion.paths import to_text
from fustor_fusion.protocol import (
    AuditSignalled,
    BarrierBody,
    Closed,
    CommandList,
    CreateSession,
    DifferingAnswer,
    Discovered,
    Done,
    FeedbackIgnored,
    FeedbackTaken,
    FustorAnswer,
    HeartbeatAnswer,
    HeartbeatBody,
    NoticeTaken,
    PublicEvent,
    PublicIngest,
    PushAnswer,
    RefusedAnswer,
    SentinelFeedback,
    SentinelTasks,
    SentinelUpdate,
    SessionCreated,
)
from fustor_fusion.public import convert_events, decode_ingest, end_audit, start_audit
from fustor_fusion.questions import AskCommands, AskPush, Nothing, OfSession, read_question
from fustor_fusion.sessions import AgentSession
from fustor_fusion.view import View

Q = TypeVar("Q", bound=msgspec.Struct)

_MIN_TIMEOUT_S, _MAX_TIMEOUT_S = 0.5, 86_400.0
_NOTICES = frozenset(("job_complete", "on_demand_job", "scan_complete", "find_complete"))


class Call(NamedTuple, Generic[Q]):
    """One request of an agent, whose key is good."""

    request: Request
    key: Key
    asked: Q


class PipeRoutes:
    """Answers agents."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def list_endpoints(self) -> list[Endpoint]:
        """Return what agents may ask."""
        taking = self._taking
        return [
            taking("GET", "session/", Nothing, self.discover, Discovered, key=Role.READER),
            taking("POST", "session/", Nothing, self.create, SessionCreated, 409, body=CreateSession),
            taking("DELETE", "session/{sid}", OfSession, self.close, Closed),
            taking("POST", "session/{sid}/heartbeat", OfSession, self.heartbeat, HeartbeatAnswer, 419,
                   body=HeartbeatBody),
            taking("GET", "session/{sid}/commands", AskCommands, self.poll_commands, CommandList, 404, 419),
            taking("POST", "session/{sid}/barrier", OfSession, self.report_barrier, Done, 404, 419, body=BarrierBody),
            taking("POST", "ingest/{sid}/batch", AskPush, self.push, PushAnswer, 404, 409, 412, 419, body=PushBody,
                   body_type="application/msgpack"),
            taking("POST", "ingest/{sid}/events", OfSession, self.push_public, (PushAnswer, NoticeTaken), 404, 419,
                   body=PublicIngest),
            taking("POST", "consistency/audit/start", Nothing, self.start_audit, AuditSignalled, key=Role.READER),
            taking("POST", "consistency/audit/end", Nothing, self.end_audit, AuditSignalled, key=Role.READER),
            taking("GET", "consistency/sentinel/tasks", Nothing, self.get_sentinel_tasks, SentinelTasks,
                   key=Role.READER),
            taking("POST", "consistency/sentinel/feedback", Nothing, self.take_feedback,
                   (FeedbackTaken, FeedbackIgnored), body=SentinelFeedback),
        ]

    def _taking(
        self, method: str, path: str, asked: type[Q], handle: Callable[[Call[Q]], Awaitable[object]], answers: Any,
        *refusals: int, key: Role = Role.AGENT, body: Any = None, body_type: str = JSON,
    ) -> Endpoint:
        """Declare a call: checks the key and reads what is asked."""
        async def serve(request: Request) -> Response:
            found = self._context.authorise(request, key)
            return answer(await handle(Call(request, found, read_question(request, asked))))

        with_body = () if body is None else (400, 408, 413, 422)
        return Endpoint(
            method=method, path=f"/api/v1/pipe/{path}", serve=serve, key=key, asked=asked, body=body,
            body_type=body_type, answers=answers, refusals=(*refusals, *with_body), about=handle)

    # -- sessions -----------------------------------------------------------------------------

    async def discover(self, call: Call[Nothing]) -> Discovered:
        """Say that the key is good, and name the first view that it is for."""
        views = self._context.list_views(call.key)
        return Discovered(views[0].name if views else None)

    async def create(self, call: Call[Nothing]) -> SessionCreated:
        """Open a session."""
        context = self._context
        body = await context.read(call.request, CreateSession)
        view = self._pick_view(body, call.key)
        arrived = view.store.arrivals.read()
        ours = body.fustor is not None and body.fustor.protocol >= 1 and body.fustor.schema == "fs"
        made = self._make_session(body, call.key)
        made.before = await run_in_threadpool(view.read_newest, made.agent_id, made.pipe_id)
        session = self._find_opened(view, made)
        if session is None:
            if body.fustor is not None and body.fustor.clock:
                await view.submit(partial(note_clock, agent=made.agent_id, pipe=made.pipe_id, clock=body.fustor.clock,
                                          arrived=arrived))
            session = view.sessions.open(made, now_s=view.clock())
            view.audit = view.audit_before = None
            try:
                await view.save_sessions()
            except StoreUnavailable:
                view.sessions.close(session.id)  # the agent never learns its name, and opens another
                raise
            context.sessions_changed.set()
        timeout_s = session.timeout_s
        return SessionCreated(
            session_id=session.id, role=session.role.value,
            session_timeout_seconds=int(timeout_s) if timeout_s.is_integer() else timeout_s,
            audit_interval_sec=context.config.audit_interval_s,
            sentinel_interval_sec=context.config.sentinel_interval_s,
            message="Session created successfully",
            fustor=FustorAnswer(generation=view.store.generation, view_id=view.name) if ours else None,
        )

    def _find_opened(self, view: View, wanted: AgentSession) -> AgentSession | None:
        """Return the session if it has been opened already: whoever did so may have died before the answer came."""
        for each in self._context.views.values():
            now_s = each.clock()
            each.sessions.expire(now_s=now_s)
            if each.sessions.is_live(wanted.id):
                found = each.sessions.get(wanted.id, now_s=now_s)
                whose = (found.agent_id, found.pipe_id, found.key_id)
                if each is not view or whose != (wanted.agent_id, wanted.pipe_id, wanted.key_id):
                    raise RequestRefused(409, "fustor.session_id is another agent's session; propose a random one")
                return each.sessions.beat(wanted.id, now_s=now_s)
        return None

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
            id=(hello.session_id if hello else None) or secrets.token_hex(16), task_id=body.task_id,
            agent_id=hello.agent_id if hello else agent_id, pipe_id=hello.pipe_id if hello else pipe_id,
            ours=hello is not None, timeout_s=float(min(max(timeout_s, _MIN_TIMEOUT_S), _MAX_TIMEOUT_S)),
            created_at=time.time(), source_uri=info.source_uri if info else None,
            client_ip=info.client_ip if info else None, key_id=key.id,
        )

    async def heartbeat(self, call: Call[OfSession]) -> HeartbeatAnswer:
        """Keep a session alive; 419 for one that is not known."""
        context = self._context
        data = await read_body(call.request, context.config.max_body_bytes)
        try:
            can_realtime = decode(data, HeartbeatBody).can_realtime
        except RequestRefused:
            can_realtime = False  # as the public protocol has it
        try:
            view, session = context.find_session(call.asked.sid, call.key)
        except RequestRefused as err:
            if err.status == 403:
                raise
            raise RequestRefused(419, "Session obsoleted" if err.status == 404 else err.detail) from err
        before = view.sessions.explain()
        view.sessions.beat(session.id, now_s=view.clock(), can_realtime=can_realtime)
        await view.save_sessions()
        if before != view.sessions.explain():
            view.notify()
        return HeartbeatAnswer(role=session.role.value, commands=view.take_scans(session.id))

    async def close(self, call: Call[OfSession]) -> Closed:
        """End a session; unknown ones too."""
        session_id = call.asked.sid
        for view in self._context.views.values():
            if view.sessions.is_live(session_id):
                check_view(call.key, view.name)
                view.sessions.close(session_id)
                await view.save_sessions()
        return Closed(session_id)

    async def poll_commands(self, call: Call[AskCommands]) -> CommandList:
        """Wait for commands."""
        view, session = self._find_session(call)
        view.sessions.beat(session.id, now_s=view.clock())
        if await call.request.is_disconnected():
            return CommandList([])
        is_over = self._context.stopping.is_set
        commands = await view.wait_commands(session.id, wait_s=call.asked.wait, is_over=is_over)
        view.sessions.beat(session.id, now_s=view.clock())
        return CommandList(commands)

    async def report_barrier(self, call: Call[OfSession]) -> Done:
        """Take the answer to a sync."""
        body = await self._context.read(call.request, BarrierBody)
        view, session = self._find_session(call)
        if view.barriers.answer(session.id, body.token, body.error):
            view.notify()
        return Done()

    def _find_session(self, call: Call[OfSession] | Call[AskCommands] | Call[AskPush]) -> tuple[View, AgentSession]:
        return self._context.find_session(call.asked.sid, call.key)

    # -- pushes ---------------------------------------------------------------------------------

    async def push(self, call: Call[AskPush]) -> PushAnswer:
        """Take a batch of our own protocol; answered after the commit."""
        view, _ = self._find_session(call)
        arrived = view.store.arrivals.read()
        body = await read_body(call.request, self._context.config.max_body_bytes)
        view, session = self._find_session(call)  # it may have ended while the body came
        if not session.ours:
            raise RequestRefused(409, "this session was not opened for batches; use events")
        applied = await view.submit(
            partial(apply_push, body=body, agent=session.agent_id, pipe=session.pipe_id, session_id=session.id,
                    leads=session.role is SessionRole.LEADER, present=view.sessions.list_present(),
                    clock=call.asked.clock, arrived=arrived),
            priority=peek_priority(body))
        if applied.realtime_at:
            view.lag_s = max(0, view.store.arrivals.read() - applied.realtime_at) / 1e9
        if applied.look_at:
            view.ask_to_look(session.id, applied.look_at)
        self._note(view, session, applied, audit=applied.audit_complete)
        refused = [RefusedAnswer(base64.b64encode(row.path).decode("ascii"), row.reason) for row in applied.refused]
        differing = [DifferingAnswer(base64.b64encode(one.position).decode("ascii"), one.known)
                     for one in applied.differing]
        return PushAnswer(applied.rows, refused, differing=differing)

    def _note(self, view: View, session: AgentSession, applied: Applied, *, audit: bool) -> None:
        snapshot, jobs = applied.snapshot_complete, applied.jobs
        if snapshot:
            view.sessions.accept_snapshot(session.id)
        if audit:
            view.last_audit_at = time.time()
            view.audit_count += 1
        if applied.scanned:
            view.jobs.count(session.id, applied.scanned)
        for job in jobs:
            view.jobs.report(session.id, job_id=job.job_id, path=None, now_at=time.time(), complete=job.complete)
        if snapshot or jobs:
            view.notify()

    async def push_public(self, call: Call[OfSession]) -> PushAnswer | NoticeTaken:
        """Take events of a public agent; answered after the commit."""
        view, session = self._find_session(call)
        if not session.ours:
            # Released agents send no heartbeat while they push.
            view.sessions.beat(session.id, now_s=view.clock())
        body: PublicIngest | None = None
        try:
            data = await read_body(call.request, self._context.config.max_body_bytes)
            view, session = self._find_session(call)  # it may have ended while the body came
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

    async def _take_public(self, view: View, session: AgentSession, body: PublicIngest) -> PushAnswer | NoticeTaken:
        notice = body.metadata is not None and body.source_type in _NOTICES
        if notice and not body.events:
            self._report_job(view, session, body)
            return NoticeTaken()
        if body.is_end and body.source_type == "snapshot" and view.sessions.is_snapshot_spoilt(session.id):
            view.sessions.close(session.id)
            await view.save_sessions()
            self._context.sessions_changed.set()
            raise RequestRefused(419, "a part of this snapshot was refused; open a new session and send it again")
        refused = await self._apply_public(view, session, body)
        if notice:
            self._report_job(view, session, body)
        return PushAnswer(len(body.events), refused)

    def _report_job(self, view: View, session: AgentSession, body: PublicIngest) -> None:
        metadata = body.metadata
        if metadata is not None and metadata.scan_path:
            view.jobs.report(session.id, job_id=metadata.job_id, path=metadata.scan_path, now_at=time.time())
            view.notify()

    async def _apply_public(self, view: View, session: AgentSession, body: PublicIngest) -> list[RefusedAnswer]:
        leads = session.role is SessionRole.LEADER
        if leads and view.audit is None and any(event.message_source == "audit" for event in body.events):
            view.audit = start_audit(view.store.arrivals.read())
        audit = view.audit if leads else None
        refused: list[RefusedAnswer] = []
        events = body.events if leads else _take_followers(body.events, refused)
        makers = [convert_events(events, refused, audit)]
        snapshot = body.is_end and body.source_type == "snapshot"
        audited = False
        if audit is not None and body.is_end and body.source_type == "audit":
            view.audit = None
            audited = not audit.broken
            if audited:
                makers.append(end_audit(audit, view.audit_before))
                view.audit_before = audit

        def make_items(stamp: Callable[[], int]) -> list[FsItem]:
            items = [item for make in makers for item in make(stamp)]
            if snapshot:
                items.append(SnapshotEnd(index=stamp(), message_source=MessageSource.SNAPSHOT, complete=True))
            return items

        applied = await view.submit(partial(
            apply_public, items=make_items, agent=session.agent_id, pipe=session.pipe_id, session_id=session.id,
            leads=leads, present=view.sessions.list_present(), since=audit.started if audit is not None else 0))
        self._note(view, session, applied, audit=audited)
        return refused + [RefusedAnswer(base64.b64encode(row.path).decode("ascii"), row.reason)
                          for row in applied.refused]

    # -- consistency ------------------------------------------------------------------------------

    async def start_audit(self, call: Call[Nothing]) -> AuditSignalled:
        """Open an audit; with a key for several views nobody can say of which."""
        views = self._context.list_views(call.key)
        if len(views) == 1:
            views[0].audit = start_audit(views[0].store.arrivals.read())
        return AuditSignalled("audit_started", int(len(views) == 1))

    async def end_audit(self, call: Call[Nothing]) -> AuditSignalled:
        """Answer the signal; an audit ends with its last push."""
        return AuditSignalled("audit_ended", 0)

    async def get_sentinel_tasks(self, call: Call[Nothing]) -> SentinelTasks:
        """Name files that may still be written, for public agents to look at; none for a key of several views."""
        views = self._context.list_views(call.key)
        texts = [to_text(path) for path in await views[0].find_suspects()] if len(views) == 1 else []
        paths = [text for text, raw in texts if raw is None]
        return SentinelTasks("suspect_check", paths, views[0].name) if paths else SentinelTasks()

    async def take_feedback(self, call: Call[Nothing]) -> FeedbackTaken | FeedbackIgnored:
        """Take what a public agent found at suspects; of one that it misses it tells by a deletion."""
        views = self._context.list_views(call.key)
        body = await self._context.read(call.request, SentinelFeedback)
        if body.type != "suspect_update":
            return FeedbackIgnored()
        updates = [update for raw in body.updates if (update := _read_update(raw)) is not None]
        taken = 0
        if updates and len(views) == 1:
            taken = await views[0].submit(partial(apply_feedback, updates=updates))
        return FeedbackTaken(int(taken > 0))


def _take_followers(events: list[PublicEvent], refused: list[RefusedAnswer]) -> list[PublicEvent]:
    """Return what a follower may push; the rows of the rest are refused."""
    for event in events:
        if event.message_source in LEADERS_LANES:
            reason = f"a follower may not push rows of its {event.message_source}"
            refused += [RefusedAnswer("", reason)] * len(event.rows)
    return [event for event in events if event.message_source not in LEADERS_LANES]


def _read_update(raw: msgspec.Raw) -> SentinelUpdate | None:
    """Decode an update; None for one that is malformed, or of a file that the agent missed."""
    try:
        update = msgspec.json.decode(raw, type=SentinelUpdate)
    except msgspec.DecodeError:
        return None
    return update if update.status != "missing" else None
