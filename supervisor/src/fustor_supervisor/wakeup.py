"""
Wakes a loop from a signal or from another thread.

Signal handlers are empty: CPython's C handler writes the signal's number into the
wakeup descriptor, the loop reads it there and does the work between two turns. So no
Python code ever runs in the middle of something else.
"""

import contextlib
import signal
import socket
from collections.abc import Iterable
from types import FrameType

_WAKE = b"\0"  # no signal has number 0


class Wakeup:
    """Owns a pair of sockets; the reading end belongs into a selector."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._reader.fileno()

    def writer_fileno(self) -> int:
        """Return the descriptor for `signal.set_wakeup_fd`."""
        return self._writer.fileno()

    def wake(self) -> None:
        """Make the reading end readable; any thread may call it, also after `close`."""
        # Full means that a wake-up is waiting already; closed means that nobody waits any more.
        with contextlib.suppress(OSError):
            self._writer.send(_WAKE)

    def drain(self) -> list[signal.Signals]:
        """Take all wake-ups and return the signals among them, in order of arrival."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := self._reader.recv(4096):
                data += chunk
        return [signal.Signals(number) for number in data if number in _KNOWN]

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self._writer.close()


class SignalWatch:
    """
    Sends chosen signals into a `Wakeup`, until restored. Main thread only.

    Args:
        wakeup: Gets the numbers.
        signals: Which signals to catch.
    """

    def __init__(self, wakeup: Wakeup, signals: Iterable[signal.Signals]) -> None:
        self._old_handlers = {number: signal.signal(number, _do_nothing) for number in signals}
        # a full socket holds wake-ups enough: CPython must not write a warning for each further one
        self._old_fd = signal.set_wakeup_fd(wakeup.writer_fileno(), warn_on_full_buffer=False)

    def restore(self) -> None:
        """Put the earlier handlers and wakeup descriptor back."""
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old_handlers.items():
            # None: the earlier handler was not installed from Python and cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Exist, so that the signal is neither ignored nor deadly."""


_KNOWN = frozenset(signal.valid_signals())
