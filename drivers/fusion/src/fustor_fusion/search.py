"""Search the files of one view by a pattern."""

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apsw
import msgspec

from fustor_fusion.globs import PathPattern, names_depths
from fustor_fusion.namefilter import Condition, fits_below, fits_glob, holds_text, is_either
from fustor_fusion.paths import to_text
from fustor_fusion.queries import CHUNK_BYTES, NODE, NodeColumns, describe_node, find_directory

_encode = msgspec.json.encode


class _Question(msgspec.Struct, frozen=True):
    """
    What a pattern asks.

    Args:
        start: The names of the directory that holds all that can fit.
        fits: Tells of a path and its name whether they do.
        filter: Gives a condition on the names in a directory, whose path ends with a slash.
    """

    start: Sequence[bytes]
    fits: Callable[[bytes, bytes], object]
    filter: Callable[[bytes], Condition]


def search(db: apsw.Connection, pattern: str, *, limit: int | None) -> Iterator[bytes]:
    """
    Give the files that match as one JSON array, in pieces.

    A file matches if the glob fits its whole path or its name, case-sensitively, or if the pattern
    occurs in the name, ignoring case. `*` crosses slashes. An empty pattern fits all.
    A pattern with `**` between slashes must fit the whole path, see `PathPattern`.

    Args:
        db: Inside a read transaction.
        pattern: The pattern.
        limit: How many at most; None for all.
    """
    question = _ask_paths(pattern) if names_depths(pattern) else _ask_either(pattern)
    parts: list[bytes] = [b"["]
    size = count = 0
    for path, node in _walk_files(db, question):
        if question.fits(path, node[0]):
            parts.append(b"," if count else b"")
            parts.append(_encode(describe_node(path, node, only_path=False)))
            count += 1
            if count == limit:
                break
            size += len(parts[-1])
            if size > CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
    parts.append(b"]")
    yield b"".join(parts)


def _ask_paths(pattern: str) -> _Question:
    glob = PathPattern(pattern)
    condition = fits_glob(glob.last)
    return _Question(
        [name.encode() for name in glob.start],
        lambda path, _: glob.fits(to_text(path)[0][1:].split("/")),
        lambda _: condition,
    )


def _ask_either(pattern: str) -> _Question:
    match = re.compile(fnmatch.translate(pattern)).match
    lowered = pattern.lower()
    anywhere = [fits_glob(pattern), holds_text(pattern)]
    below = fits_below(pattern)

    def fits(path: bytes, name: bytes) -> object:
        text = to_text(name)[0]
        return lowered in text.lower() or match(text) or match(to_text(path)[0])

    return _Question([], fits, lambda directory: is_either([*anywhere, *below(to_text(directory)[0])]))


def _walk_files(db: apsw.Connection, question: _Question) -> Iterator[tuple[bytes, NodeColumns]]:
    """Yield what can fit and is no directory, with its path, depth first."""

    def enter(id_: int, directory: bytes) -> Iterator[NodeColumns]:
        condition, values = question.filter(directory)
        rows: Any = db.execute(
            f"SELECT {NODE} FROM nodes WHERE parent=? AND (id IS NOT NULL OR {condition}) ORDER BY name",
            (id_, *values))
        return iter(rows)

    above = b"".join(b"/" + name for name in question.start) + b"/"
    top = find_directory(db, question.start)
    stack = [] if top is None else [(above, enter(top, above))]
    while stack:
        above, children = stack[-1]
        node = next(children, None)
        if node is None:
            stack.pop()
            continue
        path = above + node[0]
        if node[1] is not None:
            stack.append((path + b"/", enter(node[1], path + b"/")))
        else:
            yield path, node
