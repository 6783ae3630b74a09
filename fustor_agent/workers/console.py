"""
The console worker: shows the agent to people and monitoring, and takes their actions.

The web server has the main thread's work but not the main thread: in the main thread it
would take the signals, which belong to the supervisor's side of the worker.
"""

import logging
import threading
from typing import TYPE_CHECKING

import msgspec

from fustor_core.program.errors import ProgramError
from fustor_core.program.listener import format_url, open_listener

if TYPE_CHECKING:
    from fustor_supervisor.messages import Reply
    from fustor_supervisor.runtime import Runtime

_GRACE_S = 2
_REQUEST_S = 30.0
_log = logging.getLogger(__name__)


class ConsoleSettings(msgspec.Struct, frozen=True):
    """
    What the console worker is given.

    Args:
        host: Where to listen.
        port: 0 takes any free one.
        token: What a changing request must present.
    """

    host: str
    port: int
    token: str


def main(runtime: "Runtime", config: ConsoleSettings) -> None:
    """
    Serve the console until the worker is to stop.

    Args:
        runtime: The worker's side of the control link.
        config: Where to listen, and the token.
    """
    # After the fork: only this worker pays for the web stack.
    import asyncio

    import uvicorn

    from fustor_agent.console.board import StatusBoard
    from fustor_agent.console.routes import ActionTimedOut, build_app
    from fustor_agent.usage import UsageMeter
    from fustor_supervisor.errors import RequestTimedOut

    def act(action: str, target: str) -> "Reply":
        try:
            return runtime.request(action, target, timeout_s=_REQUEST_S)
        except RequestTimedOut as err:
            raise ActionTimedOut(str(err)) from err

    try:
        listener = open_listener("console.", config.host, config.port, remedy="stop the program that has it")
    except ProgramError as err:
        runtime.fail(str(err), permanent=False)
    board = StatusBoard(UsageMeter())
    runtime.on_status = board.put

    class QuietServer(uvicorn.Server):
        """Sleeps until it is to stop; uvicorn's own loop wakes up ten times a second to ask for it."""

        async def main_loop(self) -> None:
            loop = asyncio.get_running_loop()
            runtime.on_ping = lambda: loop.call_soon_threadsafe(runtime.alive)
            await asyncio.to_thread(runtime.stop_requested.wait)
            runtime.on_ping = None

    server = QuietServer(
        uvicorn.Config(
            build_app(board, act=act, token=config.token, host=config.host),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,  # nothing would renew it
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=_GRACE_S,
            # A name in a forwarded header would be believed otherwise.
            proxy_headers=False,
        )
    )

    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="console")
    thread.start()
    _log.info("console listens url=%s", format_url(config.host, listener.getsockname()[1]))
    runtime.ready()
    thread.join()
    if not runtime.stop_requested.is_set():
        runtime.fail("the console's server ended by itself; see the log", permanent=False)

