"""What a program asks the supervisor to run: workers, links between them, and their limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fustor_supervisor.errors import InvalidPlan

if TYPE_CHECKING:
    from fustor_supervisor.runtime import Runtime


@dataclass(frozen=True)
class RestartPolicy:
    """
    How long a worker that died waits before it is started again.

    Args:
        first_s: Delay after the first death in a row.
        base_s: Delay after the second.
        factor: Growth from one death to the next.
        cap_s: The longest delay, before jitter.
        jitter: Fraction by which a delay may differ, up or down.
        healthy_after_s: A worker that was ready for this long starts counting anew.
    """

    first_s: float = 0.0
    base_s: float = 0.25
    factor: float = 2.0
    cap_s: float = 10.0
    jitter: float = 0.2
    healthy_after_s: float = 10.0


@dataclass(frozen=True)
class StuckLimits:
    """
    How long a worker may owe something while none of its counters moves.

    Args:
        start_s: From the fork, or the last counter that moved, until Ready; twice as long after each failure in
            a row, up to eight times, so that a slow machine gets there.
        answer_s: Once ready: for an unanswered ping.
        owed_s: Once ready: for an unanswered command, or work that it says it owes.
        phases: In place of `owed_s`, while it reports one of these phases.
        ping_s: How often it is asked.
    """

    start_s: float = 14.0
    answer_s: float = 9.0
    owed_s: float = 12.0
    phases: Mapping[str, float] = field(default_factory=dict)
    ping_s: float = 5.0


@dataclass(frozen=True)
class ResourceLimits:
    """
    The ceilings of one worker; None is whatever the supervisor has.

    Args:
        soft_memory_bytes: Above this the worker is reported, and stopped and started again once it owes no work.
        hard_memory_bytes: What it cannot pass: its own data, shared libraries and mapped files apart (RLIMIT_DATA).
        open_files: How many descriptors it may have (RLIMIT_NOFILE).
        nice: How far it stands back behind others, 0 to 19; added to what the supervisor has.
    """

    soft_memory_bytes: int | None = None
    hard_memory_bytes: int | None = None
    open_files: int | None = None
    nice: int = 0


@dataclass(frozen=True)
class WorkerSpec:
    """
    One worker.

    Args:
        name: Unique among the workers.
        main: Runs in the forked process; the worker ends when it returns.
        fingerprint: A worker whose fingerprint changed is restarted by `Supervisor.apply`.
        restart: Delays between restarts.
        limits: When it counts as stuck.
        resources: How much it may use up; part of what a change of `fingerprint` must stand for.
        stop_grace_s: Between the request to stop and SIGKILL.
        up: Whether it shall run; `Supervisor.set_up` changes it later.
        stop_rank: At shutdown lower ranks stop first and are waited for.
        wants_status: It gets every published status through `Runtime.on_status`.
    """

    name: str
    main: Callable[[Runtime], None]
    fingerprint: str = ""
    restart: RestartPolicy = RestartPolicy()
    limits: StuckLimits = StuckLimits()
    resources: ResourceLimits = ResourceLimits()
    stop_grace_s: float = 10.0
    up: bool = True
    stop_rank: int = 0
    wants_status: bool = False


@dataclass(frozen=True)
class LinkSpec:
    """
    One data link.

    Args:
        name: Unique among the links; both workers are attached under it.
        source: Name of a worker.
        target: Name of another worker.
    """

    name: str
    source: str
    target: str


def check_plan(workers: Sequence[WorkerSpec], links: Sequence[LinkSpec]) -> None:
    """
    Check that names are unique and links join two different known workers.

    Raises:
        InvalidPlan: They do not; the message names the first offender.
    """
    names: set[str] = set()
    for worker in workers:
        if worker.name in names:
            raise InvalidPlan(f'two workers are called "{worker.name}"; names must be unique')
        names.add(worker.name)
    link_names: set[str] = set()
    for link in links:
        if link.name in link_names:
            raise InvalidPlan(f'two links are called "{link.name}"; names must be unique')
        link_names.add(link.name)
        if link.source == link.target:
            raise InvalidPlan(f'link "{link.name}" joins "{link.source}" with itself; it needs two workers')
        for end in (link.source, link.target):
            if end not in names:
                raise InvalidPlan(f'link "{link.name}": no worker is called "{end}"; add it or remove the link')
