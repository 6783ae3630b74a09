"""Questions to one view; each runs on a thread of its own, against one read transaction."""

import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import apsw
import msgspec

from fustor_fusion.paths import to_text
from fustor_fusion.rules import SUSPECT
from fustor_fusion.schema import ROOT_ID, read_meta
from fustor_fusion.times import to_seconds
from fustor_fusion.totals import Sums, find_path, read_sums

CHUNK_BYTES = 128 * 1024
_encode = msgspec.json.encode
NODE = "name, id, mode, size, mtime_ns, ctime_ns, flags"
NodeColumns = tuple[bytes, int | None, int, int, int, int, int]
_HAS_CHILDREN = "(id IS NULL OR NOT flags & 2 OR EXISTS (SELECT 1 FROM nodes AS c WHERE c.parent = nodes.id))"


ContentType = Literal["file", "directory", "symlink"]


class TreeNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node as `tree` and `search` give it."""

    name: str
    content_type: ContentType
    path: str
    size: int | None = None
    modified_time: float | None = None
    created_time: float | None = None
    integrity_suspect: bool | None = None
    raw: str | None = None


class Page(msgspec.Struct, frozen=True):
    """
    A part of a directory's children, by their names.

    Args:
        after: The children behind this name; empty for all.
        last: The last one; None for no end.
    """

    after: bytes = b""
    last: bytes | None = None


_WHOLE = Page()


def find_directory(db: apsw.Connection, names: Sequence[bytes]) -> int | None:
    """Return the number of a directory by the names that lead to it; None when there is none."""
    parent = ROOT_ID
    for name in names:
        rows: list[Any] = db.execute("SELECT id FROM nodes WHERE parent=? AND name=?", (parent, name)).fetchall()
        if not rows or rows[0][0] is None:
            return None
        parent = rows[0][0]
    return parent


def find_place(db: apsw.Connection, names: Sequence[bytes]) -> tuple[int, bytes] | None:
    """Return where a node's row is: the number of its directory, and its name there; None when there is no such."""
    if not names:
        return 0, b""
    directory = find_directory(db, names[:-1])
    return None if directory is None else (directory, names[-1])


def find_node(db: apsw.Connection, names: Sequence[bytes]) -> NodeColumns | None:
    """Return one node by the names that lead to it; the root for none."""
    place = find_place(db, names)
    if place is None:
        return None
    rows: list[Any] = db.execute(f"SELECT {NODE} FROM nodes WHERE parent=? AND name=?", place).fetchall()
    return rows[0] if rows else None


def find_page(db: apsw.Connection, node: NodeColumns, *, after: bytes, limit: int) -> Page:
    """Choose the children behind a name, at most `limit`; `last` is None when these are all that are left."""
    rows: list[Any] = db.execute(
        f"SELECT name FROM nodes WHERE parent=? AND name>? AND {_HAS_CHILDREN} ORDER BY name LIMIT 2 OFFSET ?",
        (node[1], after, limit - 1)).fetchall()
    return Page(after, rows[0][0] if len(rows) == 2 else None)


def read_tree(
    db: apsw.Connection, names: Sequence[bytes], node: NodeColumns, *,
    max_depth: int | None, only_path: bool, tail: bytes, page: Page,
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
        page: Which of the node's own children; those further below are all there.
    """
    parts: list[bytes] = []
    size = 0
    path = b"/" + b"/".join(names)
    stack: list[tuple[Iterator[NodeColumns], bytes, bool]] = []

    def opening(path: bytes, node: NodeColumns, depth: int) -> bytes:
        text = _encode(describe_node(path, node, only_path=only_path))
        if node[1] is None or (max_depth is not None and depth >= max_depth):
            return text
        children = _list_children(db, node[1], _WHOLE if stack else page)
        stack.append((children, b"" if path == b"/" else path, True))
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
        if size > CHUNK_BYTES:
            # The last brace may turn out to be the outermost one, which gets the tail.
            yield b"".join(parts[:-1])
            parts, size = parts[-1:], 0
    whole = b"".join(parts)
    yield whole[:-1] + tail + b"}"


def _list_children(db: apsw.Connection, id_: int, page: Page = _WHOLE) -> Iterator[NodeColumns]:
    return iter(db.execute(
        f"SELECT {NODE} FROM nodes WHERE parent=?1 AND name>?2 AND (?3 IS NULL OR name<=?3) AND {_HAS_CHILDREN}"
        " ORDER BY name", (id_, page.after, page.last)))


def describe_node(path: bytes, node: NodeColumns, *, only_path: bool) -> TreeNode:
    """Describe a node as `tree` and `search` give it."""
    name, _, mode, size, mtime_ns, ctime_ns, flags = node
    text, raw = to_text(path)
    kind: ContentType = "directory" if stat.S_ISDIR(mode) else "symlink" if stat.S_ISLNK(mode) else "file"
    if only_path:
        return TreeNode(to_text(name)[0], kind, text, raw=raw)
    return TreeNode(to_text(name)[0], kind, text, size, to_seconds(mtime_ns), to_seconds(ctime_ns),
                    bool(flags & SUSPECT), raw)


class Suspect(msgspec.Struct, frozen=True):
    """A file that was seen being written, and not yet seen closed or unchanged; that has no time at which it ends."""

    path: str
    suspect_until: None = None
    raw: str | msgspec.UnsetType = msgspec.UNSET


def read_suspects(db: apsw.Connection) -> list[Suspect]:
    """Return every suspect file, sorted by the bytes of its path."""
    rows: list[Any] = db.execute("SELECT parent, name FROM nodes WHERE flags & 3 AND flags & 1").fetchall()
    get_path = make_path_finder(db)
    found = sorted(get_path(parent) + b"/" + name for parent, name in rows)
    return [Suspect(text, raw=raw or msgspec.UNSET) for text, raw in map(to_text, found)]


def find_suspects(db: apsw.Connection, *, limit: int) -> list[bytes]:
    """Return the paths of suspect files, those first that were not looked at for the longest."""
    rows: list[Any] = db.execute(
        "SELECT parent, name FROM nodes WHERE flags & 3 AND flags & 1 ORDER BY idx LIMIT ?", (limit,)).fetchall()
    get_path = make_path_finder(db)
    return [get_path(parent) + b"/" + name for parent, name in rows]


def make_path_finder(db: apsw.Connection) -> Callable[[int], bytes]:
    """Make a function that returns the path of a directory by its number, the root's being empty, and remembers it."""
    paths: dict[int, bytes] = {ROOT_ID: b""}

    def get_place(id_: int) -> tuple[int, bytes]:
        place: Any
        place, = db.execute("SELECT parent, name FROM totals WHERE id=?", (id_,)).fetchall()
        return place[0], place[1]

    return lambda id_: find_path(id_, paths, get_place)


def read_blind_spots(db: apsw.Connection) -> Iterator[bytes]:
    """Give the files that only an audit or a scan saw, and the names that these found gone, as one JSON object."""
    get_path = make_path_finder(db)
    (count,), = db.execute("SELECT count(*) FROM nodes WHERE flags & 8 AND id IS NULL")
    yield b'{"additions_count":%d,"additions":[' % count
    parent: Any
    rows = db.execute(f"SELECT parent, {NODE} FROM nodes WHERE flags & 8 AND id IS NULL ORDER BY parent, name")
    for number, (parent, *columns) in enumerate(rows):
        node: Any = columns
        text = _encode(describe_node(get_path(parent) + b"/" + node[0], node, only_path=False))
        yield b"," + text if number else text
    # What lay in a directory that is gone itself is part of that.
    gone: list[Any] = db.execute(
        "SELECT b.parent, b.name FROM blind_deletions AS b JOIN totals ON totals.id = b.parent").fetchall()
    deletions = sorted(get_path(parent) + b"/" + name for parent, name in gone)
    yield b'],"deletion_count":%d,"deletions":%b}' % (len(deletions), _encode([to_text(path)[0] for path in deletions]))


class Stats(msgspec.Struct, frozen=True):
    """What a view holds, as of one transaction."""

    sums: Sums
    suspects: int
    blind_spots: int
    newest_index: int
    generation: str


def read_stats(db: apsw.Connection) -> Stats:
    """Return what a view holds; takes no longer for a larger view, only for more suspects and blind spots."""
    (suspects,), = db.execute("SELECT count(*) FROM nodes WHERE flags & 3 AND flags & 1")
    (seen,), = db.execute("SELECT count(*) FROM nodes WHERE flags & 8")
    (gone,), = db.execute("SELECT count(*) FROM blind_deletions")
    (newest,), = db.execute("SELECT ifnull(max(newest), 0) FROM owners")
    return Stats(read_sums(db, ROOT_ID), suspects, seen + gone, newest, read_meta(db)["generation"])


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
