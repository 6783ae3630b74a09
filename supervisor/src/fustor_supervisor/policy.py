"""
When to start a worker again and when it counts as stuck; pure.

A timer alone proves nothing: a worker is stuck only when it **owes** something (Ready,
the answer to a ping or command, or work that it says it owes) **and** none of its
progress counters has moved since.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from fustor_supervisor.specs import RestartPolicy, StuckLimits

_MAX_DOUBLINGS: Final = 3


@dataclass(frozen=True)
class Progress:
    """
    What is known about a living worker, in monotonic seconds.

    Args:
        ready: It has said Ready.
        moved_at: When it was forked, a counter moved, or time was lost, whichever came last.
        ping_owed_since: When the oldest unanswered ping was sent; None if all are answered.
        command_owed_since: When the oldest unanswered command was sent; None if all are answered.
        work_owed_since: Since when it says that it owes work; None if it owes none.
        phase: What it says that it is doing.
        patience_s: For how long it says that its work may rightly not move.
    """

    ready: bool
    moved_at: float
    ping_owed_since: float | None = None
    command_owed_since: float | None = None
    work_owed_since: float | None = None
    phase: str = ""
    patience_s: float = 0.0


@dataclass(frozen=True, order=True)
class Verdict:
    """
    When a worker will count as stuck unless it moves or pays.

    Args:
        at: When, in monotonic seconds.
        reason: Why, for people.
    """

    at: float
    reason: str


def count_failures(failures: int, ready_s: float | None, policy: RestartPolicy) -> int:
    """
    Count a death.

    Args:
        failures: Deaths in a row before this one.
        ready_s: How long the worker was ready; None if it never was.
        policy: Says how long is healthy.

    Returns:
        Deaths in a row, this one included; 1 or more.
    """
    if ready_s is not None and ready_s >= policy.healthy_after_s:
        return 1
    return failures + 1


def next_delay(failures: int, policy: RestartPolicy, rand: Callable[[], float]) -> float:
    """
    Compute how long to wait before the next start.

    Args:
        failures: Deaths in a row, 1 or more.
        policy: The delays.
        rand: Returns 0.0 ≤ x < 1.0.

    Returns:
        Seconds, never above `cap_s * (1 + jitter)`.
    """
    # 64 doublings pass any cap; without the bound the power overflows after 1,000 deaths
    delay = policy.first_s if failures <= 1 else policy.base_s * policy.factor ** min(failures - 2, 64)
    return min(policy.cap_s, delay) * (1 + policy.jitter * (2 * rand() - 1))


def is_stuck(progress: Progress, now: float, limits: StuckLimits) -> bool:
    """Tell whether a worker owes something and has not moved for longer than the limit."""
    return describe_stuck(progress, now, limits) is not None


def describe_stuck(progress: Progress, now: float, limits: StuckLimits) -> str | None:
    """
    Say why a worker is stuck.

    Returns:
        A reason for people; None while it is not stuck.
    """
    verdict = judge(progress, limits)
    return verdict.reason if verdict is not None and verdict.at <= now else None


def judge(progress: Progress, limits: StuckLimits) -> Verdict | None:
    """Return when and why a worker will count as stuck if nothing changes; None if it owes nothing."""
    if not progress.ready:
        reason = f"not ready, and no progress, for {limits.start_s:g} s after the start"
        return Verdict(progress.moved_at + limits.start_s, reason)
    owed_s = limits.phases.get(progress.phase, limits.owed_s)
    work_s = max(owed_s, progress.patience_s)
    where = f" in {progress.phase}" if progress.phase else ""
    debts = (
        ("a ping is unanswered", progress.ping_owed_since, limits.answer_s),
        (f"a command is unanswered{where}", progress.command_owed_since, owed_s),
        (f"it owes work{where}", progress.work_owed_since, work_s),
    )
    verdicts = [
        Verdict(max(since, progress.moved_at) + limit_s, f"{what}, and no progress, for {limit_s:g} s")
        for what, since, limit_s in debts
        if since is not None
    ]
    return min(verdicts, default=None)


def give_time(limits: StuckLimits, failures: int) -> StuckLimits:
    """Return the limits for a worker that failed so often in a row: more time to start."""
    return replace(limits, start_s=limits.start_s * 2 ** min(failures, _MAX_DOUBLINGS))
