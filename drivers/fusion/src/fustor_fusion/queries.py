"""Questions to one view; each runs on a thread of its own, against one read transaction."""

import fnmatch
import re
import stat
from collections.abc import Iterator, Sequence
from typing import Any

import apsw
import msgspec

from fustor_fusion.paths import to_text
from fustor_fusion.rules import SUSPECT
from fustor_fusion.schema import ROOT_ID, read_meta
from fustor_fusion.totals import Sums, read_sums

_CHUNK_BYTES = 128 * 1024
_encode = msgspec.json.encode
_NODE = "name, id, mode, size, mtime_ns, ctime_ns, flags"
_NodeColumns = tuple[bytes, int | None, int, int, int, int, int]
_HAS_CHILDREN = "(id IS NULL OR NOT flags & 2 OR EXISTS (SELECT 1 FROM nodes AS c WHERE c.parent = nodes.id))"


class TreeNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node as `tree` and `search` give it."""

    name: str
    content_type: str
    path: str
    size: int | None = None
    modified_time: float | None = None
    created_time: float | None = None
    integrity_suspect: bool | None = None
    raw: str | None = None


def find_node(db: apsw.Connection, names: Sequence[bytes]) -> _NodeColumns | None:
    """Return one node by the names that lead to it; the root for none."""
    parent = 0
    node: _NodeColumns | None = None
    for name in (b"", *names):
        rows: list[Any] = db.execute(f"SELECT {_NODE} FROM nodes WHERE parent=? AND name=?", (parent, name)).fetchall()
        if not rows or (node is not None and node[1] is None):
            return None
        node = rows[0]
        parent = -1 if rows[0][1] is None else rows[0][1]
    return node


def read_tree(
    db: apsw.Connection, names: Sequence[bytes], node: _NodeColumns, *,
    max_depth: int | None, only_path: bool, tail: bytes,
) -> Iterator[bytes]:
    """
    Give a subtree as one JSON object, in pieces.

    Args:
        db: Inside a read transaction.
        names: The way to the node.
        node: As `find_node` gave it.
        max_depth: How many levels below the node; None for all.
        only_path: Without size, times and the suspect flag.
        tail: Members to add to the outermost object, `,"key":value` each.
    """
    parts: list[bytes] = []
    size = 0
    path = b"/" + b"/".join(names)
    stack: list[tuple[Iterator[_NodeColumns], bytes, bool]] = []

    def opening(path: bytes, node: _NodeColumns, depth: int) -> bytes:
        text = _encode(_describe(path, node, only_path=only_path))
        if node[1] is None or (max_depth is not None and depth >= max_depth):
            return text
        stack.append((_list_children(db, node[1]), b"" if path == b"/" else path, True))
        return text[:-1] + b',"children":['

    parts.append(opening(path, node, 0))
    while stack:
        children, above, first = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            parts.append(b"]}")
            continue
        if first:
            stack[-1] = (children, above, False)
        else:
            parts.append(b",")
        parts.append(opening(above + b"/" + child[0], child, len(stack)))
        size += len(parts[-1])
        if size > _CHUNK_BYTES:
            # The last brace may turn out to be the outermost one, which gets the tail.
            yield b"".join(parts[:-1])
            parts, size = parts[-1:], 0
    whole = b"".join(parts)
    yield whole[:-1] + tail + b"}"


def _list_children(db: apsw.Connection, id_: int) -> Iterator[_NodeColumns]:
    return iter(db.execute(f"SELECT {_NODE} FROM nodes WHERE parent=? AND {_HAS_CHILDREN} ORDER BY name", (id_,)))


def _describe(path: bytes, node: _NodeColumns, *, only_path: bool) -> TreeNode:
    name, _, mode, size, mtime_ns, ctime_ns, flags = node
    text, raw = to_text(path)
    kind = "directory" if stat.S_ISDIR(mode) else "symlink" if stat.S_ISLNK(mode) else "file"
    if only_path:
        return TreeNode(to_text(name)[0], kind, text, raw=raw)
    return TreeNode(to_text(name)[0], kind, text, size, mtime_ns / 1e9, ctime_ns / 1e9, bool(flags & SUSPECT), raw)


def search(db: apsw.Connection, pattern: str) -> Iterator[bytes]:
    """
    Give the files that match as one JSON array, in pieces.

    A file matches if the glob fits its whole path or its name, case-sensitively, or if the pattern
    occurs in the name, ignoring case. `*` crosses slashes. An empty pattern fits all.
    """
    fits = re.compile(fnmatch.translate(pattern)).match
    lowered = pattern.lower()
    parts: list[bytes] = [b"["]
    size = 0
    first = True
    stack: list[tuple[bytes, Iterator[_NodeColumns]]] = [(b"", _list_children(db, ROOT_ID))]
    while stack:
        above, children = stack[-1]
        node = next(children, None)
        if node is None:
            stack.pop()
            continue
        path = above + b"/" + node[0]
        if node[1] is not None:
            stack.append((path, _list_children(db, node[1])))
            continue
        name = to_text(node[0])[0]
        if lowered in name.lower() or fits(name) or fits(to_text(path)[0]):
            parts.append(b"" if first else b",")
            parts.append(_encode(_describe(path, node, only_path=False)))
            first = False
            size += len(parts[-1])
            if size > _CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
    parts.append(b"]")
    yield b"".join(parts)


class Stats(msgspec.Struct, frozen=True):
    """What a view holds, as of one transaction."""

    sums: Sums
    suspects: int
    newest_index: int
    generation: str


def read_stats(db: apsw.Connection) -> Stats:
    """Return what a view holds; takes no longer for a larger view."""
    (suspects,), = db.execute("SELECT count(*) FROM nodes WHERE flags & 3 AND flags & 1")
    (newest,), = db.execute("SELECT ifnull(max(newest), 0) FROM owners")
    return Stats(read_sums(db, ROOT_ID), suspects, newest, read_meta(db)["generation"])


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much a node and all below it amount to; see `Sums`."""

    path: str
    files: int
    directories: int
    bytes: int
    raw: str | None = None


def read_usage(db: apsw.Connection, names: Sequence[bytes]) -> Usage | None:
    """Return how much there is at a path; a file is one file. Takes no longer for a larger subtree."""
    node = find_node(db, names)
    if node is None:
        return None
    text, raw = to_text(b"/" + b"/".join(names))
    sums = Sums(1, 0, node[3]) if node[1] is None else read_sums(db, node[1])
    return Usage(text, sums.files, sums.directories, sums.bytes, raw)
