"""
Look at names and list directories: the only place where rows come from.

Every look is stamped before it is made, goes by descriptor, and is sent under the path
that was opened. If a rename made that path wrong meanwhile, its records are still to come
and have everything below it looked at again, with higher indices.
"""

import errno
import math
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator
from typing import Final, NamedTuple

from fustor_core.clock import IndexClock
from fustor_event_model import (
    FS_SCHEMA,
    FS_TABLE,
    DeleteEvent,
    FsEvent,
    FsItem,
    FsPath,
    FsRow,
    Listed,
    MessageSource,
    UpdateEvent,
)
from fustor_source_fs.bindings import Inotify
from fustor_source_fs.inflight import Inflight
from fustor_source_fs.pending import Group, Work
from fustor_source_fs.scan import encode_name, make_row, open_directory, stat_directory
from fustor_source_fs.translate import Translator
from fustor_source_fs.watches import Node, Tree

_CHUNK_ROWS: Final = 1_000
_LOOK_AGAIN_S: Final = 0.02
_ROOT_RETRY_S: Final = 1.0
_TRUSTED_AGE_NS: Final = 10**9
"""A younger time may stay what it is through another change: it is only as fine as the file system's clock."""
_BLIND: Final = frozenset((MessageSource.AUDIT, MessageSource.ON_DEMAND))
_GONE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


class Skipped(NamedTuple):
    """An unreadable directory: what was wrong, and when to try again (monotonic seconds)."""

    path: bytes
    reason: str
    retry_at_s: float


class _Listing:
    """A directory that is being listed: what it was called, and what was found so far."""

    __slots__ = ("complete", "fd", "generation", "known", "lane", "node", "path", "seen", "since_s")

    def __init__(self, node: Node, path: bytes, fd: int, lane: MessageSource, mark: Group | None) -> None:
        self.node = node
        self.path = path
        self.fd = fd
        self.lane = lane
        self.since_s = None if mark is None else mark.since_s
        self.generation = node.generation
        self.known = set(node.children)
        self.seen: set[bytes] = set()
        self.complete = True


class Looker:
    """
    Makes events of the work, and keeps the tree true to what it finds.

    Args:
        root: The source's root.
        takes: Tells which names of non-directories are sent; None takes all.
        tree, work, translator, inflight: Shared with the driver, same thread.
        inotify: Watches are added here.
        clock: Stamps.
        now: Monotonic seconds.
        retry_unreadable_s: Until an unreadable directory is tried again.
        wall_ns: The clock of the file system's times, nanoseconds since the epoch.
    """

    def __init__(
        self,
        root: bytes,
        *,
        takes: Callable[[bytes], bool] | None,
        tree: Tree,
        work: Work,
        translator: Translator,
        inflight: Inflight,
        inotify: Inotify,
        clock: IndexClock,
        now: Callable[[], float],
        retry_unreadable_s: float,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._root = root
        self._takes = takes
        self._tree = tree
        self._work = work
        self._translator = translator
        self._inflight = inflight
        self._inotify = inotify
        self._clock = clock
        self._now = now
        self._retry_unreadable_s = retry_unreadable_s
        self._wall_ns = wall_ns
        self._remembers_from = 0
        self._deferred: list[tuple[float, Node, Group]] = []
        self.skipped: dict[Node, Skipped] = {}
        self.unwatched: set[Node] = set()
        self.watch_error = ""
        self.listed = 0
        self.looked = 0
        self.rows = 0

    # -- the two kinds of look -------------------------------------------------------------

    def look(
        self, node: Node, group: Group, lane: MessageSource = MessageSource.REALTIME
    ) -> Iterator[FsEvent]:
        """Look at names of a directory and yield what is there and what is gone, as events of a lane."""
        try:
            yield from self._look(node, group, lane)
        finally:
            self._finish(node, group)

    def list_directory(
        self, node: Node, lane: MessageSource, found: Callable[[Node], None], *, mark: Group | None = None
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
        """
        path = self._tree.get_path(node)
        fd = None if path is None else self._open(node, path, mark)
        ended = False
        try:
            if fd is not None:
                assert path is not None
                self._watch(node, fd)
                at = _Listing(node, path, fd, lane, mark)
                announced = yield from self._announce(at, mark)
                if announced:
                    yield from self._list(at, found, mark)
            ended = True
        finally:
            if fd is not None:
                os.close(fd)
            if mark is not None:
                # What was closed before its end, with the walk that it was part of, is still to be done.
                (self._finish if ended else self.mark_later)(node, mark)

    def needs_listing(self, child: Node) -> bool:
        """Tell whether a directory that was found must be listed: it is new, or not watched or readable so far."""
        return not child.listed or child.watch is None or child in self.skipped

    def is_unchanged(self, node: Node) -> bool:
        """Tell whether an acknowledged listing of a directory still says what names are in it."""
        path = self._tree.get_path(node)
        if path is None or node.times is None or node.listed < self._remembers_from or self.needs_listing(node):
            return False
        try:
            status = stat_directory(self._root, path)
        except OSError:
            return False  # a listing says what is wrong with it
        return node.is_same(status.st_dev, status.st_ino) and (status.st_mtime_ns, status.st_ctime_ns) == node.times

    def forget_listings(self) -> None:
        """Let no listing that was made until now say that a directory is unchanged."""
        self._remembers_from = self._clock.stamp()

    # -- what waits ------------------------------------------------------------------------

    def retry_due(self) -> None:
        """Turn what has waited long enough into work again."""
        now = self._now()
        self._translator.expire()
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
            if self._tree.get_path(node) is not None:
                self._work.mark_dirty(node)

    def mark_later(self, node: Node, mark: Group) -> None:
        """Turn work that waited into a dirty mark; one between two places waits again, one that is gone is done."""
        if self._tree.get_path(node) is not None:
            self._work.mark_dirty(node, age=mark.age)
        elif self._tree.is_detached(node):
            self._defer(node, mark)
        self._work.finish(mark)

    def get_next_retry_s(self) -> float | None:
        """Return when `retry_due` has something to do, monotonic seconds."""
        times = [each[0] for each in self._deferred] + [each.retry_at_s for each in self.skipped.values()]
        return min(times, default=None)

    def forget(self, gone: list[Node], unheld: list[int]) -> None:
        """Nodes are gone: forget what was remembered of them and give up their watches."""
        for node in gone:
            self._work.forget(node)
            self.skipped.pop(node, None)
            self.unwatched.discard(node)
        for watch in unheld:
            self._inotify.remove_watch(watch)

    # -- private ---------------------------------------------------------------------------

    def _look(self, node: Node, group: Group, lane: MessageSource) -> Iterator[FsEvent]:
        path = self._tree.get_path(node)
        if path is None:
            return
        names = list(group.names.items())
        index = self._clock.stamp()
        fd = self._open(node, path, group)
        if fd is None:
            return
        try:
            own = os.fstat(fd)
            if not node.is_same(own.st_dev, own.st_ino):
                self._work.mark_dirty(node, age=group.age)
                return
            for start in range(0, len(names), _CHUNK_ROWS):
                if start:
                    if self._tree.get_path(node) != path:
                        return
                    index = self._clock.stamp()
                yield from self._look_at(node, path, fd, names[start : start + _CHUNK_ROWS], index, group, lane)
        finally:
            os.close(fd)

    def _look_at(
        self,
        node: Node,
        path: bytes,
        fd: int,
        names: list[tuple[bytes, bool]],
        index: int,
        group: Group,
        lane: MessageSource,
    ) -> Iterator[FsEvent]:
        rows: list[FsRow] = []
        gone: list[bytes] = []
        for name, closed in names:
            try:
                if not name:
                    rows.append(make_row(b"", os.fstat(fd), fd, name))
                    continue
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                is_directory = stat.S_ISDIR(status.st_mode)
                if is_directory:
                    child = self._get_child(node, name, status)
                    if self.needs_listing(child):
                        self._work.mark_dirty(child, age=group.age)
                else:
                    self._drop_child(node, name)
                if is_directory or self._takes is None or self._takes(name):
                    rows.append(make_row(name, status, fd, name, closed=closed))
                else:
                    gone.append(name)
            except FileNotFoundError:
                self._drop_child(node, name)
                gone.append(name)
            except OSError as err:
                if err.errno == errno.EINVAL:  # a symbolic link no more
                    self._work.look(node, name, age=group.age)
                else:
                    self._skip(node, path, err)
        if rows:
            yield self._make_update(
                rows,
                path,
                index,
                lane,
                self._inflight.add(node, [r.path for r in rows], group.since_s),
            )
            if gone and self._tree.get_path(node) == path:
                # Other lanes may have sent since: what is said now must have been looked at now.
                index = self._clock.stamp()
                gone = [name for name in gone if self._is_still_gone(node, fd, name, group)]
        if gone and self._tree.get_path(node) == path:
            yield self._make_delete(gone, path, index, self._inflight.add(node, gone, group.since_s), lane)

    def _is_still_gone(self, node: Node, fd: int, name: bytes, group: Group) -> bool:
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode) and self._takes is not None and not self._takes(name):
                return True
        except FileNotFoundError:
            return True
        except OSError:
            pass  # the look that is noted now says what is wrong with it
        self._work.look(node, name, age=group.age)
        return False

    def _list(self, at: "_Listing", found: Callable[[Node], None], mark: Group | None) -> Iterator[FsItem]:
        first = self._clock.stamp()
        status = os.fstat(at.fd)
        self.looked += 1
        times = self._get_trusted_times(status)
        at.node.times = None
        yield self._make_own_row(at.node, at.path, status, first, at)
        # Whatever is yielded may be taken much later. What moved meanwhile is listed again
        # under its new path, and what is looked at from here on must not go under the old one.
        if self._must_stop(at, mark):
            return
        try:
            with os.scandir(at.fd) as entries:
                while True:
                    index = self._clock.stamp()
                    rows = self._look_at_entries(at, entries, found, mark)
                    if not rows:
                        break
                    yield self._make_update(rows, at.path, index, at.lane, self._inflight.add(at.node, (), at.since_s))
                    if self._must_stop(at, mark):
                        return
        except OSError as err:
            self._skip(at.node, at.path, err)
            at.complete = False
        yield from self._say_gone(at, [name for name in at.known - at.seen if name in at.node.children], mark)
        if at.complete and not self._must_stop(at, mark):
            at.node.listed = first
            self.listed += 1
            position = self._inflight.add(at.node, (), at.since_s, times)
            yield Listed(index=first, message_source=at.lane, path=at.path, position=position)

    def _say_gone(self, at: "_Listing", names: list[bytes], mark: Group | None) -> Iterator[FsEvent]:
        """Look at directories that a listing did not find; what only an audit or a scan misses, nobody else tells."""
        gone: list[bytes] = []
        index = self._clock.stamp()
        for name in names:
            try:
                if at.lane in _BLIND:
                    os.stat(name, dir_fd=at.fd, follow_symlinks=False)
            except FileNotFoundError:
                self._drop_child(at.node, name)
                gone.append(name)
                continue
            except OSError:
                pass  # the look says what is wrong
            self._work.look(at.node, name, age=_age(mark))
        if gone:
            yield self._make_delete(gone, at.path, index, self._inflight.add(at.node, gone, at.since_s), at.lane)

    def _get_trusted_times(self, status: os.stat_result) -> tuple[int, int] | None:
        times = (status.st_mtime_ns, status.st_ctime_ns)
        return times if max(times) <= self._wall_ns() - _TRUSTED_AGE_NS else None

    def _announce(self, at: "_Listing", mark: Group | None) -> Generator[FsEvent, None, bool]:
        """
        Yield the rows of directories above that came to their places by a rename: files may have been there.

        Returns:
            True when the listing may begin; otherwise it is made again.
        """
        while not self._is_void(at):
            arrived = self._tree.get_arrived(at.node)
            if not arrived:
                return True
            above = arrived[0]  # one at a time: another row may get lost whenever one is taken
            path = self._tree.get_path(above)
            assert path is not None  # it is on the way to a node that has one
            index = self._clock.stamp()
            try:
                status = stat_directory(self._root, path)
            except OSError:  # on its way to another place, and all below it; the look says what is wrong
                self._work.look_self(above, age=_age(mark))
                self._defer(at.node, mark)
                return False
            yield self._make_own_row(above, path, status, index, at)
        return False

    def _make_own_row(
        self, node: Node, path: bytes, status: os.stat_result, index: int, at: "_Listing"
    ) -> FsEvent:
        node.arrived = False
        prefix = b"/" if node.parent is None else path[: -len(node.name)]
        rows = [make_row(node.name, status, at.fd, b"")]
        return self._make_update(rows, prefix, index, at.lane, self._inflight.add(node, (), at.since_s))

    def _look_at_entries(
        self,
        at: "_Listing",
        entries: Iterator["os.DirEntry[str]"],
        found: Callable[[Node], None],
        mark: Group | None,
    ) -> list[FsRow]:
        """Look at the next so many names; an empty answer says that there are no more."""
        node, fd, known, takes = at.node, at.fd, at.known, self._takes
        rows: list[FsRow] = []
        for entry in entries:
            name = encode_name(entry.name)
            self.looked += 1
            try:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    at.seen.add(name)
                    found(self._get_child(node, name, status))
                else:
                    if name in known:
                        self._drop_child(node, name)
                    if takes is not None and not takes(name):
                        continue
                rows.append(make_row(name, status, fd, name))
            except FileNotFoundError:
                continue
            except OSError as err:
                self._note_unseen(at, name, err, mark)
            if len(rows) >= _CHUNK_ROWS:
                break
        return rows

    def _note_unseen(self, at: "_Listing", name: bytes, err: OSError, mark: Group | None) -> None:
        at.seen.add(name)  # it is there, as far as is known
        if err.errno == errno.EINVAL:  # a symbolic link no more
            self._work.look(at.node, name, age=_age(mark))
        else:
            at.complete = False
            self._skip(at.node, at.path, err)

    def _is_void(self, at: "_Listing") -> bool:
        """Tell whether the directory was moved or dropped, or a part lost, since the listing began."""
        return at.node.generation != at.generation or self._tree.get_path(at.node) != at.path

    def _must_stop(self, at: "_Listing", mark: Group | None) -> bool:
        """Tell whether a listing must not go on; it is then made again."""
        if self._is_void(at):
            return True  # whoever made it void has noted the directory
        if self._tree.get_arrived(at.node):  # a row above got lost meanwhile, and goes before what is below
            self._work.mark_dirty(at.node, age=_age(mark))
            return True
        return False

    def _open(self, node: Node, path: bytes, taken: Group | None) -> int | None:
        try:
            return open_directory(self._root, path)
        except OSError as err:
            if err.errno in _GONE and node.parent is not None:
                # Not gone, only not there: an ancestor may be under way. Look again, from above.
                self._work.look_self(node, age=_age(taken))
                self._defer(node, taken)
            else:
                self._skip(node, path, err)
            return None

    def _finish(self, node: Node, taken: Group) -> None:
        """End a piece of work; one between two places goes on at the second, and barriers wait for it."""
        if self._tree.is_detached(node):
            self._defer(node, taken)
        self._work.finish(taken)

    def _defer(self, node: Node, taken: Group | None) -> None:
        """List a directory again a little later; until then the work counts as undone."""
        mark = self._work.open_group(_age(taken))
        self._deferred.append((self._now() + _LOOK_AGAIN_S, node, mark))

    def _watch(self, node: Node, fd: int) -> None:
        own = os.fstat(fd)
        if not node.is_same(own.st_dev, own.st_ino):
            for child in list(node.children.values()):
                self._translator.drop(child)
            node.void_listing()
            node.device, node.inode = own.st_dev, own.st_ino
            other = self._translator.take_moving(own.st_dev, own.st_ino)
            if other is not None:
                self._translator.drop(other)
        try:
            watch = self._inotify.add_watch(fd)
        except OSError as err:  # ENOSPC mostly; it degrades and is said, it never stops the source
            self.unwatched.add(node)
            self.watch_error = err.strerror or str(err)
            return
        self.unwatched.discard(node)
        self.skipped.pop(node, None)
        unheld = self._tree.hold_watch(node, watch)
        if unheld is not None:
            self._inotify.remove_watch(unheld)

    def _get_child(self, node: Node, name: bytes, status: os.stat_result) -> Node:
        """Return the node of a subdirectory whose row is being made; a new one if another directory is there now."""
        child = node.children.get(name)
        if child is not None:
            if not child.inode or child.is_same(status.st_dev, status.st_ino):
                child.arrived = False
                return child
            self._translator.drop(child)
        child = self._translator.take_moving(status.st_dev, status.st_ino)
        if child is None:
            return self._tree.add(node, name)
        self._tree.attach(child, node, name)
        self._translator.mark_subtree_dirty(child)
        child.arrived = False
        return child

    def _drop_child(self, node: Node, name: bytes) -> None:
        child = node.children.get(name)
        if child is not None:
            self._translator.drop(child)

    def _skip(self, node: Node, path: bytes, err: OSError) -> None:
        delay_s = _ROOT_RETRY_S if node.parent is None else self._retry_unreadable_s
        self.skipped[node] = Skipped(path, err.strerror or str(err), self._now() + delay_s)

    def _make_update(
        self, rows: list[FsRow], path: bytes, index: int, lane: MessageSource, position: bytes
    ) -> UpdateEvent[FsRow]:
        self.rows += len(rows)
        return UpdateEvent(
            index=index,
            message_source=lane,
            event_schema=FS_SCHEMA,
            table=FS_TABLE,
            rows=rows,
            prefix=_below(path),
            position=position,
        )

    def _make_delete(
        self,
        gone: list[bytes],
        path: bytes,
        index: int,
        position: bytes,
        lane: MessageSource = MessageSource.REALTIME,
    ) -> DeleteEvent[FsPath]:
        self.rows += len(gone)
        return DeleteEvent(
            index=index,
            message_source=lane,
            event_schema=FS_SCHEMA,
            table=FS_TABLE,
            rows=[FsPath(name) for name in gone],
            prefix=_below(path),
            position=position,
        )


def _age(taken: Group | None) -> int:
    """Return the age of work that follows from other work; what a snapshot or audit leaves is as old as any."""
    return 0 if taken is None else taken.age


def _below(path: bytes) -> bytes:
    return path if path.endswith(b"/") else path + b"/"
