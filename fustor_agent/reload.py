"""The outcome of a reload, which the agent writes and `fustor-agent reload` reads."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from fustor_agent.statusmodel import SETTLED, WorkerInfo
from fustor_core.program.atomic import write_atomically
from fustor_core.program.exitcodes import ExitCode

_STEP_S = 0.05


class Change(msgspec.Struct, frozen=True):
    """
    What a reload does to one worker.

    Args:
        action: `start`, `stop` or `restart`.
        worker: Its name.
        generation: Which process it had before; 0 for none.
    """

    action: str
    worker: str
    generation: int = 0

    def __str__(self) -> str:
        return f"{self.action} {self.worker}"


class ReloadOutcome(msgspec.Struct, frozen=True):
    """
    How one reload ended.

    Args:
        id: Grows with every reload of an agent.
        ok: False when everything stayed as it was.
        differences: One line for each thing in which the configuration differs from the last.
        changes: What follows for the workers; under way when this is written.
        problems: One line for each thing that is wrong.
        code: What the command that asked exits with.
    """

    id: int
    ok: bool
    differences: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    problems: tuple[str, ...] = ()
    code: int = ExitCode.DONE

    @property
    def lines(self) -> tuple[str, ...]:
        """What it says, one line for each thing."""
        if self.ok and not self.differences:
            return ("nothing changes",)
        return (*self.differences, *map(str, self.changes), *self.problems)


def describe_result(change: Change, workers: Sequence[WorkerInfo]) -> str | None:
    """
    Say what has become of a change.

    Args:
        change: As in the outcome.
        workers: As published since.

    Returns:
        One line; None while it is under way.
    """
    worker = next((one for one in workers if one.name == change.worker), None)
    if worker is None:
        return f"{change.worker} is gone" if change.action == "stop" else None
    if worker.state == "stopped":
        return f"{change.worker} is stopped"  # as somebody wanted before
    if change.action == "stop" or worker.generation <= change.generation or worker.state not in SETTLED:
        return None
    if worker.state == "running":
        return f"{change.worker} is running, pid {worker.pid}"
    return f"{change.worker} is in {worker.state}: {worker.last_error or 'no reason was given'}"


def write_outcome(path: Path, outcome: ReloadOutcome) -> None:
    """
    Write `state/reload.json`.

    Raises:
        OSError: It cannot be written; the old one may be gone.
    """
    data = msgspec.json.encode(outcome) + b"\n"
    try:
        write_atomically(path, data)
    except OSError:
        # On a full disk the old outcome gives its place to the new one.
        path.unlink(missing_ok=True)
        write_atomically(path, data)


def read_outcome(path: Path) -> ReloadOutcome | None:
    """Read `state/reload.json`; None when there is none, or it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ReloadOutcome)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def await_outcome(
    path: Path, *, after: ReloadOutcome | None, is_over: Callable[[float], bool], timeout_s: float
) -> ReloadOutcome | None:
    """
    Wait for an outcome newer than one that was read before.

    Args:
        path: `state/reload.json`.
        after: What was read before the reload was asked for.
        is_over: Waits that many seconds, and tells whether the agent has ended.
        timeout_s: How long to wait at most.

    Returns:
        The outcome; None when the agent ended or did not answer in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        outcome = read_outcome(path)
        if outcome is not None and (after is None or outcome.id != after.id):
            return outcome
        if is_over(_STEP_S) or time.monotonic() > deadline:
            return None
