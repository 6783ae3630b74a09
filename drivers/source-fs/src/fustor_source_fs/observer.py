"""What looks at names, one by one (`looker`) or directory by directory (`listing`), has in common."""

from collections.abc import Callable
from typing import Final, NamedTuple

from fustor_core.clock import IndexClock
from fustor_source_fs.events import Events
from fustor_source_fs.pending import Work
from fustor_source_fs.places import Places
from fustor_source_fs.retries import Retries
from fustor_source_fs.watches import Tree

LOOKS_PER_SIGN: Final = 16
"""A mount on which this many looks take longer than the limit of a walk counts as one that hangs."""


class Means(NamedTuple):
    """
    What looking takes; shared with the driver, same thread.

    Args:
        takes: Tells which names of non-directories are sent; None takes all.
        tree, work, retries, places, events: As their classes say.
        clock: Stamps.
        on_progress: Told now and then while many names are looked at.
    """

    takes: Callable[[bytes], bool] | None
    tree: Tree
    work: Work
    retries: Retries
    places: Places
    events: Events
    clock: IndexClock
    on_progress: Callable[[], None]


class Observer:
    """
    Makes events of what it looks at, and keeps the tree true to it.

    Attributes:
        looked: At how many names.
    """

    def __init__(self, means: Means) -> None:
        self._takes, self._tree, self._work, self._retries = means.takes, means.tree, means.work, means.retries
        self._places, self._events, self._clock = means.places, means.events, means.clock
        self._on_progress = means.on_progress
        self.looked = 0

    def _count_looks(self, count: int) -> None:
        """Count names that were looked at, at most LOOKS_PER_SIGN at a time."""
        signs = self.looked // LOOKS_PER_SIGN
        self.looked += count
        if self.looked // LOOKS_PER_SIGN > signs:
            self._on_progress()
