"""
One child process, as its supervisor sees it: fork, control link, signals, reaping.

What dies with whom:

- The child's death shows on its **pidfd**. Neither a sentinel pipe nor end-of-file on the
  control link would do: a grandchild may hold them open for ever.
- The supervisor's death shows on the **lifeline**, a pipe whose writing end only the
  supervisor holds. The child asks the kernel (O_ASYNC, F_SETSIG) to send SIGKILL to its
  whole process group when that end closes; this needs no running Python, so it also ends
  a child that is stuck, and its grandchildren. The parent-death signal and end-of-file on
  the control link are the second and third net.
- When a child dies, what is left of its process group is killed before the child is
  reaped: until then its number cannot belong to anyone else.
"""

import contextlib
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import multiprocess
from multiprocess import popen_fork

from fustor_supervisor.channel import FrameDecoder, make_link
from fustor_supervisor.child import Inheritance, run_child
from fustor_supervisor.errors import ForkRefused, QueueFull
from fustor_supervisor.messages import MAX_CONTROL_FRAME_BYTES, ToWorkerMessage, encode_framed
from fustor_supervisor.output import ErrorOutput
from fustor_supervisor.specs import WorkerSpec

MAX_QUEUED_FRAMES: Final = 256
_READ_BYTES: Final = 64 * 1024
_ALL_SIGNALS: Final = signal.valid_signals()  # once: each asking makes dozens of enum members
_READS_PER_TURN: Final = 16  # one talkative worker must not starve the others


@dataclass(frozen=True)
class Exit:
    """
    How a process ended.

    Args:
        code: Its exit code; None if a signal ended it, or if nobody knows.
        signal: The name of the signal that ended it.
    """

    code: int | None
    signal: str | None = None


class ForkedProcess:
    """
    One child; owns its descriptors here and closes them in `reap`.

    Args:
        spec: What it runs.
        generation: Written into everything it sends.
        close_foreign: Called in the child: closes what belongs to the supervisor and to siblings.

    Attributes:
        output: What it writes to standard error.

    Raises:
        OSError: No process, memory or descriptors are left; nothing remains of the attempt.
        ForkRefused: Another thread runs; forking could copy a lock that it holds.
    """

    def __init__(self, spec: WorkerSpec, generation: int, close_foreign: Callable[[], None]) -> None:
        if threading.active_count() > 1:
            names = ", ".join(thread.name for thread in threading.enumerate())
            raise ForkRefused(f"threads run in the process that forks ({names}); start them in workers only")
        self.generation = generation
        self.has_link = True
        self._decoder = FrameDecoder(MAX_CONTROL_FRAME_BYTES)
        self._queue: deque[tuple[memoryview, socket.socket | None]] = deque()
        with contextlib.ExitStack() as undo:
            # Held until the fork is done, so that a pidfd is sure to be had for the child.
            reserve = undo.enter_context(open(os.devnull, "rb"))
            self._control, theirs = make_link()
            undo.callback(theirs.close)
            undo_ours = undo.enter_context(contextlib.ExitStack())
            undo_ours.callback(self._control.close)
            self._control.setblocking(False)
            lifeline, self._lifeline = os.pipe()
            undo.callback(os.close, lifeline)
            undo_ours.callback(os.close, self._lifeline)
            reader, error_output = os.pipe()
            undo.callback(os.close, error_output)
            self.output = ErrorOutput(reader)
            undo_ours.callback(self.output.close)
            os.set_blocking(reader, False)

            def close_in_child() -> None:
                self.close_descriptors()
                reserve.close()
                close_foreign()

            inheritance = Inheritance(
                name=spec.name,
                generation=generation,
                main=spec.main,
                control=theirs,
                lifeline=lifeline,
                error_output=error_output,
                supervisor_pid=os.getpid(),
                resources=spec.resources,
                stop_grace_s=spec.stop_grace_s,
                close_foreign=close_in_child,
            )
            self._pidfd = -1
            self._process = _fork(inheritance)
            self.pid: int = self._process.pid
            reserve.close()
            self._pidfd = os.pidfd_open(self.pid)
            undo_ours.pop_all()

    # -- descriptors ----------------------------------------------------------------------

    @property
    def control(self) -> socket.socket:
        """The supervisor's end of the control link."""
        return self._control

    @property
    def pidfd(self) -> int:
        """Readable once the process is dead."""
        return self._pidfd

    def list_descriptors(self) -> set[int]:
        """Return all that the supervisor holds open for this child."""
        return {self._control.fileno(), self.output.fileno(), self._lifeline, self._pidfd}

    def close_descriptors(self) -> None:
        """Close all that the supervisor holds for this child; closing the lifeline would kill it."""
        self._control.close()
        self.output.close()
        self._drop_queue()
        for descriptor in (self._lifeline, self._pidfd):
            if descriptor >= 0:
                os.close(descriptor)
        self._lifeline = self._pidfd = -1

    # -- control link ---------------------------------------------------------------------

    @property
    def has_queued(self) -> bool:
        """Whether messages wait for the worker to read."""
        return bool(self._queue)

    def send(self, message: ToWorkerMessage, descriptor: socket.socket | None = None) -> None:
        """
        Queue a message and send what the link takes now.

        Args:
            message: What to send.
            descriptor: Handed over with it, and closed here in any case.

        Raises:
            QueueFull: The worker has not read its link for long; the message is dropped.
        """
        if not self.has_link or len(self._queue) >= MAX_QUEUED_FRAMES:
            if descriptor is not None:
                descriptor.close()
            if self.has_link:
                raise QueueFull(f"{MAX_QUEUED_FRAMES} messages wait; the worker does not read its control link")
            return
        self._queue.append((memoryview(encode_framed(message)), descriptor))
        self.flush()

    def flush(self) -> None:
        """Send as much of the queue as the link takes now."""
        while self._queue:
            data, descriptor = self._queue[0]
            try:
                sent = _send_some(self._control, data, descriptor)
            except BlockingIOError:
                return
            except OSError:  # the worker is gone; its death arrives by pidfd
                self._drop_queue()
                return
            if descriptor is not None:
                descriptor.close()
            if sent < len(data):
                self._queue[0] = (data[sent:], None)  # the descriptor went with the first byte
            else:
                self._queue.popleft()

    def receive(self) -> list[bytes]:
        """
        Read what has arrived, bounded; `has_link` is False once nothing more can come.

        Raises:
            FrameTooLong: The worker sends rubbish.
        """
        payloads: list[bytes] = []
        for _ in range(_READS_PER_TURN):
            try:
                data = self._control.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.has_link = False
                break
            payloads += self._decoder.feed(data)
        return payloads

    # -- life and death -------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """Send SIGKILL to the whole process group."""
        with contextlib.suppress(ProcessLookupError):  # it has not made its group yet
            os.killpg(self.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)

    def reap(self) -> Exit:
        """Collect the exit code of the dead process, end its group, and close everything."""
        self.kill()
        code = self._process.reap()
        self.close_descriptors()
        if code is None or code >= 0:
            return Exit(code)
        return Exit(None, _name_signal(-code))

    def _drop_queue(self) -> None:
        for _, descriptor in self._queue:
            if descriptor is not None:
                descriptor.close()
        self._queue.clear()


class _Popen(popen_fork.Popen):  # type: ignore[misc]  # multiprocess has no types
    """
    Forks as multiprocess does, with two differences.

    It makes no sentinel pipes: each child would inherit those of all its elder siblings,
    and a failed fork leaks them. It reaps only in `reap`: multiprocess polls every child
    whenever another starts, after which a number may belong to a stranger.
    """

    def _launch(self, process_obj: Any) -> None:
        self.finalizer = None
        self.sentinel = -1
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                code = process_obj._bootstrap(parent_sentinel=None)
            finally:
                os._exit(code)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        code: int | None = self.returncode
        return code

    def reap(self) -> int | None:
        code: int | None = super().poll(os.WNOHANG)
        return code


class _Process(multiprocess.get_context("fork").Process):  # type: ignore[misc]  # multiprocess has no types
    """A multiprocess process that is forked by `_Popen`."""

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:
        return _Popen(process_obj)

    def reap(self) -> int | None:
        self._popen.reap()
        code: int | None = self.exitcode
        if code is not None:
            self.close()
        return code


def _fork(inheritance: Inheritance) -> _Process:
    """Fork with all signals blocked, so that none reaches the child while it has our handlers."""
    process = _Process(target=run_child, args=(inheritance,), name=inheritance.name)
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
    return process


def _send_some(sock: socket.socket, data: memoryview, descriptor: socket.socket | None) -> int:
    if descriptor is None:
        return sock.send(data)
    return socket.send_fds(sock, [data], [descriptor.fileno()])


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time signals between SIGRTMIN and SIGRTMAX have no names
        return f"signal {number}"
