"""
Changes of which a watcher hears nothing, on any file system and without privileges.

While the watcher is stopped, what the kernel has queued for it is read through duplicates of
its inotify descriptors. They share the queue, so it finds nothing when it goes on.
"""

import array
import contextlib
import ctypes
import fcntl
import os
import signal
import termios
from collections.abc import Iterator
from pathlib import Path

from processes import is_stopped
from waiting import until

_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def unseen(pid: int) -> Iterator[None]:
    """
    Hide from a process, a descendant of this one, what happens inside the block.

    It must have nothing else to read: what was queued before is hidden with it. The block must
    be short, since a process that is stopped for long is taken for stuck.

    Raises:
        OSError: Its descriptors cannot be duplicated (man 2 pidfd_getfd).
    """
    with contextlib.ExitStack() as stack:
        queues = [stack.enter_context(_duplicate(pid, number)) for number in _list_inotify(pid)]
        assert queues, f"{pid} watches nothing"
        os.kill(pid, signal.SIGSTOP)
        stack.callback(os.kill, pid, signal.SIGCONT)
        until(lambda: is_stopped(pid), within_s=10, what="every thread to be stopped")
        yield
        for queue in queues:
            _empty(queue)


def _list_inotify(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/fd").iterdir()
    return [int(each.name) for each in found if os.readlink(each) == "anon_inode:inotify"]


@contextlib.contextmanager
def _duplicate(pid: int, number: int) -> Iterator[int]:
    process = os.pidfd_open(pid)
    try:
        duplicate = _libc.syscall(_PIDFD_GETFD, process, number, 0)
        if duplicate < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"descriptor {number} of {pid}: {os.strerror(error)}")
    finally:
        os.close(process)
    try:
        yield duplicate
    finally:
        os.close(duplicate)


def _empty(queue: int) -> None:
    queued = array.array("i", [0])
    fcntl.ioctl(queue, termios.FIONREAD, queued)
    while queued[0]:
        os.read(queue, queued[0])
        fcntl.ioctl(queue, termios.FIONREAD, queued)
