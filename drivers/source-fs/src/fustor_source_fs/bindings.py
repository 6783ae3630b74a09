"""
The system calls of inotify, through pyinotify's bindings, as they are.

A watch is added through a descriptor's name in /proc, so that the directory that is
watched is the one that is then listed, whatever happens to its path in between.
"""

import array
import errno
import fcntl
import os
import termios
from typing import Final

import pyinotify

from fustor_core.errors import Unavailable

IN_MODIFY: Final[int] = pyinotify.IN_MODIFY
IN_ATTRIB: Final[int] = pyinotify.IN_ATTRIB
IN_CLOSE_WRITE: Final[int] = pyinotify.IN_CLOSE_WRITE
IN_MOVED_FROM: Final[int] = pyinotify.IN_MOVED_FROM
IN_MOVED_TO: Final[int] = pyinotify.IN_MOVED_TO
IN_CREATE: Final[int] = pyinotify.IN_CREATE
IN_DELETE: Final[int] = pyinotify.IN_DELETE
IN_DELETE_SELF: Final[int] = pyinotify.IN_DELETE_SELF
IN_MOVE_SELF: Final[int] = pyinotify.IN_MOVE_SELF
IN_Q_OVERFLOW: Final[int] = pyinotify.IN_Q_OVERFLOW
IN_IGNORED: Final[int] = pyinotify.IN_IGNORED
IN_ISDIR: Final[int] = pyinotify.IN_ISDIR

MASK: Final[int] = (
    IN_MODIFY
    | IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
    | pyinotify.IN_ONLYDIR
)
"""What is watched on every directory. IN_MODIFY is part of it because log files never close."""

_DESCRIPTORS: Final = "/proc/self/fd"


class Inotify:
    """
    One inotify instance; owns its descriptor.

    Raises:
        Unavailable: No instance is to be had.
    """

    def __init__(self) -> None:
        self._calls = pyinotify.INotifyWrapper.create()
        if self._calls is None:
            raise Unavailable("the C library offers no inotify")
        fd = self._calls.inotify_init()
        if fd < 0:
            raise Unavailable(f"no inotify instance: {self._calls.str_errno()}; raise fs.inotify.max_user_instances")
        # inotify_init() gives a blocking, inheritable descriptor.
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self.fd: Final[int] = fd

    def add_watch(self, directory_fd: int) -> int:
        """
        Watch the directory behind a descriptor.

        Returns:
            The watch descriptor; the known one if the inode is watched already.

        Raises:
            OSError: ENOSPC when the user's watches are used up, ENOENT without /proc; others as in
                inotify_add_watch(2). The message holds the remedy.
        """
        watch: int = self._calls.inotify_add_watch(self.fd, f"{_DESCRIPTORS}/{directory_fd}", MASK)
        if watch < 0:
            code = self._calls.get_errno()
            raise OSError(code, _explain(code), "inotify_add_watch")
        return watch

    def remove_watch(self, watch: int) -> None:
        """Stop watching; a watch that the kernel has removed already is not an error."""
        if self._calls.inotify_rm_watch(self.fd, watch) < 0:
            code = self._calls.get_errno()
            if code != errno.EINVAL:
                raise OSError(code, os.strerror(code), "inotify_rm_watch")

    def get_queued_bytes(self) -> int:
        """Return how many bytes the kernel has queued (FIONREAD)."""
        answer = array.array("i", [0])
        fcntl.ioctl(self.fd, termios.FIONREAD, answer)
        return answer[0]

    def read(self, size: int) -> bytes:
        """Read queued records, whole ones; empty when there are none."""
        try:
            return os.read(self.fd, size)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close the descriptor; all watches go with it."""
        os.close(self.fd)


def _explain(code: int) -> str:
    if code == errno.ENOSPC:
        return f"{os.strerror(code)}; raise fs.inotify.max_user_watches"
    if not os.path.exists(_DESCRIPTORS):
        return "/proc is not mounted; mount it, watches are added through it"
    return os.strerror(code)
