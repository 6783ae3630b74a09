"""The thread of a worker that reads the control link."""

from __future__ import annotations

import array
import logging
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from fustor_supervisor.channel import Channel, FrameDecoder
from fustor_supervisor.exitcodes import ExitCode
from fustor_supervisor.messages import Attach, decode_to_worker

if TYPE_CHECKING:
    from fustor_supervisor.runtime import Runtime
    from fustor_supervisor.wakeup import Wakeup

_READ_BYTES: Final = 64 * 1024
_MAX_DESCRIPTORS: Final = 16
_log = logging.getLogger(__name__)


class ControlThread:
    """
    Reads messages, watches for signals, sends progress; owns the worker's end of the link.

    Args:
        sock: The worker's end of the control link.
        wakeup: Wakes the thread.
        runtime: Gets the messages.
    """

    def __init__(self, sock: socket.socket, wakeup: Wakeup, runtime: Runtime) -> None:
        self.channel = Channel(sock)
        self._sock = sock
        self._wakeup = wakeup
        self._runtime = runtime
        self._decoder = FrameDecoder()
        self._descriptors: deque[socket.socket] = deque()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Start the thread; it ends with the process."""
        self._thread.start()

    def is_current(self) -> bool:
        """Tell whether the caller runs in this thread."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as err:  # the edge of the thread: a worker without it is deaf and must go
            _log.exception("control thread failed name=%s", self._runtime.name)
            self._runtime.send_failed(f"control thread: {type(err).__name__}: {err}", permanent=False)
            os._exit(ExitCode.CRASHED)
        # End of file: the supervisor is gone. Whatever this worker has forked goes with it.
        os.killpg(0, signal.SIGKILL)

    def _turn(self) -> bool:
        """Wait once and do what came; False at the end of the link."""
        wait_s = self._runtime.send_progress(time.monotonic())
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        poller.register(self._wakeup, select.POLLIN)
        # rounded up: a turn that comes too early would find nothing due and turn again
        ready = dict(poller.poll(None if wait_s is None else int(wait_s * 1000) + 1))
        if self._wakeup.fileno() in ready:
            self._take_signals()
        if self._sock.fileno() in ready and not self._receive():
            return False
        self._runtime.deliver()
        return True

    def _take_signals(self) -> None:
        for number in self._wakeup.drain():
            if number == signal.SIGTERM:
                self._runtime.request_stop()
            elif number == signal.SIGUSR1 and self._runtime.on_reopen_logs is not None:
                self._runtime.on_reopen_logs()

    def _receive(self) -> bool:
        """Read once and handle every complete message; False at end of file."""
        room = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(_READ_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return False
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._keep_descriptors(content)
        if flags & socket.MSG_CTRUNC:
            # One descriptor less would give each later Attach the wrong one.
            raise OSError("a descriptor was lost on its way; raise the limit of open files")
        if not data:
            return False
        for payload in self._decoder.feed(data):
            message = decode_to_worker(payload)
            descriptor = self._descriptors.popleft() if isinstance(message, Attach) else None
            self._runtime.handle(message, descriptor)
        return True

    def _keep_descriptors(self, content: bytes) -> None:
        numbers = array.array("i")
        numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
        self._descriptors.extend(socket.socket(fileno=number) for number in numbers)
