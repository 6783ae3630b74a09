"""
Directories of which no record tells are looked at again and again, at a bounded rate.

They are those for which there was no watch, and those on file systems where others change
what is there unseen by this kernel. Each is compared with what it was: a digest over its
own times and over what lstat says of each name. One that has changed is dirty, and being
listed it may get the watch of a colder one; so the watches follow the activity.
"""

import math
import os
from collections.abc import Callable
from typing import Final

from fustor_source_fs.observer import LOOKS_PER_SIGN
from fustor_source_fs.pace import Pace
from fustor_source_fs.pending import Work
from fustor_source_fs.places import Places
from fustor_source_fs.watches import Node, Tree

_AT_ONCE: Final = 64
_MASK: Final = (1 << 64) - 1


class Polling:
    """
    Goes round and round through the directories that no record tells of.

    Args:
        places: Knows them.
        tree, work: Shared with the driver, same thread.
        pace: How fast names may be looked at.
        now: Monotonic seconds.
        interval_s: Between the beginnings of two rounds, if the pace allows.
        on_progress: Told now and then while many names are looked at.
    """

    def __init__(
        self,
        places: Places,
        tree: Tree,
        work: Work,
        pace: Pace,
        now: Callable[[], float],
        interval_s: float,
        on_progress: Callable[[], None],
    ) -> None:
        self._places = places
        self._tree = tree
        self._work = work
        self._pace = pace
        self._now = now
        self._interval_s = interval_s
        self._on_progress = on_progress
        self._ahead: list[Node] = []
        self._begun_s = now()
        self.round_s = 0.0
        """How long the last round took."""

    def step(self) -> None:
        """Look at the next few directories, if it is time; what has changed becomes work."""
        if not self._places.polled or (self.get_next_s() or 0.0) > self._now():
            return
        if not self._ahead:
            self._begin_round()
        for _ in range(min(_AT_ONCE, len(self._ahead))):
            self._look(self._ahead.pop())
            if self._pace.get_pause_s() or self._work:
                break
        if not self._ahead:
            self.round_s = self._now() - self._begun_s

    def get_next_s(self) -> float | None:
        """Return when `step` has something to do, monotonic seconds; None while every directory is watched."""
        if not self._places.polled:
            return None
        return self._now() + self._pace.get_pause_s() if self._ahead else self._begun_s + self._interval_s

    def _begin_round(self) -> None:
        self._begun_s = self._now()
        self._places.hope()
        self._ahead = list(self._places.polled)

    def _look(self, node: Node) -> None:
        known = self._places.polled.get(node)
        path = self._tree.get_path(node)
        if known is None or path is None:
            return
        digest, newest_s = self._digest(path)
        self._places.warm(node, newest_s)
        if digest != known:
            self._places.polled[node] = digest
            if known:
                self._places.warm(node, math.inf)
        elif not self._places.may_be_watched(node):
            return
        self._work.mark_dirty(node)

    def _digest(self, path: bytes) -> tuple[int, float]:
        """
        Look at a directory; one that cannot be read is in a state like others.

        Returns:
            What says whether it has changed, never 0, and the newest mtime in it.
        """
        newest_s = 0.0
        try:
            with self._places.opened(path) as fd, os.scandir(fd) as entries:
                own = os.fstat(fd)
                total, count = hash((own.st_ino, own.st_mtime_ns, own.st_ctime_ns, own.st_mode)), 1
                for entry in entries:
                    its = entry.stat(follow_symlinks=False)
                    total += hash((entry.name, its.st_ino, its.st_ctime_ns, its.st_mtime_ns, its.st_size))
                    newest_s = max(newest_s, its.st_mtime)
                    count += 1
                    if count % LOOKS_PER_SIGN == 0:
                        self._on_progress()
        except OSError as err:
            total, count = hash((err.errno, path)), 1
        self._pace.spend(count)
        return total & _MASK or 1, newest_s
