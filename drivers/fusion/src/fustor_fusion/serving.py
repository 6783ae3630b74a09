"""The inside of a running server: its socket, its event loop, its views; uvicorn in the calling thread."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Self

import apsw
import uvicorn
import uvloop

from fustor_core.program.silence import find_obstacle
from fustor_fusion.app import build_app
from fustor_fusion.config import FusionConfig
from fustor_fusion.context import Context
from fustor_fusion.errors import StoreUnavailable
from fustor_fusion.keyring import KeyRing, make_fixed_keys
from fustor_fusion.patience import PatientProtocol
from fustor_fusion.report import ViewReport, describe_view
from fustor_fusion.view import View

log = logging.getLogger(__name__)

_BACKLOG = 1024
_GRACE_S = 3
_KEEP_ALIVE_S = 75
_LONGEST_NAP_S = 3600.0


class Serving:
    """
    Opens the socket and the views, serves them, and closes them as a context manager.

    Args:
        config: What to serve, and where.
        is_stop_asked: Tells whether the server is to stop, perhaps before it runs.
        listener: Accepts instead of a socket at the configured address.
    """

    def __init__(
        self, config: FusionConfig, *, is_stop_asked: Callable[[], bool], listener: socket.socket | None = None
    ) -> None:
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._is_stop_asked = is_stop_asked
        self._loop: asyncio.AbstractEventLoop | None = None
        self.views: dict[str, View] = {}
        self._listener = listener or _listen(config.host, config.port)
        try:
            for name in config.views:
                self.views[name] = _open_view(name, config.state_dir)
        except BaseException:
            self.close()
            raise
        keys = KeyRing(make_fixed_keys(config.agent_key, config.reader_key, config.views), config.keys_file)
        self._context = Context(config, self.views, keys, asyncio.Event())
        if keys.fault is None:
            self._context.end_revoked()
        self.guard = build_app(self._context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket and the views, with all that is queued applied."""
        self._listener.close()
        for view in self.views.values():
            view.close()

    def run(self, on_ready: Callable[[int], None]) -> None:
        """Serve until it is woken and a stop is asked for."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(self._listener, on_ready))

    def wake(self) -> None:
        """Begin to stop; any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._context.stopping.set)

    def describe_views(self, timeout_s: float) -> dict[str, ViewReport]:
        """
        Return how each view stands, as the event loop sees it; any other thread.

        Raises:
            TimeoutError: The loop does not answer in time, or has ended.
        """
        described: Future[dict[str, ViewReport]] = Future()

        def describe() -> None:
            described.set_result({name: describe_view(view) for name, view in self.views.items()})

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(describe)
        return described.result(timeout_s)

    async def _serve(self, listener: socket.socket, on_ready: Callable[[int], None]) -> None:
        self._loop = asyncio.get_running_loop()
        if self._is_stop_asked():
            return
        server = _QuietServer(uvicorn.Config(
            self.guard, log_config=None, access_log=False, lifespan="off", http=PatientProtocol, ws="none",
            timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=_GRACE_S, server_header=False,
            backlog=_BACKLOG, date_header=False,
        ), until=self._context.stopping.wait, on_started=lambda: on_ready(listener.getsockname()[1]))
        duties = (self._end_sessions(), self._watch_stop(), self._ask_for_looks())
        tasks = [asyncio.create_task(duty) for duty in duties]
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_for_looks(self) -> None:
        """Have files that may still be written looked at, every so often."""
        interval_s = self._context.config.sentinel_interval_s
        while interval_s:
            await asyncio.sleep(interval_s)
            for view in self.views.values():
                try:
                    await view.ask_for_looks()
                except StoreUnavailable as err:
                    log.warning("Suspects could not be read view=%s error=%s", view.name, err)

    async def _watch_stop(self) -> None:
        await self._context.stopping.wait()
        for view in self.views.values():
            view.notify()  # ends the long polls

    async def _end_sessions(self) -> None:
        """End sessions at the moment at which their time is over."""
        while True:
            self._context.sessions_changed.clear()
            naps = [_LONGEST_NAP_S]
            for view in self.views.values():
                view.sessions.expire(now_s=view.clock())
                try:
                    await view.save_sessions()
                except StoreUnavailable as err:
                    # Stored with the next change; the expiry itself holds.
                    log.warning("Sessions could not be stored view=%s error=%s", view.name, err)
                deadline = view.sessions.get_deadline()
                if deadline is not None:
                    naps.append(deadline - view.clock())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._context.sessions_changed.wait(), max(0.001, min(naps)))


class _QuietServer(uvicorn.Server):
    """
    A uvicorn server that leaves signals to its process, says when it accepts, and sleeps while idle.

    Args:
        config: Without date header: nothing renews it.
        until: Returns when the server is to stop.
        on_started: Called once it accepts.
    """

    def __init__(
        self, config: uvicorn.Config, *, until: Callable[[], Awaitable[object]], on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._until = until
        self._on_started = on_started

    async def main_loop(self) -> None:
        """Wait for the stop; uvicorn's own loop wakes up ten times a second to ask for it."""
        await self._until()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        self._on_started()


def _open_view(name: str, state_dir: Path) -> View:
    try:
        return View(name, state_dir)
    except (OSError, apsw.Error) as err:
        reason = f'view "{name}": its database cannot be opened ({err})'
        raise StoreUnavailable(f"{reason}; {find_obstacle(state_dir) or 'it is tried again'}") from err


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)
