"""
What was pushed lately, so that a listing can be completed.

A public Fusion deletes what an audit of a directory did not see. A listing's children may have
left in earlier batches than the word that the listing is complete, so their names are kept
until that word comes. The memory is bounded; what it had to forget makes `complete` false for
older listings, and then nothing is deleted rather than too much.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator

import msgspec

from fustor_event_model import FsRow
from fustor_pusher_fusion.wire import Change, Delete, Upsert

MAX_NAMES = 250_000
MAX_GONE = 10_000
MAX_LISTED = 50_000


class _Seen(msgspec.Struct, gc=False):
    index: int
    directory: FsRow | None


class Recent:
    """
    Names pushed to one session, by directory.

    Args:
        max_names: How many names to keep.
    """

    def __init__(self, *, max_names: int = MAX_NAMES) -> None:
        self._max_names = max_names
        self._by_directory: dict[bytes, dict[bytes, _Seen]] = {}
        self._order: deque[tuple[bytes, int]] = deque()
        self._forgotten = 0
        self._gone: OrderedDict[bytes, int] = OrderedDict()
        self._listed: OrderedDict[bytes, int] = OrderedDict()

    def add(self, change: Change) -> None:
        """Remember that a change was accepted."""
        directory = parent(change.path)
        if isinstance(change, Delete):
            self._by_directory.get(directory, {}).pop(change.path, None)
            self._gone[change.path] = change.index
            self._gone.move_to_end(change.path)
            if len(self._gone) > MAX_GONE:
                self._gone.popitem(last=False)
            return
        self._gone.pop(change.path, None)
        seen = _Seen(change.index, change.row if change.row.is_directory else None)
        self._by_directory.setdefault(directory, {})[change.path] = seen
        self._order.append((change.path, change.index))
        while len(self._order) > self._max_names:
            self._forget_oldest()

    def knows(self, path: bytes) -> bool:
        """Tell whether the name was pushed or deleted lately."""
        return path in self._gone or path in self._by_directory.get(parent(path), {})

    def is_overtaken(self, change: Change) -> bool:
        """Tell whether something newer about this name, or a directory above it, was pushed already."""
        directory = parent(change.path)
        seen = self._by_directory.get(directory, {}).get(change.path)
        if seen is not None and seen.index > change.index:
            return True
        return self._listed.get(directory, -1) > change.index or self._is_removed(change.path, change.index)

    def is_due(self, directory: bytes, index: int) -> bool:
        """Tell whether a listing may delete: not overtaken by another one, the directory not removed since."""
        return self._listed.get(directory, -1) < index and not self._is_removed(directory, index)

    def is_complete(self, index: int) -> bool:
        """Tell whether every name that was pushed with this index or a higher one is remembered."""
        return index > self._forgotten

    def children(self, directory: bytes, index: int) -> tuple[list[bytes], list[Upsert]]:
        """
        Return the children pushed with this index or a higher one.

        Returns:
            Names of those that are not directories, and the directories as they were pushed last.
        """
        files: list[bytes] = []
        directories: list[Upsert] = []
        for path, seen in self._by_directory.get(directory, {}).items():
            if seen.index < index:
                continue
            if seen.directory is None:
                files.append(path)
            else:
                directories.append(Upsert(path, seen.directory, seen.index))
        return files, directories

    def finish(self, directory: bytes, index: int) -> None:
        """A listing took effect: its names are not needed any more."""
        self._by_directory.pop(directory, None)
        self._listed[directory] = index
        self._listed.move_to_end(directory)
        if len(self._listed) > MAX_LISTED:
            self._listed.popitem(last=False)

    def _is_removed(self, path: bytes, index: int) -> bool:
        """Tell whether with a higher index the path was deleted, or one above it deleted or made a file."""
        for each in lineage(path):
            if self._gone.get(each, -1) > index:
                return True
            seen = None if each == path else self._by_directory.get(parent(each), {}).get(each)
            if seen is not None and seen.directory is None and seen.index > index:
                return True
        return False

    def _forget_oldest(self) -> None:
        path, index = self._order.popleft()
        directory = parent(path)
        names = self._by_directory.get(directory)
        if names is None or path not in names or names[path].index != index:
            return
        del names[path]
        if not names:
            del self._by_directory[directory]
        self._forgotten = max(self._forgotten, index)


def parent(path: bytes) -> bytes:
    """Return the directory of an absolute path; the root is its own."""
    return path[: path.rindex(b"/")] or b"/"


def lineage(path: bytes) -> Iterator[bytes]:
    """Yield an absolute path and all above it, but the root."""
    while path != b"/":
        yield path
        path = parent(path)
