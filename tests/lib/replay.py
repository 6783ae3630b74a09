"""Play a recording of the fs source once more: its records and looks, without a kernel."""

from collections.abc import Iterable
from typing import Any, cast

from fustor_event_model import DeleteEvent, FsItem, InsertEvent, UpdateEvent
from fustor_source_fs.pending import Work
from fustor_source_fs.places import Places
from fustor_source_fs.recorder import Entry, Found, Lost, Passed, Read, Recorder, Watched
from fustor_source_fs.records import Record, join_reads, parse_records
from fustor_source_fs.retries import Retries
from fustor_source_fs.translate import Translator
from fustor_source_fs.watches import Node, Tree
from modelview import ModelView


class _NoKernel:
    """Has no watches to give up."""

    def remove_watch(self, watch: int) -> None:
        pass


class _Status:
    """What a row says of a directory's identity."""

    def __init__(self, device: int, inode: int) -> None:
        self.st_dev, self.st_ino = device, inode


class Replay:
    """
    The tree of nodes and the translator, driven by a recording.

    Attributes:
        asked: The paths that the records have made the source look at; a directory that was to be
            listed ends with a slash.
        view: What a receiver holds that was told what was found, and nothing else.
    """

    def __init__(self, recording: Iterable[Entry] = ()) -> None:
        self.tree = Tree()
        self.asked: set[bytes] = set()
        self.view = ModelView()
        self.view.compares = True
        self._work = Work(1_000_000, lambda: 0.0)
        self._translator = Translator(self.tree, self._work, self._forget, lambda: 0.0)
        self._places = Places(
            b"/nonexistent",
            tree=self.tree,
            work=self._work,
            translator=self._translator,
            retries=Retries(self.tree, self._work, lambda: 0.0, 1.0),
            shards=cast(Any, _NoKernel()),
            recorder=Recorder(self.tree),
        )
        self._reads: list[tuple[int, list[Record]]] = []
        for entry in recording:
            self.play(entry)

    def play(self, entry: Entry) -> None:
        """Play one entry."""
        match entry:
            case Watched():
                self._watch(entry)
            case Read():
                self._reads.append((entry.shard, parse_records(entry.data, entry.shard)))
                if not entry.more:
                    self._translator.feed(join_reads(self._reads))
                    self._reads.clear()
                    self._note_asked()
            case Lost():
                self._translator.overflow(entry.shard)
                self._note_asked()
            case Found():
                self._find(entry.item)
            case Passed():
                pass  # it does not say which names

    def get_watches(self) -> dict[int, set[bytes | None]]:
        """Return the paths at which each watch is."""
        return get_watches(self.tree)

    def is_asked(self, path: bytes) -> bool:
        """Tell whether the source was made to look at a path, or to list a directory above it."""
        parts = path.split(b"/")
        above = (b"/".join(parts[:length]) + b"/" for length in range(1, len(parts)))
        return path in self.asked or any(each in self.asked for each in above)

    def _watch(self, entry: Watched) -> None:
        node = self.tree.root
        for name in [name for name in entry.path.split(b"/") if name]:
            node = node.children.get(name) or self.tree.add(node, name)
        self._places.identify(node, entry.device, entry.inode)
        self.tree.hold_watch(node, entry.watch)
        node.listed = 1

    def _find(self, item: FsItem) -> None:
        self.view.apply([item])
        if not isinstance(item, InsertEvent | UpdateEvent | DeleteEvent):
            return
        node, rest = self.tree.find(item.prefix)
        if rest:
            return  # above or beside what the recording knows
        for row in item.rows:
            if isinstance(item, DeleteEvent) or not row.is_directory:
                self._places.drop_child(node, row.path)
            elif row.path:
                status = cast(Any, _Status(row.device, row.inode))
                self._places.get_child(node, row.path, status, 0)
        self._note_asked()

    def _note_asked(self) -> None:
        while (group := self._work.take_group()) is not None:
            self.asked.update(self._name(group[0], name) for name in group[1].names)
        while (mark := self._work.take_dirty()) is not None:
            self.asked.add(self._name(mark[0], b""))

    def _name(self, node: Node, name: bytes) -> bytes:
        path = self.tree.get_path(node) or b""
        return path.rstrip(b"/") + b"/" + name

    def _forget(self, gone: list[Node], unheld: list[int]) -> None:
        self._places.forget(gone, unheld)


def get_watches(tree: Tree) -> dict[int, set[bytes | None]]:
    """Return the paths at which each watch of a tree is."""
    watches: dict[int, set[bytes | None]] = {}
    for node in tree.walk(tree.root):
        if node.watch is not None:
            watches.setdefault(node.watch, set()).add(tree.get_path(node))
    return watches
