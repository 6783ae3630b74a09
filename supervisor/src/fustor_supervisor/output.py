"""
What workers write to standard error: shown where ours goes, and the last of it kept for the day they die.

Each worker writes into a pipe of its own, so that what a crashing library or the fault
handler says is caught too, and lines of two workers never mix.
"""

import contextlib
import os
import select
from typing import Final

KEPT_BYTES: Final = 8 * 1024
_READ_BYTES: Final = 64 * 1024
_READS_AT_DEATH: Final = 16  # a grandchild may go on writing for ever
_STDERR: Final = 2
_CHUNK_BYTES: Final = select.PIPE_BUF  # what a writable pipe takes without blocking


class ErrorOutput:
    """
    The reading end of one worker's standard error; owns it.

    Args:
        descriptor: A non-blocking pipe.

    Attributes:
        has_ended: Nothing more can come.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = b""
        self._line = b""
        self.has_ended = False

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._descriptor

    def pump(self) -> bool:
        """Read once and show every whole line; False if there was nothing to read."""
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        self.has_ended = not data
        self._kept = (self._kept + data)[-KEPT_BYTES:]
        pending = self._line + data
        end = pending.rfind(b"\n") + 1
        if self.has_ended or len(pending) - end > _READ_BYTES:  # the last line, or one without end
            end = len(pending)
        show(pending[:end])
        self._line = pending[end:]
        return bool(data)

    def drain(self) -> str:
        """Read what a dead worker has left, and return the last lines that it wrote, at most KEPT_BYTES."""
        for _ in range(_READS_AT_DEATH):
            if not self.pump():
                break
        show(self._line)
        kept = self._kept
        if len(kept) == KEPT_BYTES:  # the first line may have been cut
            kept = kept.partition(b"\n")[2] or kept
        return kept.decode(errors="replace").rstrip()

    def close(self) -> None:
        """Close it; what a worker that still lives writes then is refused."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def show(data: bytes) -> None:
    """Write to our standard error what it takes without blocking; the rest is lost there."""
    view = memoryview(data)
    poller = select.poll()
    poller.register(_STDERR, select.POLLOUT)
    with contextlib.suppress(OSError):  # closed, or a full disk
        while view and any(events & select.POLLOUT for _, events in poller.poll(0)):
            view = view[os.write(_STDERR, view[:_CHUNK_BYTES]) :]
