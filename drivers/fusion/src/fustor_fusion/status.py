"""What a standalone Fusion says about itself: put together, kept in a file, and shown."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from fustor_core.program.errors import ProgramError
from fustor_core.program.silence import explain_silence
from fustor_core.program.tables import format_bytes, format_duration, format_table
from fustor_fusion.home import FUSION, Home

_BROKEN: Final = ("fatal", "abandoned", "backoff")
_VIEW_HEAD: Final = ("VIEW", "STATE", "AGENTS", "LEADER", "FILES", "DIRECTORIES", "SIZE", "ROWS")
_WORKER_HEAD: Final = ("WORKER", "STATE", "PID", "RESTARTS", "UP")


class ProcessInfo(msgspec.Struct, frozen=True):
    """
    The process that supervises.

    Args:
        version: Of the program.
        pid: Its number.
        state: `starting`, `running`, `stopping` or `stopped`.
        started_at: UTC, ISO 8601.
        uptime_s: Since then.
        url: Where Fusion listens.
        problems: What it cannot do itself, one line each.
        published_s: When this was published, in seconds of `time.monotonic`; None if it was not.
    """

    version: str = ""
    pid: int = 0
    state: str = "stopped"
    started_at: str = ""
    uptime_s: float = 0.0
    url: str = ""
    problems: list[str] = []
    published_s: float | None = None


class ExitInfo(msgspec.Struct, frozen=True):
    """How a process of a worker ended, as the supervisor tells it; `output` is what it wrote last to standard error."""

    at: str
    code: int | None
    signal: str | None
    reason: str
    output: str = ""


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, as the supervisor tells it."""

    name: str
    state: str
    pid: int | None
    restarts: int
    uptime_s: float
    last_error: str | None = None
    last_exit: ExitInfo | None = None


class ViewInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A view, as the server tells it; `fustor_fusion.report` says what the parts are."""

    id: str
    files: int = 0
    directories: int = 0
    bytes: int = 0
    rows_applied: int = 0
    sessions: int = 0
    leader: str | None = None
    current: bool = False
    not_current_because: str | None = "it is not served at this moment"
    damage: str | None = None


class FusionStatus(msgspec.Struct, frozen=True):
    """The whole of it."""

    fusion: ProcessInfo = ProcessInfo()
    workers: list[WorkerInfo] = []
    views: list[ViewInfo] = []


def decode_views(detail: bytes, names: Sequence[str], *, is_served: bool) -> list[ViewInfo]:
    """
    Return the views in the order of the configuration.

    Args:
        detail: What the server said last; empty before it said anything.
        names: The configured ones.
        is_served: Whether the server runs; otherwise what it said last is over.
    """
    said: Mapping[str, dict[str, object]] = msgspec.msgpack.decode(detail) if detail and is_served else {}
    return [msgspec.convert({"id": name, **said.get(name, {})}, ViewInfo) for name in names]


def find_faults(status: FusionStatus) -> list[str]:
    """Return one line for each thing that a person should see to; empty when all is well."""
    faults = [f"{worker.name}: {worker.state}: {worker.last_error or 'no reason was given'}"
              for worker in status.workers if worker.state in _BROKEN]
    damaged = [f'view "{view.id}": {view.damage}' for view in status.views if view.damage]
    return status.fusion.problems + faults + damaged


def read_status(home: Home, pid: int) -> tuple[FusionStatus, list[str]]:
    """
    Read what a running Fusion published.

    Args:
        home: Where.
        pid: The process that holds the PID file; what another one published counts for nothing.

    Returns:
        The status, and its faults.

    Raises:
        ProgramError: The file cannot be read.
    """
    starting = FusionStatus(ProcessInfo(pid=pid, state="starting"))
    try:
        status = msgspec.json.decode(home.status.read_bytes(), type=FusionStatus)
    except (FileNotFoundError, msgspec.DecodeError):
        return starting, []
    except OSError as err:
        raise ProgramError(f'"{home.status}" cannot be read ({err.strerror}); correct its permissions') from err
    if status.fusion.pid != pid:
        return starting, []
    silence = explain_silence(FUSION.name, status.fusion.published_s, home.status, home.log)
    return status, ([] if silence is None else [silence]) + find_faults(status)


def format_status(status: FusionStatus, faults: Sequence[str], *, colour: bool) -> str:
    """
    Write the status as a few short tables.

    Args:
        status: What to show.
        faults: One line each.
        colour: Mark states with colours; the words stand there in any case.
    """
    fusion = status.fusion
    if fusion.state == "starting":
        return f"Fusion is starting, pid {fusion.pid}"
    uptime = format_duration(fusion.uptime_s)
    blocks = [f"Fusion {fusion.version} is {fusion.state}, pid {fusion.pid}, for {uptime}, {fusion.url}"]
    if status.views:
        rows = [(view.id, "current" if view.current else "not current", str(view.sessions), view.leader or "-",
                 f"{view.files:,}", f"{view.directories:,}", format_bytes(view.bytes), f"{view.rows_applied:,}")
                for view in status.views]
        blocks.append(format_table(_VIEW_HEAD, rows, colour=colour))
        reasons = [f"{view.id} is not current: {view.not_current_because}" for view in status.views if not view.current]
        blocks.append("\n".join(reasons))
    if status.workers:
        rows_ = [(worker.name, worker.state, "-" if worker.pid is None else str(worker.pid), str(worker.restarts),
                  format_duration(worker.uptime_s)) for worker in status.workers]
        blocks.append(format_table(_WORKER_HEAD, rows_, colour=colour))
    blocks.append("\n".join(f"! {fault}" for fault in faults))
    return "\n\n".join(block for block in blocks if block)
