"""
Put the status of the agent together.

The supervisor knows processes; what the workers know of their pipes stands, encoded, in
their `detail`. `compose` joins both, purely: the same input gives the same status.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from fustor_agent.config import Config, PipeConfig
from fustor_agent.reports import FusionReport, PusherReport, SnapshotReport, SourceReport, WorkerReport
from fustor_agent.statusmodel import (
    AgentInfo,
    AgentStatus,
    Counters,
    LastExit,
    PipeInfo,
    Totals,
    WorkerInfo,
    decode,
    encode,
)
from fustor_core.program.problems import make_encodable, show
from fustor_core.program.tables import format_duration

if TYPE_CHECKING:
    # Only the shape of its status is needed here, not the supervisor.
    from fustor_supervisor.status import Death, SupervisorStatus, WorkerStatus

__all__ = ["AgentStatus", "compose", "decode", "encode"]

SOURCE_KIND = "source"
PUSHER_KIND = "pusher"
FUSION_NAME = "fusion"
_RUNNING = "running"
# What a pipe of two workers is said to be: the first of these that either of them is.
_WORST_FIRST = ("fatal", "abandoned", "backoff", "stopping", "starting", "stopped")
_decoder = msgspec.msgpack.Decoder(WorkerReport)
Report = TypeVar("Report", SourceReport, PusherReport, FusionReport)


def compose(
    config: Config, supervisor: "SupervisorStatus", *, version: str, problems: Sequence[str] = ()
) -> AgentStatus:
    """
    Put the status together.

    Args:
        config: The configuration that is in force.
        supervisor: The processes, with the workers' own reports in their `detail`.
        version: Of the agent.
        problems: What the agent itself cannot do, besides its supervisor.
    """
    workers = {worker.name: worker for worker in supervisor.workers}
    return AgentStatus(
        agent=AgentInfo(
            version=version,
            pid=supervisor.pid,
            state=str(supervisor.state),
            started_at=supervisor.started_at,
            uptime_s=supervisor.uptime_s,
            config=make_encodable(config.file) if config.file else None,
            console=config.console.url,
            fusion=config.fusion.url if config.embedded_views else None,
            views=list(config.embedded_views),
            problems=[make_encodable(problem) for problem in (*supervisor.problems, *problems)],
            published_s=supervisor.made_s,
        ),
        workers=[_describe_worker(worker) for worker in supervisor.workers],
        pipes=[_describe_pipe(config, pipe, workers) for pipe in config.pipes],
    )


class _Side(msgspec.Struct, frozen=True):
    """One worker of a pipe, as far as it is there."""

    name: str
    worker: WorkerInfo | None
    totals: Mapping[str, int]

    @property
    def state(self) -> str:
        return self.worker.state if self.worker else "stopped"

    def explain(self) -> str | None:
        """Say why the worker does not run."""
        if self.state == _RUNNING:
            return None
        error = self.worker.last_error if self.worker else None
        return f"{self.name} is in {self.state}: {error}" if error else f"{self.name} is {self.state}"


def _describe_worker(worker: "WorkerStatus") -> WorkerInfo:
    pipe, _, kind = worker.name.rpartition(".")
    last = worker.last_exit
    return WorkerInfo(
        name=worker.name,
        kind=kind,
        pipe=pipe or None,
        pid=worker.pid,
        state=str(worker.state),
        restarts=worker.restarts,
        uptime_s=worker.uptime_s,
        last_exit=msgspec.structs.replace(_describe_death(last), output=last.output) if last else None,
        generation=worker.generation,
        phase=worker.phase,
        last_error=worker.last_error,
        retry_in_s=worker.retry_in_s,
        deaths=[_describe_death(death) for death in worker.deaths],
        failures=worker.failures,
        concern=worker.concern,
    )


def _describe_death(death: "Death") -> LastExit:
    """Say how a process ended, without its output: ten of them would make the status long."""
    return LastExit(
        at=death.at,
        code=death.code,
        signal=death.signal,
        reason=death.reason,
        uptime_s=death.uptime_s,
        asked=death.asked,
    )


def _describe_pipe(config: Config, pipe: PipeConfig, workers: Mapping[str, "WorkerStatus"]) -> PipeInfo:
    source_worker = workers.get(f"{pipe.id}.{SOURCE_KIND}")
    pusher_worker = workers.get(f"{pipe.id}.{PUSHER_KIND}")
    source = _read_report(source_worker, SourceReport)
    pusher = _read_report(pusher_worker, PusherReport)
    sides = (_make_side("source", source_worker), _make_side("pusher", pusher_worker))
    counters = _count(source, pusher, sides[0].totals, sides[1].totals)
    problem = _find_problem(pipe, sides, source, pusher, counters)
    because = _explain(pipe, sides, source, pusher, counters)
    runs = sides[0].state == _RUNNING
    return PipeInfo(
        id=pipe.id,
        source_id=pipe.source_id,
        sender_id=pipe.sender_id,
        state=next((word for word in _WORST_FIRST if word in (sides[0].state, sides[1].state)), _RUNNING),
        phase=source.phase if runs else "",
        role=pusher.role if sides[1].state == _RUNNING else None,
        session_id=pusher.session if sides[1].state == _RUNNING else None,
        current=because is None,
        not_current_because=because,
        problem=problem,
        counters=counters,
        lag_s=source.lag_s,
        snapshot=source.snapshot,
        audit=source.audit,
        scans=source.scans,
        enabled=pipe.enabled,
        source_uri=_find_uri(config, pipe),
        totals=_find_totals(config, pipe, workers),
        skipped=source.skipped,
        details=source.details,
    )


def _explain(
    pipe: PipeConfig, sides: tuple[_Side, _Side], source: SourceReport, pusher: PusherReport, counters: Counters
) -> str | None:
    """Return the first reason why a pipe is not current, the causes before their consequences."""
    if not pipe.enabled:
        return "it is switched off in the configuration"
    snapshot = source.snapshot.state
    needs_snapshot = pusher.role != "follower" and snapshot != "done"
    reasons = (
        sides[0].explain(),
        sides[1].explain(),
        pusher.error,
        None if pusher.session else "there is no session with the receiver yet",
        _say_snapshot(source.snapshot) if needs_snapshot else None,
        source.not_current_because,
        f"{counters.dirty} places must be read again" if counters.dirty else None,
        _say_refused(source.refused),
    )
    return next((reason for reason in reasons if reason), None)


def _find_problem(
    pipe: PipeConfig, sides: tuple[_Side, _Side], source: SourceReport, pusher: PusherReport, counters: Counters
) -> str | None:
    """Return what a person should know about: a fault, not work that is merely under way."""
    if not pipe.enabled:
        return None
    for side in sides:
        if side.worker is not None and side.worker.is_broken:
            return side.explain()
    snapshot_done = source.snapshot.state == "done" or pusher.role == "follower"
    reasons = (
        pusher.error,
        "the last snapshot failed" if source.snapshot.state == "failed" else None,
        source.not_current_because if snapshot_done and not counters.dirty else None,
        _say_refused(source.refused),
    )
    return next((reason for reason in reasons if reason), None)


def _say_snapshot(snapshot: SnapshotReport) -> str:
    if snapshot.state == "running":
        return f"the snapshot is running, {snapshot.rows + snapshot.compared:,} rows so far{_say_progress(snapshot)}"
    return "the last snapshot failed" if snapshot.state == "failed" else "there was no snapshot yet"


def _say_progress(snapshot: SnapshotReport) -> str:
    if snapshot.progress is None:
        return ""
    left = "" if snapshot.left_s is None else f", about {format_duration(snapshot.left_s)} left"
    return f", {int(snapshot.progress * 100)} %{left}"


def _say_refused(refused: int) -> str | None:
    if not refused:
        return None
    return f"the receiver refused {refused:,} rows for good; see state/refused.ndjson, then ask for a snapshot"


def _make_side(kind: str, worker: "WorkerStatus | None") -> _Side:
    if worker is None:
        return _Side(name=f"the {kind}", worker=None, totals={})
    return _Side(name=f"the {kind}", worker=_describe_worker(worker), totals=worker.totals)


def _count(
    source: SourceReport, pusher: PusherReport, source_totals: Mapping[str, int], pusher_totals: Mapping[str, int]
) -> Counters:
    return Counters(
        captured=source_totals.get("captured", source.captured),
        pushed=pusher_totals.get("pushed", pusher.pushed),
        acknowledged=pusher_totals.get("acknowledged", pusher.acknowledged),
        pending=source.pending,
        dirty=source.dirty,
        overflows=source_totals.get("overflows", source.overflows),
        lost=pusher_totals.get("lost", pusher.lost),
    )


def _find_uri(config: Config, pipe: PipeConfig) -> str | None:
    uri = config.get_source(pipe).config.get("uri")
    return show((), uri).strip('"') if isinstance(uri, str) else None


def _find_totals(config: Config, pipe: PipeConfig, workers: Mapping[str, "WorkerStatus"]) -> Totals | None:
    if not config.get_sender(pipe).is_embedded:
        return None
    view = _read_report(workers.get(FUSION_NAME), FusionReport).views.get(pipe.id)
    if view is None:
        return None
    return Totals(files=view.get("files", 0), directories=view.get("directories", 0), bytes=view.get("bytes", 0))


def _read_report(worker: "WorkerStatus | None", kind: type[Report]) -> Report:
    """Decode what a worker says of itself; a worker that said nothing yet, or nonsense, said the defaults."""
    if worker is None or not worker.detail:
        return kind()
    try:
        report = _decoder.decode(worker.detail)
    except msgspec.DecodeError:
        return kind()
    return report if isinstance(report, kind) else kind()
