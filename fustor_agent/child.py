"""A forked process that finds something out where it can do no harm, and writes it into a pipe."""

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable
from typing import NoReturn

_READ_BYTES = 65536
_PR_SET_PDEATHSIG = 1  # man 2 prctl


class Child:
    """
    One such process; whoever made it ends it. Make it while no thread runs.

    Args:
        work: Runs in the child; what it returns is written. Whatever it raises ends the child without a word.
        limit_s: After this time SIGALRM ends the child; None lets it take as long as it likes.

    Attributes:
        reading: Readable when there is something to take.

    Raises:
        OSError: No process, memory or descriptors are left.
    """

    def __init__(self, work: Callable[[], bytes], *, limit_s: float | None = None) -> None:
        self.reading, writing = os.pipe()
        # Blocked: until its handlers are reset, the child would pass a signal on to the parent.
        parent = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._pid = os.fork()
            if self._pid == 0:
                _be_child(work, writing, parent, limit_s)
        except OSError:
            os.close(self.reading)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(writing)

    def take(self) -> bytes:
        """Take what is there; nothing at the end. Blocks unless `reading` is readable."""
        return os.read(self.reading, _READ_BYTES)

    def read(self, timeout_s: float) -> bytes | None:
        """Wait for all that it writes; None if it has not ended in time."""
        deadline = time.monotonic() + timeout_s
        data = b""
        while select.select([self.reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = self.take()
            if not piece:
                return data
            data += piece
        return None

    def close_in_child(self) -> None:
        """Close the descriptor in a process that was forked meanwhile."""
        os.close(self.reading)

    def end(self) -> str:
        """Kill it if it runs, reap it, close the pipe, and say how it ended."""
        os.close(self.reading)
        try:
            if not os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                os.kill(self._pid, signal.SIGKILL)
            _, status = os.waitpid(self._pid, 0)
        except ChildProcessError:  # in the first process of a container the supervisor reaps whoever has ended
            return "nobody knows how"
        code = os.waitstatus_to_exitcode(status)
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _be_child(work: Callable[[], bytes], writing: int, parent: int, limit_s: float | None) -> NoReturn:
    code = 1
    try:
        # A driver that hangs must not outlive whoever waits for it; dead already is too late for the kernel to tell.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(code)
        # Nothing of the parent's may be held open or answered to here: locks, links, signals.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(writing, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        if limit_s is not None:
            signal.setitimer(signal.ITIMER_REAL, limit_s)
        data = work()
        with os.fdopen(3, "wb") as pipe:
            pipe.write(data)
        code = 0
    finally:
        # Never back into the parent's stack, whatever the driver did.
        os._exit(code)
