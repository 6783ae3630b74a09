"""
What a worker's main is given: its side of the control link.

A control thread reads the link and calls back; everything a main says goes out through
here. The callbacks run in the control thread and must return soon: while one runs, no
ping is answered.
"""

import faulthandler
import itertools
import logging
import mmap
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from fustor_supervisor.channel import Channel
from fustor_supervisor.control import ControlThread
from fustor_supervisor.errors import FrameTooLong, LinkClosed, RequestTimedOut, WrongThread
from fustor_supervisor.exitcodes import ExitCode, leave
from fustor_supervisor.messages import (
    Answer,
    Attach,
    Command,
    DumpStacks,
    Failed,
    FromWorkerMessage,
    Ping,
    Pong,
    Progress,
    Ready,
    Reply,
    Request,
    Status,
    Stop,
    ToWorkerMessage,
    encode,
)
from fustor_supervisor.wakeup import Wakeup

PROGRESS_EVERY_S: Final = 0.25
MAX_DETAIL_BYTES: Final = 1024 * 1024
STARVED_BYTES: Final = 8 * 1024 * 1024  # a thread's stack: a worker that cannot start one does nothing right any more
_STDERR: Final = 2
_log = logging.getLogger(__name__)


class Runtime:
    """
    A worker's side of the control link.

    Set `on_attach`, `on_command` and `on_status` before `ready()`; what arrives earlier
    is kept until they are set.

    Attributes:
        name: The worker's name.
        generation: 1 for the first process under this name, then 2, 3 …
        stop_requested: Set when the worker shall end.
        grace_s: How long it may take to end; SIGKILL follows. Meaningful once stop is requested.
        on_reopen_logs: Called on SIGUSR1; None does nothing.
        on_ping: Called with a ping while nothing is owed. It wakes main, which owes `alive` then: so a main that
            hangs while it has nothing to do is noticed too. None lets the control thread answer for main.
    """

    def __init__(
        self, name: str, generation: int, control: socket.socket, wakeup: Wakeup, *, stop_grace_s: float
    ) -> None:
        self.name = name
        self.generation = generation
        self.grace_s = stop_grace_s
        self.stop_requested = threading.Event()
        self.on_reopen_logs: Callable[[], None] | None = None
        self.on_ping: Callable[[], object] | None = None
        self._on_attach: Callable[[str, int, Channel], None] | None = None
        self._on_command: Callable[[Command], None] | None = None
        self._on_status: Callable[[bytes], None] | None = None
        self._wakeup = wakeup
        self._control = ControlThread(control, wakeup, self)
        self._lock = threading.Lock()
        self._early: list[tuple[ToWorkerMessage, socket.socket | None]] = []
        self._stop_callbacks: list[Callable[[], None]] = []
        self._progress = Progress(generation=generation, counters={})
        self._is_progress_unsent = False
        self._progress_sent_at = float("-inf")
        self._ping: int | None = None
        """One that main has not answered yet."""
        self._request_ids = itertools.count(1)
        self._waiting: dict[int, _Waiter] = {}

    def start(self) -> None:
        """Start the control thread; called before main, not by it."""
        self._control.start()

    # -- what main says -------------------------------------------------------------------

    def ready(self) -> None:
        """Say that the worker does its work now."""
        self._send(Ready(generation=self.generation))

    def report(
        self,
        counters: Mapping[str, int],
        *,
        phase: str = "",
        detail: bytes = b"",
        owed: bool = False,
        patience_s: float = 0.0,
    ) -> None:
        """
        Say how far the worker is; cheap, may be called often and from any thread.

        Args:
            counters: Totals of this generation. The worker moves as long as one of them changes.
            phase: What it is doing, for people.
            detail: Opaque to the supervisor; stands in the status.
            owed: It has work that it should be doing. Owed and not moving is stuck.
            patience_s: For how long that may rightly not move now, as in a call with a time limit of its own;
                counts where it is longer than the limit of the worker's spec.

        Raises:
            FrameTooLong: `detail` is longer than MAX_DETAIL_BYTES; nothing is reported.
        """
        if len(detail) > MAX_DETAIL_BYTES:
            raise FrameTooLong(f"a detail of {len(detail)} bytes is longer than {MAX_DETAIL_BYTES}; shorten it")
        progress = Progress(
            generation=self.generation,
            counters=dict(counters),
            phase=phase,
            detail=detail,
            owed=owed,
            patience_s=patience_s,
        )
        with self._lock:
            if progress == self._progress:
                return
            self._progress = progress
            must_wake = not self._is_progress_unsent
            self._is_progress_unsent = True
        if must_wake:
            self._wakeup.wake()

    def alive(self) -> None:
        """Answer the ping of which `on_ping` told, if there is one; cheap, for each turn of main's loop."""
        if self._ping is None:
            return
        number, self._ping = self._ping, None
        self._pong(number)

    def reply(self, id: int, result: str, ok: bool = True) -> None:
        """Answer a command; `ok` is False if it could not be done and `result` says why."""
        self._send(Reply(generation=self.generation, id=id, result=result, ok=ok))

    def request(self, action: str, target: str = "", *, timeout_s: float = 10.0) -> Reply:
        """
        Ask the supervisor's program to do something and wait for the answer.

        Raises:
            RequestTimedOut: No answer in time; it may still be done.
            WrongThread: Called from a callback of this object, through whose thread the answer comes.
        """
        if self._control.is_current():
            raise WrongThread("a callback must not wait for an answer; ask from a thread of your own")
        waiter = _Waiter()
        request_id = next(self._request_ids)
        self._waiting[request_id] = waiter
        try:
            self._send(Request(generation=self.generation, id=request_id, action=action, target=target))
            if not waiter.answered.wait(timeout_s) or waiter.answer is None:
                raise RequestTimedOut(f'no answer to "{action} {target}" within {timeout_s:g} s; it may still be done')
        finally:
            del self._waiting[request_id]
        answer = waiter.answer
        return Reply(generation=self.generation, id=answer.id, result=answer.result, ok=answer.ok)

    def fail(self, error: str, *, permanent: bool) -> NoReturn:
        """
        Say why the worker cannot go on, and end the process at once.

        Args:
            error: For people: names the thing, the value and the remedy.
            permanent: Starting again is useless until the configuration changes.
        """
        self.send_failed(error, permanent=permanent)
        leave(ExitCode.PERMANENT if permanent else ExitCode.CRASHED)

    def send_failed(self, error: str, *, permanent: bool) -> None:
        """Say why the worker is about to exit, without exiting."""
        self._send(Failed(generation=self.generation, error=error[:4000], permanent=permanent))

    # -- what main wants to hear ----------------------------------------------------------

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the worker shall end; at once if that was asked already."""
        with self._lock:
            is_late = self.stop_requested.is_set()
            if not is_late:
                self._stop_callbacks.append(callback)
        if is_late:
            callback()

    @property
    def on_attach(self) -> Callable[[str, int, Channel], None] | None:
        """Called with link name, epoch and channel when a data link is made; owns the channel then."""
        return self._on_attach

    @on_attach.setter
    def on_attach(self, callback: Callable[[str, int, Channel], None]) -> None:
        self._on_attach = callback
        self._wakeup.wake()

    @property
    def on_command(self) -> Callable[[Command], None] | None:
        """Called with each command; it owes a `reply`."""
        return self._on_command

    @on_command.setter
    def on_command(self, callback: Callable[[Command], None]) -> None:
        self._on_command = callback
        self._wakeup.wake()

    @property
    def on_status(self) -> Callable[[bytes], None] | None:
        """Called with each published status, if the worker's spec wants it."""
        return self._on_status

    @on_status.setter
    def on_status(self, callback: Callable[[bytes], None]) -> None:
        self._on_status = callback
        self._wakeup.wake()

    # -- called by the control thread -----------------------------------------------------

    def handle(self, message: ToWorkerMessage, descriptor: socket.socket | None) -> None:
        """Act on one message of the supervisor."""
        match message:
            case Ping(n=n):
                self._end_if_starved()
                on_ping = self.on_ping
                if on_ping is None or self._progress.owed:
                    self._pong(n)
                else:
                    self._ping = n
                    on_ping()
            case Stop(grace_s=grace_s):
                self.request_stop(grace_s)
            case DumpStacks():
                faulthandler.dump_traceback(_STDERR, all_threads=True)
            case Answer():
                waiter = self._waiting.get(message.id)
                if waiter is not None:
                    waiter.answer = message
                    waiter.answered.set()
            case Attach() | Command() | Status():
                if isinstance(message, Status):  # only the latest is of use
                    self._early = [entry for entry in self._early if not isinstance(entry[0], Status)]
                self._early.append((message, descriptor))

    def deliver(self) -> None:
        """Hand kept messages to the callbacks that are set by now."""
        kept = []
        for message, descriptor in self._early:
            if not self._call_back(message, descriptor):
                kept.append((message, descriptor))
        self._early = kept

    def send_progress(self, now: float) -> float | None:
        """Send the progress if it changed and is due; return in how many seconds it will be due."""
        with self._lock:
            if not self._is_progress_unsent:
                return None
            wait_s = self._progress_sent_at + PROGRESS_EVERY_S - now
            if wait_s > 0:
                return wait_s
            self._is_progress_unsent = False
            self._progress_sent_at = now
            progress = self._progress
        self._send(progress)
        return None

    def request_stop(self, grace_s: float | None = None) -> None:
        """Note that the worker shall end and call what `on_stop` was given."""
        with self._lock:
            if self.stop_requested.is_set():
                return
            if grace_s is not None:
                self.grace_s = grace_s
            self.stop_requested.set()
            callbacks = list(self._stop_callbacks)
        for callback in callbacks:
            try:
                callback()
            except Exception:  # the edge of the control thread: the others must hear of the stop too
                _log.exception("stop callback failed name=%s", self.name)

    def _pong(self, number: int) -> None:
        with self._lock:
            self._is_progress_unsent = False
            pong = Pong(generation=self.generation, n=number, progress=self._progress)
        self._send(pong)

    def _end_if_starved(self) -> None:
        """
        End the process if it is out of memory: libraries catch MemoryError, and go on without doing their work.

        What is asked for is never touched, so it costs nothing but address space (man 2 mmap).
        """
        try:
            mmap.mmap(-1, STARVED_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
        except OSError as err:
            self.fail(f"out of memory: not even {STARVED_BYTES} bytes are to be had ({err.strerror})", permanent=False)

    def _call_back(self, message: ToWorkerMessage, descriptor: socket.socket | None) -> bool:
        """Call the callback for a message; False if it is not set yet."""
        match message:
            case Attach(link=link, epoch=epoch) if self._on_attach and descriptor:
                self._on_attach(link, epoch, Channel(descriptor))
            case Command() if self._on_command:
                self._on_command(message)
            case Status(snapshot=snapshot) if self._on_status:
                self._on_status(snapshot)
            case _:
                return False
        return True

    def _send(self, message: FromWorkerMessage) -> None:
        try:
            self._control.channel.send(encode(message))
        except LinkClosed:
            # The supervisor is gone; the control thread sees it too and ends the process.
            _log.debug("control link closed name=%s", self.name)


class _Waiter:
    """Where `request` waits for its answer."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.answer: Answer | None = None

