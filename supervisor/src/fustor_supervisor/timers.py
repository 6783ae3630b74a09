"""A heap of absolute deadlines, one per key."""

import enum
import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Timer(enum.Enum):
    """Deadlines that belong to no worker."""

    PING = "ping"
    STATUS = "status"
    LINKS = "links"
    STOP_LIMIT = "stop limit"
    WATCHDOG = "watchdog"


class Timers(Generic[Key]):
    """Holds at most one deadline per key; setting it again replaces it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Key]] = []
        self._current: dict[Key, int] = {}
        self._tickets = itertools.count()

    def set(self, key: Key, at: float) -> None:
        """Make `key` due at `at`, in place of its earlier deadline."""
        ticket = next(self._tickets)
        self._current[key] = ticket
        heapq.heappush(self._heap, (at, ticket, key))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._current):
            self._heap = [entry for entry in self._heap if self._current.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def cancel(self, key: Key) -> None:
        """Forget the deadline of `key`, if it has one."""
        self._current.pop(key, None)

    def __contains__(self, key: Key) -> bool:
        return key in self._current

    def next_at(self) -> float | None:
        """Return the earliest deadline; None without any."""
        while self._heap:
            at, ticket, key = self._heap[0]
            if self._current.get(key) == ticket:
                return at
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: float) -> list[Key]:
        """Take every key whose deadline is at or before `now`, earliest first."""
        due: list[Key] = []
        while (at := self.next_at()) is not None and at <= now:
            key = heapq.heappop(self._heap)[2]
            del self._current[key]
            due.append(key)
        return due
