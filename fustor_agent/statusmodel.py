"""The exact shape of `/api/status` and `state/status.json`."""

from typing import Final

import msgspec

from fustor_agent.reports import AuditReport, ScanReport, SnapshotReport

SETTLED: Final = frozenset(("running", "backoff", "fatal", "abandoned"))
"""The states of a worker that is not on its way to another one, but for a retry."""

_BROKEN: Final = ("fatal", "abandoned", "backoff")


class LastExit(msgspec.Struct, frozen=True):
    """
    How a worker ended.

    Args:
        at: When, UTC, ISO 8601.
        code: Its exit code; None when a signal ended it.
        signal: That signal's name.
        reason: In words.
        uptime_s: How long it lived.
        asked: It was stopped on purpose.
        output: The last lines that it wrote to standard error, stacks too; only in `last_exit`.
    """

    at: str
    code: int | None = None
    signal: str | None = None
    reason: str = ""
    uptime_s: float = 0.0
    asked: bool = False
    output: str = ""


class WorkerInfo(msgspec.Struct, frozen=True):
    """
    One process of the agent.

    Args:
        name: `<pipe>.source`, `<pipe>.pusher`, `console` or `fusion`.
        kind: The last part of the name.
        pipe: Its pipe; None for console and fusion.
        pid: None while there is no process.
        state: As the supervisor sees it.
        restarts: How often it was replaced.
        uptime_s: Of this process.
        rss_bytes: Memory; None until measured.
        cpu_percent: Of one processor; None until measured.
        last_exit: How its predecessor ended.
        generation: Counts its processes.
        phase: What it does, in its own word.
        last_error: What it said before it failed.
        retry_in_s: In backoff, when it is started again.
        deaths: How its last ten processes ended, oldest first, also before the agent was started.
        concern: What a person should know of a worker that runs, such as that it uses too much memory.
        failures: How often in a row it failed without having been healthy in between; it may be healthy by now.
    """

    name: str
    kind: str
    pipe: str | None
    pid: int | None
    state: str
    restarts: int
    uptime_s: float
    rss_bytes: int | None = None
    cpu_percent: float | None = None
    last_exit: LastExit | None = None
    generation: int = 0
    phase: str = ""
    last_error: str | None = None
    retry_in_s: float | None = None
    deaths: list[LastExit] = []
    failures: int = 0
    concern: str | None = None

    @property
    def is_broken(self) -> bool:
        """Whether a person should know: it is down by a fault, or being tried again after the first try failed."""
        return self.state in _BROKEN or (self.state == "starting" and self.failures > 1)


class Counters(msgspec.Struct, frozen=True):
    """Counts of one pipe; all but `pending` and `dirty` are summed over all its workers' lives."""

    captured: int = 0
    pushed: int = 0
    acknowledged: int = 0
    pending: int = 0
    dirty: int = 0
    overflows: int = 0
    lost: int = 0


class Totals(msgspec.Struct, frozen=True):
    """What the embedded Fusion's view holds."""

    files: int = 0
    directories: int = 0
    bytes: int = 0


class PipeInfo(msgspec.Struct, frozen=True):
    """
    One pipe.

    Args:
        id: Its name.
        source_id: Its source.
        sender_id: Its sender.
        state: The worse of its two workers' states.
        phase: What the source does: `waiting`, `snapshot`, `realtime`, `audit`; "" when it does not run.
        role: `leader`, `follower`, or None without a session.
        session_id: The beginning of the session's id; the whole of it may be a credential.
        current: The view holds what the source holds.
        not_current_because: The first reason why not.
        problem: A fault that a person should know about; None while all is well or merely under way.
        counters: Counts.
        lag_s: Age of the oldest change that is not acknowledged.
        snapshot: The last or running snapshot.
        audit: The last or running audit.
        scans: On-demand scans, oldest first: the last ones that are over, and all that are not.
        enabled: Whether the configuration wants it to run.
        source_uri: What is watched, if the source says so by a `uri`.
        totals: What the view holds, when it is in the embedded Fusion.
        skipped: Places that could not be read, and why.
        details: Further numbers.
    """

    id: str
    source_id: str
    sender_id: str
    state: str
    phase: str
    role: str | None
    session_id: str | None
    current: bool
    not_current_because: str | None
    problem: str | None
    counters: Counters
    lag_s: float
    snapshot: SnapshotReport
    audit: AuditReport
    scans: list[ScanReport] = []
    enabled: bool = True
    source_uri: str | None = None
    totals: Totals | None = None
    skipped: dict[str, str] = {}
    details: dict[str, int] = {}


class AgentInfo(msgspec.Struct, frozen=True):
    """
    The agent as a whole.

    Args:
        version: Of the distribution.
        pid: The supervisor's.
        state: `starting`, `running` or `stopping`.
        started_at: UTC, ISO 8601.
        uptime_s: Since then.
        config: The configuration file; None with `--watch`.
        console: The console's address; None when it is off.
        fusion: The embedded Fusion's address; None when it does not run.
        views: Its views.
        problems: What the agent itself cannot do, one line each; its pipes may be well all the same.
        published_s: When this was published, in seconds of `time.monotonic`; None if it was not.
    """

    version: str
    pid: int
    state: str
    started_at: str
    uptime_s: float
    config: str | None = None
    console: str | None = None
    fusion: str | None = None
    views: list[str] = []
    problems: list[str] = []
    published_s: float | None = None


class AgentStatus(msgspec.Struct, frozen=True):
    """All of `/api/status` and `state/status.json`."""

    agent: AgentInfo
    workers: list[WorkerInfo] = []
    pipes: list[PipeInfo] = []


def encode(status: AgentStatus) -> bytes:
    """Encode as JSON, one line."""
    return msgspec.json.encode(status)


def decode(data: bytes) -> AgentStatus:
    """
    Decode what `encode` made.

    Raises:
        msgspec.DecodeError: It is something else.
    """
    return msgspec.json.decode(data, type=AgentStatus)


def find_faults(status: AgentStatus) -> list[str]:
    """Return one line for each thing that a person should know about; empty when all is well."""
    faults = list(status.agent.problems)
    faults += [f'pipe "{pipe.id}": {pipe.problem}' for pipe in status.pipes if pipe.problem]
    told = {pipe.id for pipe in status.pipes if pipe.problem}
    for worker in status.workers:
        if worker.is_broken and worker.pipe not in told:
            faults.append(f"{worker.name}: {worker.state}: {worker.last_error or 'no reason was given'}")
        if worker.concern:
            faults.append(f"{worker.name}: {worker.concern}")
    return faults
