"""The endpoints of readers, under /api/v1/views/{view_id}."""

import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import apsw
import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from fustor_core.drivers import Role as SessionRole
from fustor_fusion.answers import (
    BlindSpots,
    DryRun,
    JobInfo,
    JobList,
    ScanPending,
    SessionInfo,
    SessionList,
    StatsAnswer,
    SuspectsUpdated,
    TreeAnswer,
)
from fustor_fusion.changes import ChangePage, read_changes, read_token
from fustor_fusion.context import Context, answer, refuse
from fustor_fusion.endpoints import JSON, Endpoint
from fustor_fusion.errors import RequestRefused, StoreUnavailable
from fustor_fusion.export import ExportRow, export, read_metadata
from fustor_fusion.guard import check_view
from fustor_fusion.ingest import apply_feedback
from fustor_fusion.jobs import describe
from fustor_fusion.keyfile import Key, Role
from fustor_fusion.paths import to_text
from fustor_fusion.protocol import SentinelUpdate, SuspectsBody
from fustor_fusion.queries import (
    Page,
    Suspect,
    TreeNode,
    Usage,
    find_directory,
    find_node,
    find_page,
    read_blind_spots,
    read_stats,
    read_suspects,
    read_tree,
    read_usage,
)
from fustor_fusion.questions import (
    Ask,
    AskChanges,
    AskJob,
    AskPath,
    AskSearch,
    AskTree,
    OfView,
    read_question,
)
from fustor_fusion.reading import TOKEN, Reading, describe_state
from fustor_fusion.search import search
from fustor_fusion.sessions import AgentSession
from fustor_fusion.view import View

_ROOT: Final = "/api/v1/views/{view_id}"
_NOT_FOUND: Final = "路径未找到或尚未同步"  # the public protocol's own words
_NDJSON: Final = "application/x-ndjson"

Q = TypeVar("Q", bound=Ask)
T = TypeVar("T")


class ViewRoutes:
    """Answers readers."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def list_endpoints(self) -> list[Endpoint]:
        """Return what readers may ask."""
        return [
            self._reading("tree", AskTree, self.get_tree, (TreeAnswer, ScanPending, DryRun)),
            self._reading("search", AskSearch, self.search, list[TreeNode]),
            self._reading("stats", Ask, self.get_stats, StatsAnswer),
            self._reading("metadata", AskPath, self.get_metadata, ExportRow),
            self._reading("blind-spots", Ask, self.get_blind_spots, BlindSpots),
            self._reading("suspect-list", Ask, self.get_suspects, list[Suspect]),
            Endpoint(
                method="PUT", path=f"{_ROOT}/suspect-list", serve=self.put_suspects, key=Role.AGENT, asked=OfView,
                body=SuspectsBody, answers=SuspectsUpdated, refusals=(400, 404, 408, 413), headers=True,
                about=self.put_suspects),
            self._reading("du", AskPath, self.get_usage, Usage),
            self._reading("changes", AskChanges, self.get_changes, ChangePage, 410),
            self._reading("export", AskPath, self.export, ExportRow, answer_type=_NDJSON),
            self._reading("sessions", Ask, self.get_sessions, SessionList),
            self._reading("jobs", Ask, self.get_jobs, JobList),
            self._reading("jobs/{job_id}", AskJob, self.get_job, JobInfo),
        ]

    def _reading(self, path: str, asked: type[Q], handle: Callable[[Reading[Q]], Awaitable[object]], answers: Any,
                 *refusals: int, answer_type: str = JSON) -> Endpoint:
        """Declare a question: checks the key, finds the view, waits for `sync`; every answer says how current it is."""
        async def serve(request: Request) -> Response:
            key = self._context.authorise(request, Role.READER)
            question = read_question(request, asked)
            view = self._find_view(question, key)
            headers: dict[str, str] = {}
            try:
                if question.sync is not UNSET:
                    await view.sync(question.sync)
                reading = Reading(view, question, self._context.turns,
                                  in_pieces=request.scope["http_version"] != "1.0")
                headers = reading.headers
                result = await handle(reading)
                response = result if isinstance(result, Response) else answer(result)
            except (RequestRefused, StoreUnavailable) as err:
                response = refuse(err)
            response.headers.update(headers or describe_state(view))
            return response

        return Endpoint(method="GET", path=f"{_ROOT}/{path}", serve=serve, key=Role.READER, asked=asked,
                        answers=answers, answer_type=answer_type, refusals=(404, 409, 504, 505, *refusals),
                        headers=True, about=handle)

    def _find_view(self, question: OfView, key: Key) -> View:
        view = self._context.views.get(question.view_id)
        if view is None:
            raise RequestRefused(404, f"there is no view {question.view_id!r:.100}")
        check_view(key, view.name)
        return view

    async def get_tree(self, reading: Reading[AskTree]) -> object:
        """Answer with a subtree."""
        asked, view = reading.asked, reading.view
        names, after = asked.get_names(), asked.get_after()
        if asked.dry_run:
            return DryRun(view.name)
        path = b"/" + b"/".join(names)
        job = view.ask_for_scan(path, recursive=asked.recursive) if asked.on_demand_scan else None
        pending = job is not None or view.jobs.is_pending(path.decode(errors="replace"))
        tail = b',"job_id":%b,"job_pending":%b' % (
            b'"%b"' % job.job_id.encode() if job else b"null", b"true" if pending else b"false")
        max_depth = None if asked.max_depth is UNSET else asked.max_depth

        def query(db: apsw.Connection) -> Iterator[bytes]:
            node = find_node(db, names)
            if node is None:
                raise RequestRefused(404, _NOT_FOUND)
            flat = not asked.recursive and max_depth is None
            rest = b',"children":[]' + tail if flat and node[1] is not None else tail
            depth = 0 if flat else max_depth
            page = Page(after)
            if asked.limit is not UNSET and depth != 0:
                page = find_page(db, node, after=after, limit=asked.limit)
                rest += _say_next(page)
            return read_tree(db, names, node, max_depth=depth, only_path=asked.only_path, tail=rest, page=page)

        try:
            return await reading.stream(query)
        except RequestRefused:
            if job is None:
                raise
            return ScanPending(job.job_id)

    async def search(self, reading: Reading[AskSearch]) -> Response:
        """Answer with the files that match."""
        asked = reading.asked
        limit = None if asked.limit is UNSET else asked.limit
        return await reading.stream(lambda db: search(db, asked.pattern, limit=limit))

    async def export(self, reading: Reading[AskPath]) -> Response:
        """Answer with all that is known of everything below a path."""
        names = reading.asked.get_names()

        def query(db: apsw.Connection) -> Iterator[bytes]:
            directory = find_directory(db, names)
            if directory is None:
                raise RequestRefused(404, _NOT_FOUND)
            return export(db, names, directory)

        return await reading.stream(query, _NDJSON)

    async def get_changes(self, reading: Reading[AskChanges]) -> ChangePage:
        """Answer with what changed since a token, as soon as there is something or the wait is over."""
        asked, view = reading.asked, reading.view
        since = asked.get_since()
        if since is not None and since.generation == view.store.generation:
            await view.wait_newer(since.seq, wait_s=asked.wait, is_over=self._context.stopping.is_set)
            reading.headers |= describe_state(view)
        page = await reading.ask(lambda db: read_changes(db, since or read_token(db), limit=asked.limit))
        if page is None:
            raise RequestRefused(410, f"the changes since {since} are not known any more; read export, "
                                      f"and go on with the token in its header {TOKEN}")
        reading.headers[TOKEN] = page.token
        return page

    async def get_metadata(self, reading: Reading[AskPath]) -> ExportRow:
        """Answer with all that is known of one node."""
        names = reading.asked.get_names()
        return _require(await reading.ask(lambda db: read_metadata(db, names)))

    async def get_suspects(self, reading: Reading[Ask]) -> list[Suspect]:
        """Answer with the files that may still be written."""
        return await reading.ask(read_suspects)

    async def put_suspects(self, request: Request) -> Response:
        """Take what somebody found at suspects, each as a look."""
        key = self._context.authorise(request, Role.AGENT)
        view = self._find_view(read_question(request, OfView), key)
        body = await self._context.read(request, SuspectsBody)
        times = [(update.path, update.mtime, update.current_mtime) for update in body.updates]
        updates = [SentinelUpdate(path, time_) for path, *given in times for time_ in given if time_ is not None]
        taken = await view.submit(partial(apply_feedback, updates=updates))
        return answer(SuspectsUpdated(view.name, taken), headers=describe_state(view))

    async def get_blind_spots(self, reading: Reading[Ask]) -> Response:
        """Answer with what only audits and on-demand scans saw."""
        return await reading.stream(read_blind_spots)

    async def get_usage(self, reading: Reading[AskPath]) -> Usage:
        """Answer with how much there is at a path, all below it included."""
        names = reading.asked.get_names()
        return _require(await reading.ask(lambda db: read_usage(db, names)))

    async def get_stats(self, reading: Reading[Ask]) -> StatsAnswer:
        """Answer with numbers of the view."""
        view = reading.view
        reason = view.explain()  # before it is read, as the header says it
        found = await reading.ask(read_stats)
        sums, leader = found.sums, view.sessions.get_leader()
        silent_s = None if leader is None else view.sessions.get_silence_s(leader.id, now_s=view.clock())
        return StatsAnswer(
            item_count=sums.files + sums.directories + 1, total_files=sums.files,
            total_directories=sums.directories + 1, total_size=sums.bytes, latency_ms=1_000 * (view.lag_s or 0.0),
            has_blind_spot=found.blind_spots > 0, suspect_file_count=found.suspects, logical_now=time.time(),
            last_audit_finished_at=view.last_audit_at, audit_cycle_count=view.audit_count,
            is_auditing=view.audit is not None, files=sums.files, directories=sums.directories, bytes=sums.bytes,
            blind_spot_count=found.blind_spots, newest_index=found.newest_index, generation=found.generation,
            rows_applied=view.store.get_totals()["rows_applied"], lag_s=view.lag_s, leader_silent_s=silent_s,
            current=reason is None, not_current_because=reason, damage=view.store.damage or view.store.failure,
        )

    async def get_sessions(self, reading: Reading[Ask]) -> SessionList:
        """Answer with the live sessions."""
        view = reading.view
        sessions = [_describe_session(view, session) for session in view.sessions.get_all()]
        return SessionList(view.name, sessions, len(sessions))

    async def get_jobs(self, reading: Reading[Ask]) -> JobList:
        """Answer with the on-demand scans."""
        return JobList([describe(job, reading.view.name) for job in reading.view.jobs.get_all()])

    async def get_job(self, reading: Reading[AskJob]) -> JobInfo:
        """Answer with one on-demand scan."""
        job = reading.view.jobs.get(reading.asked.job_id)
        if job is None:
            raise RequestRefused(404, f"Agent job {reading.asked.job_id!r:.100} not found")
        return describe(job, reading.view.name)


def _require(found: T | None) -> T:
    if found is None:
        raise RequestRefused(404, _NOT_FOUND)
    return found


def _say_next(page: Page) -> bytes:
    """Say in an answer how to go on behind its page."""
    if page.last is None:
        return b',"next":null'
    text, raw = to_text(page.last)
    return b',"next":' + msgspec.json.encode(text) + (b"" if raw is None else b',"next_raw":"%b"' % raw.encode())


def _describe_session(view: View, session: AgentSession) -> SessionInfo:
    now_s = view.clock()
    leads = session.role is SessionRole.LEADER
    return SessionInfo(
        session_id=session.id, task_id=session.task_id, agent_id=session.agent_id, client_ip=session.client_ip,
        source_uri=session.source_uri, last_activity=now_s - view.sessions.get_silence_s(session.id, now_s=now_s),
        created_at=session.created_at, session_timeout_seconds=session.timeout_s, role=session.role.value,
        can_snapshot=leads, can_audit=leads, can_realtime=session.can_realtime)
