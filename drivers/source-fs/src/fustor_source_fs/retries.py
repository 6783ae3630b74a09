"""What could not be looked at when its turn came, and when its turn comes again."""

import math
from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple

from fustor_source_fs.pending import Group, Work
from fustor_source_fs.watches import Node, Tree

_LOOK_AGAIN_S: Final = 0.02
_ROOT_RETRY_S: Final = 1.0
_SKIPPED_SHOWN: Final = 100
_PATH_SHOWN_BYTES: Final = 4_096


class Skipped(NamedTuple):
    """An unreadable directory: what was wrong, and when to try again (monotonic seconds)."""

    path: bytes
    reason: str
    retry_at_s: float


class Retries:
    """
    Directories that are unreadable, and directories on their way from one place to another.

    Args:
        tree, work: Shared with the driver, same thread.
        now: Monotonic seconds.
        retry_unreadable_s: Until an unreadable directory is tried again.
    """

    def __init__(self, tree: Tree, work: Work, now: Callable[[], float], retry_unreadable_s: float) -> None:
        self._tree = tree
        self._work = work
        self._now = now
        self._retry_unreadable_s = retry_unreadable_s
        self._deferred: list[tuple[float, Node, Group]] = []
        self.skipped: dict[Node, Skipped] = {}

    def skip(self, node: Node, path: bytes, err: OSError) -> None:
        """Leave a directory out that cannot be read, and try it again later."""
        delay_s = _ROOT_RETRY_S if node.parent is None else self._retry_unreadable_s
        self.skipped[node] = Skipped(path, err.strerror or str(err), self._now() + delay_s)

    def defer(self, node: Node, taken: Group | None) -> None:
        """List a directory again a little later; until then the work counts as undone."""
        mark = self._work.open_group(get_age(taken))
        self._deferred.append((self._now() + _LOOK_AGAIN_S, node, mark))

    def finish(self, node: Node, taken: Group) -> None:
        """End a piece of work; one between two places goes on at the second, and barriers wait for it."""
        if self._tree.is_detached(node):
            self.defer(node, taken)
        self._work.finish(taken)

    def mark_later(self, node: Node, mark: Group) -> None:
        """Turn work that waited into a dirty mark; one between two places waits again, one that is gone is done."""
        if self._tree.get_path(node) is not None:
            self._work.mark_dirty(node, age=mark.age)
        elif self._tree.is_detached(node):
            self.defer(node, mark)
        self._work.finish(mark)

    def retry_due(self) -> None:
        """Turn what has waited long enough into work again."""
        now = self._now()
        if self._deferred:
            due = [each for each in self._deferred if each[0] <= now]
            self._deferred = [each for each in self._deferred if each[0] > now]
            for _, node, mark in due:
                self.mark_later(node, mark)
        self.retry_skipped(until_s=now)

    def retry_skipped(self, *, until_s: float = math.inf) -> None:
        """Turn unreadable directories that are to be tried until then (monotonic seconds) into work again."""
        for node in [node for node, skipped in self.skipped.items() if skipped.retry_at_s <= until_s]:
            del self.skipped[node]
            self._work.mark_dirty(node)

    def describe(self) -> dict[str, str]:
        """Return the paths of unreadable directories, at most the first hundred, and why they are."""
        first = islice(self.skipped.items(), _SKIPPED_SHOWN)
        return {_show(self._tree.get_path(node) or skipped.path): skipped.reason for node, skipped in first}

    def get_next_s(self) -> float | None:
        """Return when `retry_due` has something to do, monotonic seconds."""
        times = [each[0] for each in self._deferred] + [each.retry_at_s for each in self.skipped.values()]
        return min(times, default=None)


def get_age(taken: Group | None) -> int:
    """Return the age of work that follows from other work; what a snapshot or audit leaves is as old as any."""
    return 0 if taken is None else taken.age


def _show(path: bytes) -> str:
    """Return a path for people; of one that is longer than system calls take, its end."""
    if len(path) > _PATH_SHOWN_BYTES:
        path = b"..." + path[3 - _PATH_SHOWN_BYTES :]
    return path.decode("utf-8", "backslashreplace")
