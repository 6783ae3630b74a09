"""Runs a server as a worker under the supervisor; the embedded Fusion and the standalone one are both this."""

import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fustor_fusion.config import FusionConfig
from fustor_fusion.errors import DatabaseTooNew, StoreUnavailable
from fustor_fusion.server import FusionServer

if TYPE_CHECKING:
    from fustor_supervisor.runtime import Runtime

_REPORT_EVERY_S: Final = 0.5


def serve(
    runtime: "Runtime",
    config: FusionConfig,
    *,
    describe: Callable[[FusionServer], bytes],
    listener: socket.socket | None = None,
) -> None:
    """
    Serve until the worker is to stop.

    Args:
        runtime: The worker's side of the control link.
        config: What to serve, and where.
        describe: Says how the server stands, for the worker's status; may raise TimeoutError when the
            server does not answer, which counts as work that it owes.
        listener: Accepts instead of a socket that the server would open.

    Raises:
        OSError: The address cannot be listened on, or the state directory not used.
    """
    server = FusionServer(config, listener=listener)
    is_ready = threading.Event()
    opening = time.pthread_getcpuclockid(threading.get_ident())

    def report() -> None:
        detail, hangs = b"", False
        while not runtime.stop_requested.wait(_REPORT_EVERY_S):
            if not is_ready.is_set():
                # A large database may be migrated or checked for minutes: it moves as long as it computes.
                runtime.report({"opening_ms": int(time.clock_gettime(opening) * 1000)}, phase="opening")
                continue
            failure = server.find_failure()
            if failure is not None:
                # The next process sets the database aside, and the agents fill the new one.
                runtime.fail(failure, permanent=False)
            try:
                detail, hangs = describe(server), False
            except TimeoutError:
                hangs = True
            runtime.report(server.counters(), phase="serving", detail=detail, owed=hangs or server.owes_work())

    def on_ready(_: int) -> None:
        is_ready.set()
        runtime.ready()

    threading.Thread(target=report, name="report", daemon=True).start()
    runtime.on_stop(server.stop)
    try:
        server.run(on_ready=on_ready)
    except DatabaseTooNew as err:
        runtime.fail(str(err), permanent=True)
    except StoreUnavailable as err:
        runtime.fail(str(err), permanent=False)
