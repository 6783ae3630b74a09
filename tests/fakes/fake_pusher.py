"""A pusher driver whose every call waits until the test answers it."""

import queue
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from fustor_core.drivers import (
    Batch,
    Command,
    Heartbeat,
    PusherContext,
    PusherDriver,
    RefusedRow,
    Role,
    Session,
)
from fustor_core.errors import Unavailable

DEADLINE_S = 10.0
_OVER = Unavailable("the test is over")
_SESSION_CALLS = ("open_session", "resume_session", "close_session")


class FakePusherConfig(msgspec.Struct, frozen=True):
    pass


class Call:
    """One call of the driver, which goes on when it is answered."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self._answered = threading.Event()
        self._answer: Any = None

    def answer(self, answer: Any = None) -> None:
        """Let it return this; an exception is raised, a function called for it, in the thread of the call."""
        self._answer = answer
        self._answered.set()

    def wait(self) -> Any:
        self._answered.wait()
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer() if callable(self._answer) else self._answer


class FakePusher(PusherDriver):
    """
    Answers at once what has an entry in `always`; everything else waits for the test.

    `begun` names the calls in the order in which they began.
    """

    Config: ClassVar[type[FakePusherConfig]] = FakePusherConfig

    def __init__(self) -> None:
        super().__init__(FakePusherConfig(), PusherContext("p", "fs", "agent", Path("/nonexistent")))
        self.always: dict[str, Any] = {"heartbeat": Heartbeat(Role.LEADER), "close_session": None}
        self.begun: list[str] = []
        self._calls: defaultdict[str, queue.SimpleQueue[Call]] = defaultdict(queue.SimpleQueue)
        self._open: list[tuple[str, Call]] = []
        self._lock = threading.Lock()

    def expect(self, name: str) -> Call:
        """Wait for the next call of a method."""
        try:
            return self._calls[name].get(timeout=DEADLINE_S)
        except queue.Empty:
            raise AssertionError(f"{name} was not called; there were {self.begun[-20:]}") from None

    def has_begun(self, name: str) -> bool:
        """Tell whether a call of a method waits for its answer and was not expected yet."""
        return not self._calls[name].empty()

    def release(self) -> None:
        """Let whoever opens or closes sessions go on; other threads stay here, as if the process were gone."""
        with self._lock:
            self.always |= dict.fromkeys(_SESSION_CALLS, _OVER)
            for name, call in self._open:
                if name in _SESSION_CALLS:
                    call.answer(self.always[name])

    def release_all(self) -> None:
        """Let every thread go on, so that it can end; the worker itself is over."""
        with self._lock:
            self.always = dict.fromkeys(("push", "heartbeat", "poll_commands", "report_barrier"), _OVER) | self.always
            for _, call in self._open:
                call.answer(_OVER)

    def _call(self, name: str, *arguments: Any) -> Any:
        call = Call(*arguments)
        with self._lock:
            self.begun.append(name)
            if name in self.always:
                call.answer(self.always[name])
            else:
                self._open.append((name, call))
                self._calls[name].put(call)
        return call.wait()

    def open_session(self) -> Session:
        return self._call("open_session")

    def resume_session(self, session: Session) -> Session:
        return self._call("resume_session", session)

    def heartbeat(self, session: Session, *, can_realtime: bool) -> Heartbeat:
        return self._call("heartbeat", session, can_realtime)

    def close_session(self, session: Session) -> None:
        self._call("close_session", session)

    def push(self, session: Session, batch: Batch) -> Sequence[RefusedRow]:
        return self._call("push", session, batch) or ()

    def poll_commands(self, session: Session, *, wait_s: float) -> Sequence[Command]:
        return self._call("poll_commands", session) or ()

    def report_barrier(self, session: Session, token: str, *, error: str | None) -> None:
        self._call("report_barrier", session, token, error)

    def begin_audit(self, session: Session) -> None:
        self._call("begin_audit", session)

    def end_audit(self, session: Session, *, complete: bool) -> None:
        self._call("end_audit", session, complete)

    def get_sentinel_tasks(self, session: Session) -> Sequence[bytes]:
        return self._call("get_sentinel_tasks", session) or ()

    def test_connection(self) -> None:
        self._call("test_connection")

    def close(self) -> None:
        self.begun.append("close")
