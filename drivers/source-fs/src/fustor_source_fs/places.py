"""
Open and watch directories, and keep the tree of nodes true to what is found in them.

What is opened is watched and listed by its descriptor: by its path that could be three
different directories while an ancestor is renamed.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Sequence
from typing import Final

from fustor_source_fs.budget import Budget
from fustor_source_fs.pending import Group, Work
from fustor_source_fs.recorder import Recorder
from fustor_source_fs.retries import Retries, get_age
from fustor_source_fs.scan import open_directory, stat_directory
from fustor_source_fs.shards import Shards
from fustor_source_fs.translate import Translator
from fustor_source_fs.watches import Node, Tree

_GONE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


class Places:
    """
    The directories of the tree as the file system has them.

    Args:
        root: The source's root.
        tree, work, translator, retries: Shared with the driver, same thread.
        shards: Watches are added here.
        recorder: Told of them.
    """

    def __init__(
        self,
        root: bytes,
        *,
        tree: Tree,
        work: Work,
        translator: Translator,
        retries: Retries,
        shards: Shards,
        recorder: Recorder,
    ) -> None:
        self._root = root
        self._tree = tree
        self._work = work
        self._translator = translator
        self._retries = retries
        self._shards = shards
        self._recorder = recorder
        self._budget = Budget(tree)
        self._may_hope = True
        self._may_swap = True
        self.polled: dict[Node, int] = {}
        """Directories of which no record tells, with the digest that `polling` keeps; 0 before its first look."""
        self.silent_devices: frozenset[int] = frozenset()
        """Devices whose files others change without a record here."""
        self.watch_error = ""

    def needs_listing(self, child: Node) -> bool:
        """Tell whether a directory that was found must be listed: it is new, or neither seen to nor readable so far."""
        if not child.listed or child in self._retries.skipped:
            return True
        return child.watch is None and child not in self.polled

    def open(self, node: Node, path: bytes, taken: Group | None) -> int | None:
        """
        Open a directory for the work that was taken; None if that is to be done later.

        What the path leads to is found in the directory that the node's parent stands for, or not at all: while
        the records of a rename above are still to come, the path may be that of a directory in another one, and
        what is said of that would go with the parent when the receiver is told where that came.
        """
        above = None if node.parent is None else (node.parent.device, node.parent.inode)
        try:
            return open_directory(self._root, path, above=above)
        except OSError as err:
            if err.errno in _GONE and node.parent is not None:
                # Not gone, only not there: an ancestor may be under way. Look again, from above.
                self._work.look_self(node, age=get_age(taken))
                self._retries.defer(node, taken)
            else:
                self._retries.skip(node, path, err)
            return None

    def stat(self, node: Node, path: bytes) -> os.stat_result | None:
        """Look at a directory, which need not be readable, at its node's path; None if it is not there."""
        try:
            status = stat_directory(self._root, path)
        except OSError:
            return None
        return status if node.is_same(status.st_dev, status.st_ino) else None

    def watch(self, node: Node, fd: int) -> None:
        """Watch the directory that was opened at a node's path, whichever it is by now."""
        own = os.fstat(fd)
        self.identify(node, own.st_dev, own.st_ino)
        self.warm(node, own.st_mtime)
        self._retries.skipped.pop(node, None)
        watch = self._add_watch(node, fd, own)
        if watch is None or own.st_dev in self.silent_devices:
            self.polled.setdefault(node, 0)
        else:
            self.polled.pop(node, None)
        unheld = self._tree.release_watch(node) if watch is None else self._tree.hold_watch(node, watch)
        self._recorder.watched(node)
        if unheld is not None:
            self._shards.remove_watch(unheld)

    def identify(self, node: Node, device: int, inode: int) -> None:
        """Note which directory is at a node's place; another one than before begins with nothing."""
        if node.is_same(device, inode):
            return
        for child in list(node.children.values()):
            self._translator.drop(child)
        self._translator.doubt_leaving(node)
        node.void_listing()
        node.device, node.inode = device, inode
        other = self._translator.take_moving(device, inode)
        if other is not None:
            self._translator.drop(other)

    def hope(self) -> None:
        """Try again whether there are watches to be had, since others may have given some back."""
        self._may_hope = True
        self._may_swap = True
        self._shards.grow()

    def may_be_watched(self, node: Node) -> bool:
        """Tell whether to try to watch a directory that is not watched and has not changed."""
        return self._may_hope and node.watch is None

    def warm(self, node: Node, at_s: float) -> None:
        """Something happened in a directory then, in seconds since the epoch; what is ahead of the clock is now."""
        node.heat = max(node.heat, int(min(at_s, time.time())))

    def get_unwatched(self) -> int:
        """Return how many directories are listed and not watched."""
        return sum(node.watch is None for node in self.polled)

    @contextlib.contextmanager
    def opened(self, path: bytes) -> Iterator[int]:
        """Open a directory for a look that promises nothing; raises as `open_directory` does."""
        fd = open_directory(self._root, path)
        try:
            yield fd
        finally:
            os.close(fd)

    def _add_watch(self, node: Node, fd: int, own: os.stat_result) -> int | None:
        """
        Add a watch, if need be in the place of a colder directory's; None if there is none to be had.

        What a colder one gave up may not be had either: another process took it, or the limit is lower by now.
        Then no other gives up its watch until there is hope again, lest all do for nothing.
        """
        given_up = False
        while True:
            try:
                watch = self._shards.add_watch(fd, own.st_dev, own.st_ino)
                self._budget.add(node)
                return watch
            except OSError as err:  # ENOSPC mostly; it degrades and is said, it never stops the source
                self.watch_error = err.strerror or str(err)
            self._may_hope = False
            self._may_swap = self._may_swap and not given_up
            colder = self._budget.pick(node.heat) if self._may_swap else None
            unheld = None if colder is None else self._tree.release_watch(colder)
            if colder is None or unheld is None:
                return None
            given_up = True
            self.polled[colder] = 0
            self._shards.remove_watch(unheld)

    def get_child(self, node: Node, name: bytes, status: os.stat_result, age: int) -> Node:
        """
        Return the node of a subdirectory whose row is being made; a new one if another directory is there now.

        Args:
            age: Of the work that has it looked at; what follows from that is as old.
        """
        self._translator.doubt_leaving(node, name)
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
        self._translator.list_anew(child, age=age)
        child.arrived = False
        return child

    def miss_children(self, node: Node, names: Sequence[bytes], age: int) -> None:
        """
        Note that a listing, which is told now, did not find these subdirectories: they went, or are on their way.

        With it the receiver drops what is below them. One that comes, or comes back, is listed anew.
        """
        self._translator.doubt_leaving(node)
        for name in names:
            self._translator.list_anew(node.children[name], age=age)

    def drop_child(self, node: Node, name: bytes) -> None:
        """Remove the node of a name at which there is no directory, if it has one."""
        self._translator.doubt_leaving(node, name)
        child = node.children.get(name)
        if child is not None:
            self._translator.drop(child)

    def forget(self, gone: list[Node], unheld: list[int]) -> None:
        """Nodes are gone: forget what was remembered of them and give up their watches."""
        for node in gone:
            self._work.forget(node)
            self._retries.skipped.pop(node, None)
            self.polled.pop(node, None)
        for watch in unheld:
            self._shards.remove_watch(watch)
