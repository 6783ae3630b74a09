"""What the supervisor says about itself and its workers, and how that is published."""

import contextlib
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

CHANGED_EVERY_S: Final = 0.5
UNCHANGED_EVERY_S: Final = 5.0
_log = logging.getLogger(__name__)


class Death(msgspec.Struct, frozen=True):
    """
    How one process of a worker ended.

    Args:
        at: When, UTC, ISO 8601.
        code: Exit code; None if a signal ended it or it could not be forked.
        signal: Name of the signal that ended it.
        reason: For people.
        uptime_s: How long it lived.
        generation: Which process it was, of that run of the supervisor.
        asked: It was stopped on purpose.
        output: The last lines that it wrote to standard error, stacks too; empty if it was asked to stop.
    """

    at: str
    code: int | None
    signal: str | None
    reason: str
    uptime_s: float
    generation: int
    asked: bool = False
    output: str = ""


class WorkerStatus(msgspec.Struct, frozen=True):
    """
    One worker.

    Args:
        name: Its name.
        state: A value of `WorkerState`.
        up: What the operator wants.
        pid: None while there is no process.
        generation: How many processes it has had; 0 before the first.
        restarts: How many of them came after the first.
        uptime_s: Of the present process; 0 without.
        retry_in_s: When it is in backoff, until the next start.
        last_exit: The last of `deaths`.
        deaths: The last ten ends of a process, oldest first, asked for or not, also in earlier runs.
        last_error: What the last failing process said, or how it ended.
        failures: How often in a row it failed without having been healthy in between; it may be healthy by now.
        fault: Why the supervisor ends the present process: it is stuck, or too large; None if it does not.
        memory_bytes: How much it uses; None unless it has a soft ceiling.
        concern: What a person should know of a worker that runs; None if all is well.
        phase: As the worker reports it.
        counters: As the worker reports them, this generation.
        totals: The same, summed over all generations.
        owed: The worker says that it owes work.
        detail: As the worker reports it; opaque.
    """

    name: str
    state: str
    up: bool
    pid: int | None = None
    generation: int = 0
    restarts: int = 0
    uptime_s: float = 0.0
    retry_in_s: float | None = None
    last_exit: Death | None = None
    deaths: list[Death] = []
    last_error: str | None = None
    failures: int = 0
    fault: str | None = None
    memory_bytes: int | None = None
    concern: str | None = None
    phase: str = ""
    counters: dict[str, int] = {}
    totals: dict[str, int] = {}
    owed: bool = False
    detail: bytes = b""


class SupervisorStatus(msgspec.Struct, frozen=True):
    """
    The supervisor and all its workers.

    Args:
        pid: The supervisor's.
        state: `running`, `stopping` or `stopped`.
        started_at: UTC, ISO 8601.
        uptime_s: Since then.
        workers: In the order of the plan.
        made_s: When this was said, in seconds of the supervisor's clock.
        problems: What the supervisor itself cannot do, one line each.
    """

    pid: int
    state: str
    started_at: str
    uptime_s: float
    workers: list[WorkerStatus]
    made_s: float = 0.0
    problems: list[str] = []


class StateFile:
    """
    A file that is replaced as a whole; what fails is logged once, until it works again.

    Args:
        path: The file.

    Attributes:
        problem: Why it could not be written the last time, for people; None if it could.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem: str | None = None

    def write(self, data: bytes) -> bool:
        """Replace the content; tells whether that could be done."""
        try:
            _replace_file(self._path, data)
        except OSError as err:
            if self.problem is None:
                _log.error("state not written path=%s error=%s", self._path, err)
            self.problem = f'"{self._path}" cannot be written: {err.strerror or err}'
        else:
            self.problem = None
        return self.problem is None


class Publisher:
    """
    Renders the status and writes it to its file.

    Args:
        render: Turns a status into bytes.
        path: Where to write them; None writes nothing.

    Attributes:
        file: What is written, or None.
    """

    def __init__(self, render: Callable[[SupervisorStatus], bytes], path: Path | None) -> None:
        self._render = render
        self.file = StateFile(path) if path is not None else None
        self._is_failing = False

    def publish(self, status: SupervisorStatus) -> bytes | None:
        """Render and write; None if it cannot be rendered, which is logged once, until it works again."""
        try:
            snapshot = self._render(status)
        except Exception as err:  # a callback's edge: its fault may not end the supervisor
            if not self._is_failing:
                _log.exception("status not rendered error=%s", err)
            self._is_failing = True
            return None
        self._is_failing = False
        if self.file is not None:
            self.file.write(snapshot)
        return snapshot


def _replace_file(path: Path, data: bytes) -> None:
    """
    Write a file beside its target and rename it.

    Not fsynced: after a power loss nobody needs the status of an agent that is not
    running, and a slow disk would hold up the loop every time.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def format_utc(seconds: float) -> str:
    """Format wall time as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
