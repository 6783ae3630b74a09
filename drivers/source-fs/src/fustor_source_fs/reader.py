"""
The thread that empties the kernel's queues and does nothing else.

It must never wait for the one that looks at files: such a queue is short (16,384
records by default) and what does not fit is lost to everyone.
"""

import os
import select
import threading
from typing import Final

from fustor_source_fs.mounts import MOUNTINFO
from fustor_source_fs.shards import Shards

_READ_BYTES: Final = 1 << 20
_SMALL_READ_BYTES: Final = 16 << 10
_LOOK_FOR_INSTANCES_MS: Final = 1_000
_NAP_S: Final = 0.0005
"""
Slept before a read while little comes: a file's creation, writes and close are then one read and
one look. The queue holds far more than comes in a nap.
"""


class Reader:
    """
    Moves records from the kernel into a backlog that the driver takes.

    Args:
        shards: What to read; not owned.
        max_backlog_bytes: A longer backlog is thrown away and reported as an overflow of its shards.
        wake: Called after something was added.
    """

    def __init__(self, shards: Shards, max_backlog_bytes: int, wake: threading.Event) -> None:
        self._shards = shards
        self._max_backlog_bytes = max_backlog_bytes
        self._wake = wake
        self._lock = threading.Lock()
        self._backlog: list[tuple[int, bytes]] = []
        self._backlog_bytes = 0
        self._overflowed: set[int] = set()
        self._mounts_changed = False
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC)
        # Without /proc nobody tells of mounts; the null device never does.
        mounts = MOUNTINFO if os.path.exists(MOUNTINFO) else os.devnull
        self._mounts_fd = os.open(mounts, os.O_RDONLY | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="inotify-reader", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def take(self) -> tuple[list[tuple[int, bytes]], set[int]]:
        """Take what was read, in order, with its shard, and the shards of which something had to be thrown away."""
        with self._lock:
            backlog, self._backlog = self._backlog, []
            overflowed, self._overflowed = self._overflowed, set()
            self._backlog_bytes = 0
        return backlog, overflowed

    def has_backlog(self) -> bool:
        """Tell whether `take` would give something."""
        return bool(self._backlog) or bool(self._overflowed) or self._mounts_changed

    def take_mounts_changed(self) -> bool:
        """Tell, once, that something was mounted or unmounted somewhere."""
        changed, self._mounts_changed = self._mounts_changed, False
        return changed

    def drain(self) -> None:
        """Read all that the kernel has queued until now, in the calling thread."""
        with self._lock:  # so that what the thread is just reading counts as read
            queued = [self._shards.get_queued_bytes(shard) for shard in range(len(self._shards))]
        for shard, left in enumerate(queued):
            while left > 0 and (count := self._read(shard, max(left, _SMALL_READ_BYTES))):
                left -= count

    def stop(self) -> None:
        """End the thread and close what it polled."""
        os.eventfd_write(self._stop_fd, 1)
        self._thread.join()
        os.close(self._stop_fd)
        os.close(self._mounts_fd)

    def _read(self, shard: int, size: int) -> int:
        with self._lock:
            data = self._shards.read(shard, size)
            if data:
                self._backlog.append((shard, data))
                self._backlog_bytes += len(data)
                if self._backlog_bytes > self._max_backlog_bytes:
                    self._overflowed.update(each for each, _ in self._backlog)
                    self._backlog.clear()
                    self._backlog_bytes = 0
        return len(data)

    def _run(self) -> None:
        poll = select.poll()
        fds: list[int] = []
        poll.register(self._stop_fd, select.POLLIN)
        poll.register(self._mounts_fd, select.POLLPRI)
        count = 0
        while True:
            if not fds:
                fds = self._shards.get_fds()
                for fd in fds:
                    poll.register(fd, select.POLLIN)
            ready = dict(poll.poll(None if fds else _LOOK_FOR_INSTANCES_MS))
            if self._stop_fd in ready:
                return
            if self._mounts_fd in ready:
                self._mounts_changed = True
                self._wake.set()
            if not ready.keys().isdisjoint(fds):
                if count < _SMALL_READ_BYTES:
                    select.select((self._stop_fd,), (), (), _NAP_S)
                # All of them: a rename may be told by three.
                count = sum(self._read(shard, _READ_BYTES) for shard in range(len(fds)))
                self._wake.set()
