"""
The flight recorder: the last kernel records, watches and results of looks, in the order in which they came.

Enough to play what happened once more without a kernel: `Watched` says what a watch in a
later record means, so each half of the ring stands for itself. It holds names and what
`lstat` says, never what is in a file, nor where a symbolic link leads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from fustor_core.program.atomic import write_atomically
from fustor_event_model import FsItem, InsertEvent, MessageSource, UpdateEvent
from fustor_source_fs.records import Record
from fustor_source_fs.watches import Node, Tree

_HALF_BYTES: Final = 1 << 20
_ENTRY_BYTES: Final = 100
_ROW_BYTES: Final = 300
_PATHS: Final = ("prefix", "path", "before")
_ROWS_OF_A_WALK: Final = 16
"""More of one directory are not kept when a walk finds them: all names of the tree would drive out what happened."""
_WALKS: Final = frozenset((MessageSource.SNAPSHOT, MessageSource.AUDIT))


class Watched(msgspec.Struct, frozen=True, tag="watched", gc=False):
    """A directory is watched; paths are below the root, watches as `name_watch` names them."""

    path: bytes
    device: int
    inode: int
    watch: int


class Read(msgspec.Struct, frozen=True, tag="read", gc=False):
    """Records of a shard, as one read(2) gave them; `more` says that the next read was taken in together with it."""

    shard: int
    data: bytes
    more: bool = False


class Lost(msgspec.Struct, frozen=True, tag="lost", gc=False):
    """Records of a shard were thrown away before they were looked at."""

    shard: int


class Found(msgspec.Struct, frozen=True, tag="found"):
    """A look or a listing has found something, or that something is gone."""

    item: FsItem


class Passed(msgspec.Struct, frozen=True, tag="passed", gc=False):
    """A walk has found so many names below a prefix, more than are kept."""

    prefix: bytes
    index: int
    count: int


Entry: TypeAlias = Watched | Read | Lost | Found | Passed

_decoder: Final[msgspec.json.Decoder[Entry]] = msgspec.json.Decoder(Entry)
_encode_lines = msgspec.json.Encoder().encode_lines


class Recorder:
    """
    A ring of two halves; the older one is forgotten when the newer one is full.

    Args:
        tree: Says where a watch is.
        half_bytes: About how much memory one half may take.
    """

    def __init__(self, tree: Tree, *, half_bytes: int = _HALF_BYTES) -> None:
        self._tree = tree
        self._half_bytes = half_bytes
        self._older: list[Entry] = []
        self._newer: list[Entry] = []
        self._bytes = 0
        self._known: set[int] = set()

    def watched(self, node: Node) -> None:
        """Note which watch a node holds."""
        self._turn_over()
        self._add_watched(node)

    def read(self, shard: int, data: bytes, records: Sequence[Record], *, more: bool) -> None:
        """Note what was read, before it is applied; `records` are what it holds, `more` is as in `Read`."""
        self._turn_over()
        for watch in {record.watch for record in records} - self._known:
            for node in self._tree.get_holders(watch):
                self._add_watched(node)
        self._add(Read(shard, data, more), len(data))

    def lost(self, shard: int) -> None:
        """Note that records of a shard were thrown away."""
        self._turn_over()
        self._add(Lost(shard), 0)

    def found(self, item: FsItem) -> None:
        """Note what was found."""
        self._turn_over()
        rows = getattr(item, "rows", ())
        if len(rows) > _ROWS_OF_A_WALK and isinstance(item, UpdateEvent) and item.message_source in _WALKS:
            self._add(Passed(item.prefix, item.index, len(rows)), len(item.prefix))
        else:
            paths = sum(len(getattr(item, name, b"")) for name in _PATHS)  # each may be as long as the tree is deep
            self._add(Found(item), _ROW_BYTES * len(rows) + paths)

    def write(self, path: Path) -> None:
        """Write everything, oldest first, one JSON object a line; bytes are base64."""
        write_atomically(path, _encode_lines([*map(_redact, self._older), *map(_redact, self._newer)]))

    def _turn_over(self) -> None:
        if self._bytes > self._half_bytes:
            self._older, self._newer = self._newer, []
            self._bytes = 0
            self._known.clear()

    def _add_watched(self, node: Node) -> None:
        path = self._tree.get_path(node)
        if path is not None and node.watch is not None:
            self._known.add(node.watch)
            self._add(Watched(path, node.device, node.inode, node.watch), len(path))

    def _add(self, entry: Entry, size: int) -> None:
        self._newer.append(entry)
        self._bytes += _ENTRY_BYTES + size


def read_recording(data: bytes) -> list[Entry]:
    """
    Read what `Recorder.write` wrote.

    Raises:
        msgspec.DecodeError: It is something else.
    """
    return _decoder.decode_lines(data)


def _redact(entry: Entry) -> Entry:
    """Leave out where symbolic links lead."""
    if not (isinstance(entry, Found) and isinstance(entry.item, UpdateEvent | InsertEvent)):
        return entry
    rows = [row if row.target is None else msgspec.structs.replace(row, target=b"") for row in entry.item.rows]
    return Found(msgspec.structs.replace(entry.item, rows=rows))
