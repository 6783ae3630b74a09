"""A Fusion of its own: one worker that serves, under a supervisor that replaces it when it dies or hangs."""

import importlib
import itertools
import logging
import socket
from collections.abc import Callable
from typing import Final

import msgspec

from fustor_core.program import logs
from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.limits import raise_file_limit
from fustor_fusion.config import FusionConfig
from fustor_fusion.home import Home
from fustor_fusion.server import FusionServer
from fustor_fusion.status import FusionStatus, ProcessInfo, WorkerInfo, decode_views
from fustor_fusion.worker import serve
from fustor_supervisor import Notifier, Runtime, Supervisor, SupervisorStatus, WorkerSpec

WORKER: Final = "fusion"
_PRELOADED: Final = ("msgspec", "multiprocess")
"""Imported once before the first fork, so that workers share their memory; neither starts a thread."""

_DESCRIBE_S: Final = 5.0
_FAILED: Final = ("backoff", "fatal", "abandoned")
log = logging.getLogger(__name__)


def run(
    config: FusionConfig,
    listener: socket.socket,
    home: Home,
    *,
    version: str,
    url: str,
    on_ready: Callable[[], None],
    on_failed: Callable[[str], None],
) -> int:
    """
    Serve until told to stop.

    The listener stays open here, so that a client that comes while the worker is replaced waits
    instead of being refused.

    Args:
        config: What to serve.
        listener: Where; listening.
        home: Prepared; the PID file is held by the caller.
        version: Of the program, for the status.
        url: The listener's address, for the status.
        on_ready: Called once, as soon as it serves.
        on_failed: Called once with the reason, instead of `on_ready`, when the worker did not come up
            the first time; everything stops then.

    Returns:
        The exit code of the program.
    """
    for name in _PRELOADED:
        importlib.import_module(name)
    raise_file_limit()
    code = ExitCode.DONE
    awaits_start = True

    def publish(supervisor: SupervisorStatus) -> bytes:
        nonlocal awaits_start, code
        status = _compose(supervisor, config, version=version, url=url)
        (worker,) = status.workers
        if awaits_start and worker.state == "running":
            awaits_start = False
            on_ready()
        elif awaits_start and worker.state in _FAILED:
            awaits_start, code = False, ExitCode.FAILED
            on_failed(worker.last_error or "the server ended while it was starting")
            supervised.stop()
        return msgspec.json.encode(status)

    def main(runtime: Runtime) -> None:
        logs.name_process(runtime.name)
        _serve(runtime, config, listener)

    supervised = Supervisor(
        next_epoch=itertools.count(1).__next__,
        publish=publish,
        status_path=home.status,
        history_path=home.deaths,
        on_reopen_logs=logs.reopen,
        notifier=Notifier(),
    )
    supervised.apply([WorkerSpec(name=WORKER, main=main)], [])
    log.info("Fusion starts version=%s url=%s views=%d", version, url, len(config.views))
    supervised.run()
    log.info("Fusion stopped")
    return code


def _serve(runtime: Runtime, config: FusionConfig, listener: socket.socket) -> None:
    try:
        serve(runtime, config, describe=_describe, listener=listener)
    except OSError as err:
        runtime.fail(f'"{config.state_dir}": {err.strerror or err}; it must be a directory of this user, '
                     "on a disk with space", permanent=False)


def _describe(server: FusionServer) -> bytes:
    return msgspec.msgpack.encode(server.describe_views(_DESCRIBE_S))


def _compose(supervisor: SupervisorStatus, config: FusionConfig, *, version: str, url: str) -> FusionStatus:
    (worker,) = supervisor.workers
    process = ProcessInfo(version, supervisor.pid, supervisor.state, supervisor.started_at, supervisor.uptime_s, url,
                          supervisor.problems, supervisor.made_s)
    info = msgspec.convert(worker, WorkerInfo, from_attributes=True)
    return FusionStatus(process, [info], decode_views(worker.detail, config.views, is_served=worker.state == "running"))
