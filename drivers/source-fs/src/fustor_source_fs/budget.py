"""
Which directories keep their watches when there are not enough for all: the hot ones.

A directory is as hot as the last that is known to have happened in it: its mtime when it
was listed, or a record. A hotter one takes the watch of the coldest.
"""

import bisect
from typing import Final

from fustor_source_fs.watches import Node, Tree

_LEAST_PICKED: Final = 256


class Budget:
    """
    Finds the coldest watched directory, a batch at a time, so that each search costs little.

    Args:
        tree: The nodes and their watches.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._coldest: list[tuple[int, Node]] = []
        """The coldest last."""

    def pick(self, heat: int) -> Node | None:
        """Return the coldest directory that alone holds a watch, if it is colder; never the root."""
        node = self._find() or (self._search() and self._find())
        if not node or node.heat >= heat:
            return None
        self._coldest.pop()
        return node

    def add(self, node: Node) -> None:
        """A directory has got a watch."""
        if self._coldest and node.heat <= self._coldest[0][0] and node.parent is not None:
            bisect.insort(self._coldest, (node.heat, node), key=lambda each: -each[0])

    def _find(self) -> Node | None:
        """Return the last that is still as cold as it was found to be; it stays."""
        while self._coldest:
            heat, node = self._coldest[-1]
            if node.heat == heat and self._tree.is_sole_holder(node):
                return node
            self._coldest.pop()
        return None

    def _search(self) -> bool:
        watched = (node for node in self._tree.get_watched() if node.parent is not None)
        found = [node for node in watched if self._tree.is_sole_holder(node)]
        found.sort(key=lambda node: node.heat, reverse=True)
        self._coldest = [(node.heat, node) for node in found[-max(_LEAST_PICKED, len(found) // 64) :]]
        return bool(self._coldest)
