"""
The tree of watched directories.

A node is one directory at one place; its path is what its ancestors say now. Files have
no nodes. One watch descriptor may belong to several nodes: a bind mount shows one inode
at two places, and inotify knows inodes only.
"""

from collections.abc import Iterator

from fustor_source_fs.shards import get_shard


class Node:
    """
    One directory of the tree, or one that is detached from it for the moment.

    Args:
        name: Its name in the parent; empty for the root.
        parent: The node above; None for the root and for detached nodes.
    """

    __slots__ = (
        "arrived",
        "children",
        "device",
        "generation",
        "heat",
        "inode",
        "listed",
        "name",
        "parent",
        "times",
        "told",
        "watch",
    )

    def __init__(self, name: bytes, parent: "Node | None") -> None:
        self.name = name
        self.parent = parent
        self.children: dict[bytes, Node] = {}
        self.watch: int | None = None
        self.device = 0
        self.inode = 0
        self.listed = 0
        """Index of the last complete listing, negative if it was not sent; 0 if there was none."""
        self.times: tuple[int, int] | None = None
        """mtime and ctime, nanoseconds, as its last acknowledged listing began; None if they say nothing."""
        self.told = 0
        """Which state its parent's listing told of in a snapshot, as a hash; 0 if that is no longer to be relied on."""
        self.heat = 0
        """When something was last known to happen in it, whole seconds since the epoch."""
        self.generation = 0
        """Raised by `void_listing`."""
        self.arrived = False
        """
        Has come to this path by a rename of which the receiver is not told, or its row was lost: nothing below it
        is sent before its own row. While it is detached: the receiver is not to be told when it comes to a place.
        """

    def __repr__(self) -> str:
        return f"<Node {self.name!r} {self.device}:{self.inode} watch={self.watch}>"

    def void_listing(self) -> None:
        """Keep a listing that is under way or not acknowledged from promising anything: part of it was lost."""
        self.generation += 1
        self.times = None

    def is_same(self, device: int, inode: int) -> bool:
        """Tell whether this node stands for that inode."""
        return self.inode == inode and self.device == device


class Tree:
    """All nodes, and who holds which watch. Makes no system call."""

    def __init__(self) -> None:
        self.root = Node(b"", None)
        self.size = 1
        self._holders: dict[int, Node | tuple[Node, ...]] = {}
        self._detached: set[Node] = set()

    @property
    def watch_count(self) -> int:
        """Number of watches that at least one node holds."""
        return len(self._holders)

    def get_path(self, node: Node) -> bytes | None:
        """Return the node's path below the root (`b"/"` for the root), or None if it is detached."""
        parts: list[bytes] = []
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        if node is not self.root:
            return None
        parts.reverse()
        return b"/" + b"/".join(parts)

    def get_arrived(self, node: Node) -> list[Node]:
        """Return the nodes above this one whose rows must go before its own, the topmost first."""
        arrived: list[Node] = []
        above = node.parent
        while above is not None:
            if above.arrived:
                arrived.append(above)
            above = above.parent
        arrived.reverse()
        return arrived

    def is_settled(self, node: Node) -> bool:
        """Tell whether the rows of a node, and of all above it, went to the receiver."""
        return not node.arrived and not self.get_arrived(node)

    def get_top(self, node: Node) -> Node:
        """Return the topmost above a node: the root, itself or one that is detached or was dropped."""
        while node.parent is not None:
            node = node.parent
        return node

    def is_detached(self, node: Node) -> bool:
        """Tell whether a node is between two places; one that was dropped is not."""
        return self.get_top(node) in self._detached

    def doubt(self, node: Node) -> None:
        """Note that the receiver may not have all of a detached directory: that is listed once it is at a place."""
        self.get_top(node).arrived = True

    def find(self, path: bytes) -> tuple[Node, list[bytes]]:
        """
        Walk down as far as there are nodes.

        Returns:
            The deepest node on the way, and the names below it that have none.
        """
        node = self.root
        names = [name for name in path.split(b"/") if name]
        for depth, name in enumerate(names):
            child = node.children.get(name)
            if child is None:
                return node, names[depth:]
            node = child
        return node, []

    def walk(self, node: Node) -> Iterator[Node]:
        """Yield a node and all below it, parents first."""
        stack = [node]
        while stack:
            current = stack.pop()
            yield current
            stack.extend(current.children.values())

    def is_below(self, node: Node, ancestor: Node) -> bool:
        """Tell whether a node is `ancestor` or below it."""
        current: Node | None = node
        while current is not None:
            if current is ancestor:
                return True
            current = current.parent
        return False

    def add(self, parent: Node, name: bytes) -> Node:
        """Make a node; the place must be free."""
        node = Node(name, parent)
        node.generation = parent.generation
        parent.children[name] = node
        self.size += 1
        return node

    def detach(self, node: Node) -> None:
        """Take a node out of its parent; it keeps its subtree and its watches."""
        assert node.parent is not None
        del node.parent.children[node.name]
        node.parent = None
        self._detached.add(node)

    def attach(self, node: Node, parent: Node, name: bytes) -> None:
        """Put a detached node at a free place; if the receiver is not told of that, `unsettle` it."""
        self._detached.discard(node)
        node.parent = parent
        node.name = name
        parent.children[name] = node

    def unsettle(self, node: Node) -> None:
        """Note that the receiver has nothing of a node and all below it; every listing under way there is void."""
        for each in self.walk(node):
            each.arrived = True
            each.void_listing()

    def drop(self, node: Node) -> tuple[list[Node], list[int]]:
        """
        Remove a node and its subtree for good.

        Returns:
            The removed nodes, and the watches that nobody holds any more.
        """
        if node.parent is not None:
            self.detach(node)
        self._detached.discard(node)
        gone = list(self.walk(node))
        unheld = [watch for each in gone if (watch := self.release_watch(each)) is not None]
        self.size -= len(gone)
        return gone, unheld

    def hold_watch(self, node: Node, watch: int) -> int | None:
        """Note that a node holds a watch; returns its former watch if that has no holder now."""
        if node.watch == watch:
            return None
        unheld = self.release_watch(node)
        node.watch = watch
        holders = self._holders.get(watch)
        if holders is None:
            self._holders[watch] = node
        elif isinstance(holders, Node):
            self._holders[watch] = (holders, node)
        else:
            self._holders[watch] = (*holders, node)
        return unheld

    def release_watch(self, node: Node) -> int | None:
        """Take a node's watch away; returns the watch if nobody holds it now."""
        watch = node.watch
        if watch is None:
            return None
        node.watch = None
        holders = self._holders[watch]
        left = () if isinstance(holders, Node) else tuple(each for each in holders if each is not node)
        if not left:
            del self._holders[watch]
            return watch
        self._holders[watch] = left[0] if len(left) == 1 else left
        return None

    def get_holders(self, watch: int) -> tuple[Node, ...]:
        """Return the nodes that hold a watch; none for a watch that was given up."""
        holders = self._holders.get(watch)
        if holders is None:
            return ()
        return (holders,) if isinstance(holders, Node) else holders

    def get_shard(self, shard: int) -> list[Node]:
        """Return the nodes with a watch in a shard that are in the tree, no order."""
        return [
            node
            for watch in self._holders
            if get_shard(watch) == shard
            for node in self.get_holders(watch)
            if self.get_path(node) is not None
        ]

    def get_watched(self) -> Iterator[Node]:
        """Yield the nodes that hold watches."""
        for watch in self._holders:
            yield from self.get_holders(watch)

    def is_sole_holder(self, node: Node) -> bool:
        """Tell whether a node holds a watch that would be free without it."""
        return node.watch is not None and self._holders[node.watch] is node

    def forget_watch(self, watch: int) -> tuple[Node, ...]:
        """The kernel has removed a watch: take it from its holders and return them."""
        holders = self.get_holders(watch)
        for node in holders:
            self.release_watch(node)
        return holders
