"""A worker's runtime that only notes what it is told."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from fustor_agent.reports import WorkerReport
from fustor_supervisor.channel import Channel, make_link
from fustor_supervisor.messages import Command

_reports = msgspec.msgpack.Decoder(WorkerReport)


class Reported(NamedTuple):
    counters: dict[str, int]
    phase: str
    report: Any
    owed: bool
    patience_s: float


class FakeRuntime:
    """What a worker's main is given, without a supervisor."""

    def __init__(self, *, grace_s: float = 10.0) -> None:
        self.stop_requested = threading.Event()
        self.grace_s = grace_s
        self.name = "p.worker"
        self.replies: list[tuple[int, str, bool]] = []
        self.reports: list[Reported] = []
        self.failures: list[tuple[str, bool]] = []
        self.is_ready = False
        self.on_attach: Callable[[str, int, Channel], None] | None = None
        self.on_command: Callable[[Command], None] | None = None
        self.on_ping: Callable[[], None] | None = None
        self.signs_of_life = 0
        self._over = threading.Event()
        self._stop_callbacks: list[Callable[[], None]] = []

    def ready(self) -> None:
        self.is_ready = True

    def report(
        self,
        counters: Mapping[str, int],
        *,
        phase: str = "",
        detail: bytes = b"",
        owed: bool = False,
        patience_s: float = 0.0,
    ) -> None:
        report = _reports.decode(detail) if detail else None
        self.reports.append(Reported(dict(counters), phase, report, owed, patience_s))

    def alive(self) -> None:
        self.signs_of_life += 1

    def reply(self, command_id: int, result: str, *, ok: bool = True) -> None:
        self.replies.append((command_id, result, ok))

    def fail(self, error: str, *, permanent: bool) -> None:
        """Note the failure; the process would be gone, so a thread stays here until the test is over."""
        self.failures.append((error, permanent))
        if not threading.current_thread().daemon:
            raise SystemExit(1)
        self._over.wait()

    def release(self) -> None:
        """Let the threads that failed end."""
        self._over.set()

    def on_stop(self, callback: Callable[[], None]) -> None:
        self._stop_callbacks.append(callback)

    def stop(self) -> None:
        self.stop_requested.set()
        for callback in self._stop_callbacks:
            callback()


def make_channels() -> tuple[Channel, Channel]:
    """Make the two blocking ends of a link."""
    first, second = make_link()
    return Channel(first), Channel(second)
