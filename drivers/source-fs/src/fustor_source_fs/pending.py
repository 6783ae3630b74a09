"""
What must be looked at: names that changed and directories that must be listed again.

Both hang on nodes, not on paths, so a rename moves them along. The work is the latest
state by place, not a list of happenings: an outage of any length costs bounded memory.
"""

from collections import Counter
from collections.abc import Callable

from fustor_source_fs.watches import Node


class Group:
    """
    Changed names of one directory.

    Args:
        age: The barrier age in which the first of them was noted.
        since_s: When, monotonic seconds.
    """

    __slots__ = ("age", "names", "since_s")

    def __init__(self, age: int, since_s: float) -> None:
        self.age = age
        self.since_s = since_s
        self.names: dict[bytes, bool] = {}
        """Name to whether the file was closed after the last write that was seen."""


class Work:
    """
    Pending names and dirty directories, oldest first, and when all before a barrier is done.

    Every piece of work belongs to the age in which it was noted; `close_age` ends an age.
    A barrier is fulfilled when no work of its age or an older one is left. Work that
    follows from other work inherits its age.

    Args:
        max_pending: More names than this are replaced by dirty directories.
        now: Monotonic clock.
    """

    def __init__(self, max_pending: int, now: Callable[[], float]) -> None:
        self._max_pending = max_pending
        self._now = now
        self._groups: dict[Node, Group] = {}
        self._dirty: dict[Node, Group] = {}
        self._open: Counter[int] = Counter()
        self._age = 0
        self.pending_count = 0

    @property
    def dirty_count(self) -> int:
        """Number of directories that must be listed again."""
        return len(self._dirty)

    def __bool__(self) -> bool:
        return bool(self._groups or self._dirty)

    def look(self, node: Node, name: bytes, *, closed: bool = True, age: int | None = None) -> None:
        """Note that a name of a directory must be looked at; the empty name is the root itself."""
        mark = self._dirty.get(node)
        if mark is not None and name:
            self._make_older(mark, age)
            return  # its listing looks at all names, and was not begun yet
        group = self._groups.get(node)
        if group is None:
            group = self._groups[node] = self.open_group(age)
        else:
            self._make_older(group, age)
        if name not in group.names:
            if self.pending_count >= self._max_pending:
                self.mark_dirty(node, age=group.age)
                return
            self.pending_count += 1
        group.names[name] = closed

    def look_self(self, node: Node, *, age: int | None = None) -> None:
        """Note that a directory's own row must be looked at."""
        if node.parent is not None:
            self.look(node.parent, node.name, age=age)
        elif not node.name:
            self.look(node, b"", age=age)
        # else it is detached for the moment: being attached again is looked at anyway

    def mark_dirty(self, node: Node, *, age: int | None = None) -> None:
        """Note that a directory must be listed again; its pending names are part of that."""
        group = self._groups.get(node)
        if group is not None and b"" not in group.names:
            age = group.age if age is None else min(age, group.age)
            self._drop_group(node)
        mark = self._dirty.get(node)
        if mark is None:
            self._dirty[node] = self.open_group(age)
        else:
            self._make_older(mark, age)

    def is_dirty(self, node: Node) -> bool:
        """Tell whether a directory must be listed again and the listing has not begun."""
        return node in self._dirty

    def take_group(self) -> tuple[Node, Group] | None:
        """Take the oldest group; call `finish` when all of it was yielded."""
        for node, group in self._groups.items():
            del self._groups[node]
            self.pending_count -= len(group.names)
            return node, group
        return None

    def take_dirty(self) -> tuple[Node, Group] | None:
        """Take the oldest dirty directory, before it is opened; call `finish` when it was yielded."""
        for node, mark in self._dirty.items():
            del self._dirty[node]
            return node, mark
        return None

    def finish(self, taken: Group) -> None:
        """A taken piece of work was yielded, or replaced by other work."""
        self._close_one(taken.age)

    def forget(self, node: Node) -> None:
        """A node is gone: nothing below it needs a look."""
        self._drop_group(node)
        mark = self._dirty.pop(node, None)
        if mark is not None:
            self._close_one(mark.age)

    def close_age(self) -> int:
        """End the present age, for a barrier; returns it."""
        self._age += 1
        return self._age - 1

    def is_done(self, age: int) -> bool:
        """Tell whether no work of this age or an older one is left."""
        return all(each > age for each in self._open)

    def get_oldest_s(self) -> float | None:
        """Return when the oldest untaken work was noted, monotonic; None without work."""
        first = [next(iter(each.values())).since_s for each in (self._groups, self._dirty) if each]
        return min(first, default=None)

    def get_oldest_age(self) -> int:
        """Return the oldest age with work that is not done, for work that may be older than it seems."""
        return min(self._open, default=self._age)

    def open_group(self, age: int | None) -> Group:
        """Open a piece of work that is taken already, so that a barrier waits for it; end it with `finish`."""
        group = Group(self._age if age is None else age, self._now())
        self._open[group.age] += 1
        return group

    def _make_older(self, group: Group, age: int | None) -> None:
        if age is not None and age < group.age:
            self._close_one(group.age)
            group.age = age
            self._open[age] += 1

    def _drop_group(self, node: Node) -> None:
        group = self._groups.pop(node, None)
        if group is not None:
            self.pending_count -= len(group.names)
            self._close_one(group.age)

    def _close_one(self, age: int) -> None:
        self._open[age] -= 1
        if not self._open[age]:
            del self._open[age]
