"""The routes of readers, under /api/v1/views/{view_id}."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import apsw
import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from fustor_core.drivers import Role
from fustor_fusion.changes import Token, parse_token, read_changes, read_token
from fustor_fusion.context import Context, answer, parse_wait
from fustor_fusion.errors import RequestRefused, StoreUnavailable
from fustor_fusion.export import export, read_metadata
from fustor_fusion.guard import check_view
from fustor_fusion.jobs import describe
from fustor_fusion.paths import BadPath, decode_raw, normalise_text, split_path, to_text
from fustor_fusion.queries import (
    Page,
    find_directory,
    find_node,
    find_page,
    read_blind_spots,
    read_stats,
    read_suspects,
    read_tree,
    read_usage,
    search,
)
from fustor_fusion.readers import Readers
from fustor_fusion.view import View

_MAX_SYNC_S = 600.0
_MAX_PATTERN = 1_000
_USUAL_CHANGES, _MAX_CHANGES = 1_000, 10_000
_TOKEN = "X-Fustor-Token"
_NOT_FOUND = "路径未找到或尚未同步"  # the public protocol's own words
_TRUE, _FALSE = frozenset(("1", "true", "on", "yes")), frozenset(("0", "false", "off", "no", ""))

Query = Callable[[apsw.Connection], Iterator[bytes]]

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

    def __iter__(self) -> "LeasedStream":
        return self

    def __next__(self) -> bytes:
        piece, self._first = self._first, None
        if piece is None:
            piece = next(self._pieces, None)
        if piece is None:
            self._lease.close()
            raise StopIteration
        return piece

    def __del__(self) -> None:
        self._lease.close()


class ViewRoutes:
    """Answers readers."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def list_routes(self) -> list[Route]:
        """Return the routes, below /api/v1/views."""
        return [
            Route("/{view_id}/tree", self.get_tree, methods=["GET"]),
            Route("/{view_id}/search", self.search, methods=["GET"]),
            Route("/{view_id}/stats", self.get_stats, methods=["GET"]),
            Route("/{view_id}/metadata", self.get_metadata, methods=["GET"]),
            Route("/{view_id}/blind-spots", self.get_blind_spots, methods=["GET"]),
            Route("/{view_id}/suspect-list", self.get_suspects, methods=["GET"]),
            Route("/{view_id}/du", self.get_usage, methods=["GET"]),
            Route("/{view_id}/changes", self.get_changes, methods=["GET"]),
            Route("/{view_id}/export", self.export, methods=["GET"]),
            Route("/{view_id}/sessions", self.get_sessions, methods=["GET"]),
            Route("/{view_id}/jobs", self.get_jobs, methods=["GET"]),
            Route("/{view_id}/jobs/{job_id}", self.get_job, methods=["GET"]),
        ]

    async def _enter(self, request: Request) -> tuple[View, dict[str, str]]:
        """Check the key, find the view, wait for `sync`; return the view and the headers that every answer has."""
        key = self._context.authorise(request, may_read_only=True)
        name = request.path_params["view_id"]
        view = self._context.views.get(name)
        if view is None:
            raise RequestRefused(404, f"there is no view {name!r:.100}")
        check_view(key, name)
        text = request.query_params.get("sync")
        if text is not None:
            await view.sync(_parse_sync(text))
        return view, _describe_state(view)

    async def _stream(self, view: View, query: Query, headers: dict[str, str], media_type: str) -> Response:
        stream = await self._read(view, lambda: LeasedStream(view.readers, query))
        headers[_TOKEN] = stream.token
        return StreamingResponse(stream, headers=headers, media_type=media_type)

    async def _ask(self, view: View, query: Callable[[apsw.Connection], T], headers: dict[str, str]) -> T:
        """Run a query with a short answer; the headers get the token of what it saw."""
        def ask() -> tuple[T, str]:
            with view.readers.lease() as db:
                return query(db), str(read_token(db))

        result, headers[_TOKEN] = await self._read(view, ask)
        return result

    async def _read(self, view: View, read: Callable[[], T]) -> T:
        """Read on a thread of its own; raises StoreUnavailable when the database cannot be read."""
        try:
            return await run_in_threadpool(read)
        except apsw.Error as err:
            view.store.note_damage(err)
            raise StoreUnavailable(f"{view.store.path.name}: {err}") from err

    async def get_tree(self, request: Request) -> Response:
        """Answer with a subtree."""
        names = _parse_path(request)
        recursive = _parse_flag(request, "recursive", default=True)
        max_depth = _parse_number(request, "max_depth", least=0)
        only_path = _parse_flag(request, "only_path", default=False)
        scan = _parse_flag(request, "on_demand_scan", default=False)
        dry = _parse_flag(request, "dry_run", default=False)
        after, limit = _parse_after(request), _parse_number(request, "limit", least=1)
        view, headers = await self._enter(request)
        if dry:
            return answer({"message": "dry-run", "view_id": view.name}, headers=headers)
        path = b"/" + b"/".join(names)
        job = view.ask_for_scan(path, recursive=recursive) if scan else None
        pending = job is not None or view.jobs.is_pending(path.decode(errors="replace"))
        tail = b',"job_id":%b,"job_pending":%b' % (
            b'"%b"' % job.job_id.encode() if job else b"null", b"true" if pending else b"false")

        def query(db: apsw.Connection) -> Iterator[bytes]:
            node = find_node(db, names)
            if node is None:
                raise RequestRefused(404, _NOT_FOUND)
            flat = not recursive and max_depth is None
            rest = b',"children":[]' + tail if flat and node[1] is not None else tail
            depth = 0 if flat else max_depth
            page = Page(after)
            if limit is not None and depth != 0:
                page = find_page(db, node, after=after, limit=limit)
                rest += _say_next(page)
            return read_tree(db, names, node, max_depth=depth, only_path=only_path, tail=rest, page=page)

        try:
            return await self._stream(view, query, headers, "application/json")
        except RequestRefused:
            if job is None:
                raise
            message = "Path not found, but a find has been triggered and is pending."
            return answer({"job_id": job.job_id, "job_pending": True, "message": message}, headers=headers)

    async def search(self, request: Request) -> Response:
        """Answer with the files that match."""
        pattern = request.query_params.get("pattern")
        if pattern is None or len(pattern) > _MAX_PATTERN:
            raise RequestRefused(422, f"pattern is required, at most {_MAX_PATTERN} characters")
        limit = _parse_number(request, "limit", least=1)
        view, headers = await self._enter(request)
        return await self._stream(view, lambda db: search(db, pattern, limit=limit), headers, "application/json")

    async def export(self, request: Request) -> Response:
        """Answer with all that is known of everything below a path."""
        names = _parse_path(request)
        view, headers = await self._enter(request)

        def query(db: apsw.Connection) -> Iterator[bytes]:
            directory = find_directory(db, names)
            if directory is None:
                raise RequestRefused(404, _NOT_FOUND)
            return export(db, names, directory)

        return await self._stream(view, query, headers, "application/x-ndjson")

    async def get_changes(self, request: Request) -> Response:
        """Answer with what changed since a token, as soon as there is something or the wait is over."""
        since = _parse_since(request)
        wait_s = parse_wait(request.query_params.get("wait", "0"))
        limit = min(_parse_number(request, "limit", least=1) or _USUAL_CHANGES, _MAX_CHANGES)
        view, headers = await self._enter(request)
        if since is not None and since.generation == view.store.generation:
            await view.wait_newer(since.seq, wait_s=wait_s, is_over=self._context.stopping.is_set)
            headers = _describe_state(view)
        page = await self._ask(view, lambda db: read_changes(db, since or read_token(db), limit=limit), headers)
        if page is None:
            raise RequestRefused(410, f"the changes since {since} are not known any more; read export, "
                                      f"and go on with the token in its header {_TOKEN}")
        return answer(page, headers=headers | {_TOKEN: page.token})

    async def get_metadata(self, request: Request) -> Response:
        """Answer with all that is known of one node."""
        names = _parse_path(request)
        view, headers = await self._enter(request)
        row = await self._ask(view, lambda db: read_metadata(db, names), headers)
        if row is None:
            raise RequestRefused(404, _NOT_FOUND)
        return answer(row, headers=headers)

    async def get_suspects(self, request: Request) -> Response:
        """Answer with the files that may still be written."""
        view, headers = await self._enter(request)
        return answer(await self._ask(view, read_suspects, headers), headers=headers)

    async def get_blind_spots(self, request: Request) -> Response:
        """Answer with what only audits and on-demand scans saw."""
        view, headers = await self._enter(request)
        return await self._stream(view, read_blind_spots, headers, "application/json")

    async def get_usage(self, request: Request) -> Response:
        """Answer with how much there is at a path, all below it included."""
        names = _parse_path(request)
        view, headers = await self._enter(request)
        usage = await self._ask(view, lambda db: read_usage(db, names), headers)
        if usage is None:
            raise RequestRefused(404, _NOT_FOUND)
        return answer(usage, headers=headers)

    async def get_stats(self, request: Request) -> Response:
        """Answer with numbers of the view."""
        view, headers = await self._enter(request)
        found = await self._ask(view, read_stats, headers)
        sums = found.sums
        reason = view.explain()
        stats = {
            "item_count": sums.files + sums.directories + 1, "total_files": sums.files,
            "total_directories": sums.directories + 1, "total_size": sums.bytes, "latency_ms": 0.0,
            "staleness_seconds": 0.0, "oldest_item_path": None, "has_blind_spot": found.has_blind_spots,
            "suspect_file_count": found.suspects, "logical_now": time.time(),
            "files": sums.files, "directories": sums.directories, "bytes": sums.bytes,
            "newest_index": found.newest_index, "generation": found.generation,
            "last_audit_finished_at": view.last_audit_at, "audit_cycle_count": view.audit_count,
            "is_auditing": view.audit is not None, "current": reason is None, "not_current_because": reason,
            "rows_applied": view.store.get_totals()["rows_applied"], "damage": view.store.damage or view.store.failure,
        }
        return answer(stats, headers=headers)

    async def get_sessions(self, request: Request) -> Response:
        """Answer with the live sessions."""
        view, headers = await self._enter(request)
        sessions = [
            {"session_id": session.id, "task_id": session.task_id, "agent_id": session.agent_id,
             "client_ip": session.client_ip, "source_uri": session.source_uri,
             "last_activity": view.clock() - view.sessions.get_silence_s(session.id, now_s=view.clock()),
             "created_at": session.created_at, "allow_concurrent_push": True,
             "session_timeout_seconds": session.timeout_s, "role": session.role.value,
             "can_snapshot": session.role is Role.LEADER, "can_audit": session.role is Role.LEADER,
             "can_realtime": session.can_realtime, "can_send": True}
            for session in view.sessions.get_all()
        ]
        return answer({"view_id": view.name, "active_sessions": sessions, "count": len(sessions)}, headers=headers)

    async def get_jobs(self, request: Request) -> Response:
        """Answer with the on-demand scans."""
        view, headers = await self._enter(request)
        return answer({"jobs": [describe(job, view.name) for job in view.jobs.get_all()]}, headers=headers)

    async def get_job(self, request: Request) -> Response:
        """Answer with one on-demand scan."""
        view, headers = await self._enter(request)
        job = view.jobs.get(request.path_params["job_id"])
        if job is None:
            raise RequestRefused(404, f"Agent job {request.path_params['job_id']!r:.100} not found")
        return answer(describe(job, view.name), headers=headers)


def _parse_path(request: Request) -> list[bytes]:
    raw, text = request.query_params.get("raw"), request.query_params.get("path", "/")
    try:
        if raw is not None:
            return split_path(decode_raw(raw))
        if not text.startswith("/"):
            raise BadPath("path must begin with /")
        return split_path(normalise_text(text))
    except BadPath as err:
        raise RequestRefused(422, str(err)) from err


def _describe_state(view: View) -> dict[str, str]:
    """Make the headers that say how current an answer is."""
    reason = view.explain()
    if reason is None:
        return {"X-Fustor-Current": "true"}
    text = "".join(c if 31 < ord(c) < 127 else "?" for c in reason)
    return {"X-Fustor-Current": "false", "X-Fustor-Not-Current-Because": text}


def _parse_since(request: Request) -> Token | None:
    text = request.query_params.get("since")
    if text is None:
        return None
    token = parse_token(text)
    if token is None:
        raise RequestRefused(422, f"since={text!r:.100} is no token; leave it out to get the present one")
    return token


def _parse_flag(request: Request, name: str, *, default: bool) -> bool:
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise RequestRefused(422, f"{name}={text!r:.40} is neither true nor false")


def _parse_number(request: Request, name: str, *, least: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise RequestRefused(422, f"{name}={text!r:.40} is not a number from {least} up")
    return int(text)


def _parse_after(request: Request) -> bytes:
    """Return the name behind which a page begins; empty when it begins with the first."""
    raw, text = request.query_params.get("after_raw"), request.query_params.get("after", "")
    try:
        return text.encode() if raw is None else decode_raw(raw)
    except BadPath as err:
        raise RequestRefused(422, f"after_{err}") from err


def _say_next(page: Page) -> bytes:
    """Say in an answer how to go on behind its page."""
    if page.last is None:
        return b',"next":null'
    text, raw = to_text(page.last)
    return b',"next":' + msgspec.json.encode(text) + (b"" if raw is None else b',"next_raw":"%b"' % raw.encode())


def _parse_sync(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as err:
        raise RequestRefused(422, f"sync={text!r:.40} is not a number of seconds") from err
    if not math.isfinite(seconds) or not 0 < seconds <= _MAX_SYNC_S:
        raise RequestRefused(422, f"sync={text!r:.40} is not above 0 and at most {_MAX_SYNC_S:g}")
    return seconds
