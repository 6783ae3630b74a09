"""
Open and watch directories, and keep the tree of nodes true to what is found in them.

What is opened is watched and listed by its descriptor: by its path that could be three
different directories while an ancestor is renamed.
"""

import errno
import os
from typing import Final

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
        self.unwatched: set[Node] = set()
        self.watch_error = ""

    def needs_listing(self, child: Node) -> bool:
        """Tell whether a directory that was found must be listed: it is new, or not watched or readable so far."""
        return not child.listed or child.watch is None or child in self._retries.skipped

    def open(self, node: Node, path: bytes, taken: Group | None) -> int | None:
        """Open a directory for the work that was taken; None if that is to be done later."""
        try:
            return open_directory(self._root, path)
        except OSError as err:
            if err.errno in _GONE and node.parent is not None:
                # Not gone, only not there: an ancestor may be under way. Look again, from above.
                self._work.look_self(node, age=get_age(taken))
                self._retries.defer(node, taken)
            else:
                self._retries.skip(node, path, err)
            return None

    def stat(self, path: bytes) -> os.stat_result:
        """Look at a directory, which need not be readable; raises as `stat_directory` does."""
        return stat_directory(self._root, path)

    def watch(self, node: Node, fd: int) -> None:
        """Watch the directory that was opened at a node's path, whichever it is by now."""
        own = os.fstat(fd)
        self.identify(node, own.st_dev, own.st_ino)
        try:
            watch = self._shards.add_watch(fd, own.st_dev, own.st_ino)
        except OSError as err:  # ENOSPC mostly; it degrades and is said, it never stops the source
            self.unwatched.add(node)
            self.watch_error = err.strerror or str(err)
            return
        self.unwatched.discard(node)
        self._retries.skipped.pop(node, None)
        unheld = self._tree.hold_watch(node, watch)
        self._recorder.watched(node)
        if unheld is not None:
            self._shards.remove_watch(unheld)

    def identify(self, node: Node, device: int, inode: int) -> None:
        """Note which directory is at a node's place; another one than before begins with nothing."""
        if node.is_same(device, inode):
            return
        for child in list(node.children.values()):
            self._translator.drop(child)
        node.void_listing()
        node.device, node.inode = device, inode
        other = self._translator.take_moving(device, inode)
        if other is not None:
            self._translator.drop(other)

    def get_child(self, node: Node, name: bytes, status: os.stat_result, age: int) -> Node:
        """
        Return the node of a subdirectory whose row is being made; a new one if another directory is there now.

        Args:
            age: Of the work that has it looked at; what follows from that is as old.
        """
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
        self._translator.mark_subtree_dirty(child, age=age)
        child.arrived = False
        return child

    def drop_child(self, node: Node, name: bytes) -> None:
        """Remove the node of a name at which there is no directory, if it has one."""
        child = node.children.get(name)
        if child is not None:
            self._translator.drop(child)

    def forget(self, gone: list[Node], unheld: list[int]) -> None:
        """Nodes are gone: forget what was remembered of them and give up their watches."""
        for node in gone:
            self._work.forget(node)
            self._retries.skipped.pop(node, None)
            self.unwatched.discard(node)
        for watch in unheld:
            self._shards.remove_watch(watch)
