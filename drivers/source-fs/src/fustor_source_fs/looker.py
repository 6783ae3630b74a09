"""
Look at names of a directory, as the records told; a whole directory is listed by `listing`.

Every look is stamped before it is made, goes by descriptor, and is sent under the path
that was opened. If a rename made that path wrong meanwhile, its records are still to come
and have everything below it looked at again, with higher indices.
"""

import errno
import os
import stat
from collections.abc import Generator, Iterator
from typing import Final

from fustor_event_model import FsEvent, FsRow, MessageSource
from fustor_source_fs.observer import Observer
from fustor_source_fs.pending import Group
from fustor_source_fs.scan import make_row
from fustor_source_fs.watches import Node

_CHUNK_ROWS: Final = 1_000


class Looker(Observer):
    """Looks at names that changed."""

    def look(
        self, node: Node, group: Group, lane: MessageSource = MessageSource.REALTIME
    ) -> Generator[FsEvent, None, None]:
        """Look at names of a directory and yield what is there and what is gone, as events of a lane."""
        try:
            yield from self._look(node, group, lane)
        finally:
            self._retries.finish(node, group)

    def _look(self, node: Node, group: Group, lane: MessageSource) -> Iterator[FsEvent]:
        path = self._tree.get_path(node)
        if path is None:
            return
        names = list(group.names.items())
        index = self._clock.stamp()
        fd = self._places.open(node, path, group)
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
                        self._look_again(node, names[start:], group)
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
            self._count_looks(1)
            try:
                if not name:
                    rows.append(make_row(b"", os.fstat(fd), fd, name))
                    continue
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                is_directory = stat.S_ISDIR(status.st_mode)
                if is_directory:
                    child = self._places.get_child(node, name, status, group.age)
                    if self._places.needs_listing(child):
                        self._work.mark_dirty(child, age=group.age)
                else:
                    self._places.drop_child(node, name)
                if is_directory or self._takes is None or self._takes(name):
                    rows.append(make_row(name, status, fd, name, closed=closed))
                else:
                    gone.append(name)
            except FileNotFoundError:
                self._places.drop_child(node, name)
                gone.append(name)
            except OSError as err:
                if err.errno == errno.EINVAL:  # a symbolic link no more
                    self._work.look(node, name, age=group.age)
                else:
                    self._retries.skip(node, path, err)
        if rows:
            covers = [row.path for row in rows]
            yield self._events.update(node, rows, path, index, lane, covers=covers, since_s=group.since_s)
            if gone and self._tree.get_path(node) != path:
                self._look_again(node, [(name, True) for name in gone], group)
                return
            # Other lanes may have sent since: what is said now must have been looked at now.
            index = self._clock.stamp()
            gone = [name for name in gone if self._is_still_gone(node, fd, name, group)]
        if gone:
            yield self._events.delete(node, gone, path, index, lane, since_s=group.since_s)

    def _look_again(self, node: Node, names: list[tuple[bytes, bool]], group: Group) -> None:
        """Note names of a directory that moved before something was said of them."""
        for name, closed in names:
            self._work.look(node, name, closed=closed, age=group.age)

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
