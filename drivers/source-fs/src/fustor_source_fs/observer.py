"""What looks at names, one by one (`looker`) or directory by directory (`listing`), has in common."""

from collections.abc import Callable
from typing import NamedTuple

from fustor_core.clock import IndexClock
from fustor_source_fs.events import Events
from fustor_source_fs.pending import Work
from fustor_source_fs.places import Places
from fustor_source_fs.retries import Retries
from fustor_source_fs.watches import Tree


class Means(NamedTuple):
    """
    What looking takes; shared with the driver, same thread.

    Args:
        takes: Tells which names of non-directories are sent; None takes all.
        tree, work, retries, places, events: As their classes say.
        clock: Stamps.
    """

    takes: Callable[[bytes], bool] | None
    tree: Tree
    work: Work
    retries: Retries
    places: Places
    events: Events
    clock: IndexClock


class Observer:
    """Makes events of what it looks at, and keeps the tree true to it."""

    def __init__(self, means: Means) -> None:
        self._takes, self._tree, self._work, self._retries, self._places, self._events, self._clock = means
