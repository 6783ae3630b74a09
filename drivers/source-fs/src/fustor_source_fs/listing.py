"""
List directories: watch, then list the same descriptor, and say when all of it was said.

Every look is stamped before it is made. Whatever is yielded may be taken much later: a
listing whose directory moved meanwhile promises nothing and is made again.
"""

import errno
import os
import time
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from operator import attrgetter
from stat import S_ISDIR
from typing import Final

from fustor_event_model import FsEvent, FsItem, FsRow, MessageSource
from fustor_source_fs.observer import LOOKS_PER_SIGN, Means, Observer
from fustor_source_fs.pending import Group
from fustor_source_fs.scan import encode_names, make_row
from fustor_source_fs.watches import Node

CHUNK_ROWS: Final = 1_000
_SORTED_NAMES: Final = 1 << 17
"""So many names of a directory are held at a time, about 8 MB."""
_NAMES_PER_SIGN: Final = 1_000  # as many as one system call reads, about
_TRUSTED_AGE_NS: Final = 10**9
"""A younger time may stay what it is through another change: it is only as fine as the file system's clock."""
_BLIND: Final = frozenset((MessageSource.AUDIT, MessageSource.ON_DEMAND))
_get_name: Final = attrgetter("name")


class _Listing:
    """A directory that is being listed: what it was called, for which work, and what was found so far."""

    __slots__ = ("age", "complete", "fd", "generation", "known", "lane", "mark", "node", "path", "seen", "since_s")

    def __init__(self, node: Node, path: bytes, fd: int, lane: MessageSource, mark: Group | None) -> None:
        self.node = node
        self.path = path
        self.fd = fd
        self.lane = lane
        self.mark = mark
        self.since_s = None if mark is None else mark.since_s
        self.age = 0 if mark is None else mark.age
        self.generation = node.generation
        self.known = set(node.children)
        self.seen: set[bytes] = set()
        self.complete = True


class Lister(Observer):
    """Looks at whole directories."""

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._wall_ns: Callable[[], int] = time.time_ns  # the clock of the file system's times
        self._remembers_from = 0
        self.listed = 0

    def list_directory(
        self,
        node: Node,
        lane: MessageSource,
        found: Callable[[Node], None],
        *,
        mark: Group | None = None,
        is_told: bool = False,
    ) -> Iterator[FsItem]:
        """
        Watch a directory, then list it; yield its own row, its children's and `Listed`.

        Without `Listed` the listing promises nothing: the directory moved or vanished
        meanwhile, or something in it could not be read; then it is listed again later.

        Args:
            node: The directory; its dirty mark is cleared already.
            lane: On which the events go.
            found: Called with the node of each subdirectory.
            mark: The work this fulfils, if it is work.
            is_told: The listing of its parent went before on this lane; a row that would say the same is left out.
        """
        path = self._tree.get_path(node)
        fd = None if path is None else self._places.open(node, path, mark)
        ended = False
        try:
            if fd is not None:
                assert path is not None
                self._places.watch(node, fd)
                at = _Listing(node, path, fd, lane, mark)
                announced = yield from self._announce(at)
                if announced:
                    yield from self._list(at, found, is_told=is_told)
            ended = True
        finally:
            if fd is not None:
                os.close(fd)
            if mark is not None:
                # What was closed before its end, with the walk that it was part of, is still to be done.
                (self._retries.finish if ended else self._retries.mark_later)(node, mark)

    def is_unchanged(self, node: Node) -> bool:
        """Tell whether an acknowledged listing of a directory still says what names are in it."""
        self._count_looks(1)
        path = self._tree.get_path(node)
        if path is None or node.times is None or node.listed < self._remembers_from:
            return False
        if node.watch is None or self._places.needs_listing(node):
            return False
        status = self._places.stat(node, path)  # a listing says what is wrong with it
        return status is not None and (status.st_mtime_ns, status.st_ctime_ns) == node.times

    def forget_listings(self) -> None:
        """Let no listing that was made until now say that a directory is unchanged."""
        self._remembers_from = self._clock.stamp()

    # -- private ---------------------------------------------------------------------------

    def _list(self, at: _Listing, found: Callable[[Node], None], *, is_told: bool) -> Iterator[FsItem]:
        first = self._clock.stamp()
        status = os.fstat(at.fd)
        self._count_looks(1)
        times = self._get_trusted_times(status)
        at.node.times = None
        told, at.node.told = at.node.told, 0
        if at.node.arrived or not (is_told and told and told == self._get_look(status)):
            yield self._make_own_row(at.node, at.path, status, first, at)
            # Whatever is yielded may be taken much later. What moved meanwhile is listed again
            # under its new path, and what is looked at from here on must not go under the old one.
            if self._must_stop(at):
                return
        try:
            with os.scandir(at.fd) as entries:
                for names in self._read_names(at, entries):
                    index = self._clock.stamp()
                    rows = self._look_at_names(at, names, found)
                    if not rows:
                        continue
                    yield self._events.update(at.node, rows, at.path, index, at.lane, since_s=at.since_s)
                    if self._must_stop(at):
                        return
        except OSError as err:
            self._retries.skip(at.node, at.path, err)
            at.complete = False
        gone = [name for name in at.known - at.seen if name in at.node.children]
        if gone:
            yield from self._say_gone(at, gone)
            if self._must_stop(at):
                return
        if at.complete:
            self._places.miss_children(at.node, [name for name in gone if name in at.node.children], at.age)
            at.node.listed = first
            self.listed += 1
            yield self._events.listed(at.node, at.path, first, at.lane, since_s=at.since_s, times=times)

    def _say_gone(self, at: _Listing, names: list[bytes]) -> Iterator[FsEvent]:
        """Look at directories that a listing did not find; what only an audit or a scan misses, nobody else tells."""
        gone: list[bytes] = []
        index = self._clock.stamp()
        for name in names:
            try:
                if at.lane in _BLIND:
                    os.stat(name, dir_fd=at.fd, follow_symlinks=False)
            except FileNotFoundError:
                self._places.drop_child(at.node, name)
                gone.append(name)
                continue
            except OSError:
                pass  # the look says what is wrong
            self._work.look(at.node, name, age=at.age)
        if gone:
            yield self._events.delete(at.node, gone, at.path, index, at.lane, since_s=at.since_s)

    def _get_trusted_times(self, status: os.stat_result) -> tuple[int, int] | None:
        times = (status.st_mtime_ns, status.st_ctime_ns)
        return times if max(times) <= self._wall_ns() - _TRUSTED_AGE_NS else None

    def _get_look(self, status: os.stat_result) -> int:
        """Return a number that a directory keeps as long as nothing in its row changes; 0 if its times say nothing."""
        times = self._get_trusted_times(status)
        return 0 if times is None else hash((status.st_dev, status.st_ino, times))

    def _announce(self, at: _Listing) -> Generator[FsEvent, None, bool]:
        """
        Yield the rows of directories above that came to their places by a rename: files may have been there.

        Returns:
            True when the listing may begin; otherwise it is made again.
        """
        while arrived := self._tree.get_arrived(at.node):
            above = arrived[0]  # one at a time: another row may get lost whenever one is taken
            path = self._tree.get_path(above)
            assert path is not None  # it is on the way to a node that has one
            index = self._clock.stamp()
            status = self._places.stat(above, path)
            if status is None:  # on its way to another place, and all below it; the look says what is wrong
                self._work.look_self(above, age=at.age)
                self._retries.defer(at.node, at.mark)
                return False
            yield self._make_own_row(above, path, status, index, at)
            if self._is_void(at):
                self._work.mark_dirty(at.node, age=at.age)
                return False
        return True

    def _make_own_row(
        self, node: Node, path: bytes, status: os.stat_result, index: int, at: _Listing
    ) -> FsEvent:
        node.arrived = False
        prefix = b"/" if node.parent is None else path[: -len(node.name)]
        rows = [make_row(node.name, status, at.fd, b"")]
        return self._events.update(node, rows, prefix, index, at.lane, since_s=at.since_s)

    def _read_names(self, at: _Listing, entries: Iterator["os.DirEntry[str]"]) -> Iterator[list[bytes]]:
        """
        Yield the names, so many at a time, of a large part of the directory sorted.

        A directory has them in no order, and a receiver that keeps them in order would write
        a page of its storage for nearly each.
        """
        while True:
            names = self._read_sorted(at, entries)
            for start in range(0, len(names), CHUNK_ROWS):
                yield names[start : start + CHUNK_ROWS]
            if len(names) < _SORTED_NAMES:
                return

    def _read_sorted(self, at: _Listing, entries: Iterator["os.DirEntry[str]"]) -> list[bytes]:
        """Read the next part of a directory; fewer than _SORTED_NAMES are the last."""
        names: list[str] = []
        try:
            while len(names) < _SORTED_NAMES:
                enough = min(len(names) + _NAMES_PER_SIGN, _SORTED_NAMES)
                # Keeps what comes before an error.
                names.extend(map(_get_name, islice(entries, enough - len(names))))
                if len(names) < enough:
                    break
                self._on_progress()
        except OSError as err:
            self._retries.skip(at.node, at.path, err)
            at.complete = False
        return sorted(encode_names(names))

    def _look_at_names(self, at: _Listing, names: list[bytes], found: Callable[[Node], None]) -> list[FsRow]:
        """Look at names; those that are gone by now have no rows."""
        node, fd, known, takes = at.node, at.fd, at.known, self._takes
        rows: list[FsRow] = []
        for start in range(0, len(names), LOOKS_PER_SIGN):
            some = names[start : start + LOOKS_PER_SIGN]
            for name in some:
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if S_ISDIR(status.st_mode):
                        at.seen.add(name)
                        child = self._places.get_child(node, name, status, at.age)
                        child.told = self._get_look(status) if at.lane is MessageSource.SNAPSHOT else 0
                        found(child)
                    else:
                        if name in known:
                            self._places.drop_child(node, name)
                        if takes is not None and not takes(name):
                            continue
                    rows.append(make_row(name, status, fd, name))
                except FileNotFoundError:
                    continue
                except OSError as err:
                    self._note_unseen(at, name, err)
            self._count_looks(len(some))
        return rows

    def _note_unseen(self, at: _Listing, name: bytes, err: OSError) -> None:
        at.seen.add(name)  # it is there, as far as is known
        if err.errno == errno.EINVAL:  # a symbolic link no more
            self._work.look(at.node, name, age=at.age)
        else:
            at.complete = False
            self._retries.skip(at.node, at.path, err)

    def _is_void(self, at: _Listing) -> bool:
        """Tell whether the directory was moved or dropped, or a part lost, since the listing began."""
        return at.node.generation != at.generation or self._tree.get_path(at.node) != at.path

    def _must_stop(self, at: _Listing) -> bool:
        """Tell whether a listing must not go on; it is then made again."""
        # A row above may have got lost meanwhile, and goes before what is below.
        if self._is_void(at) or self._tree.get_arrived(at.node):
            self._work.mark_dirty(at.node, age=at.age)
            return True
        return False
