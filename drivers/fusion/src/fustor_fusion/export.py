"""Nodes with all that is known of them: one, or all, depth first, names sorted by bytes, parents before children."""

import stat
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import apsw
import msgspec

from fustor_fusion.paths import to_text
from fustor_fusion.queries import find_place
from fustor_fusion.rules import BLIND, PLACEHOLDER, SUSPECT

_LINES = 500
_UINT64 = (1 << 64) - 1
NodeType = Literal["file", "directory", "symlink", "other"]
_TYPES: dict[int, NodeType] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
_encode_lines = msgspec.json.Encoder().encode_lines
_Columns = tuple[bytes, int | None, int, int, int, int, int, int, int, int, bytes | None, int]
_NODES = "SELECT name, id, mode, size, mtime_ns, ctime_ns, uid, gid, inode, nlink, target, flags FROM nodes"
_CHILDREN = f"{_NODES} WHERE parent=? ORDER BY name"


class ExportRow(msgspec.Struct, gc=False, frozen=True):
    """
    One line of an export.

    `target` stands in those of symbolic links only; `raw` and `target_raw` hold the exact
    bytes, base64, of a path or target that is not UTF-8.
    """

    path: str
    type: NodeType
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int
    inode: int
    nlink: int
    target: str | msgspec.UnsetType = msgspec.UNSET
    suspect: bool = False
    blind_spot: bool = False
    raw: str | msgspec.UnsetType = msgspec.UNSET
    target_raw: str | msgspec.UnsetType = msgspec.UNSET


def export(db: apsw.Connection, names: Sequence[bytes], directory: int) -> Iterator[bytes]:
    """
    Yield what is below a directory, as lines in pieces of some hundred; placeholders are left out.

    Args:
        db: Inside a read transaction.
        names: The way to the directory.
        directory: Its number.
    """
    lines: list[ExportRow] = []
    path, raw_path = _join_all(names)
    stack: list[tuple[str, bytes | None, Iterator[_Columns]]] = [
        (path, raw_path, iter(db.execute(_CHILDREN, (directory,))))]
    while stack:
        above, raw_above, children = stack[-1]
        for columns in children:
            name = columns[0]
            path, raw_path = _join(above, raw_above, name)
            if not columns[11] & PLACEHOLDER:
                lines.append(_describe(path, raw_path, columns))
                if len(lines) >= _LINES:
                    yield _encode_lines(lines)
                    lines = []
            if columns[1] is not None:
                stack.append((path, raw_path, iter(db.execute(_CHILDREN, (columns[1],)))))
                break
        else:
            stack.pop()
    if lines:
        yield _encode_lines(lines)


def read_metadata(db: apsw.Connection, names: Sequence[bytes]) -> ExportRow | None:
    """Return one node as `export` gives it, the root too; None when there is none, or only a placeholder."""
    place = find_place(db, names)
    rows: list[Any] = db.execute(f"{_NODES} WHERE parent=? AND name=?", place).fetchall() if place else []
    if not rows or rows[0][11] & PLACEHOLDER:
        return None
    path, raw_path = _join_all(names)
    return _describe(path or "/", raw_path, rows[0])


def _join_all(names: Sequence[bytes]) -> tuple[str, bytes | None]:
    path: tuple[str, bytes | None] = "", None
    for name in names:
        path = _join(*path, name)
    return path


def _join(above: str, raw_above: bytes | None, name: bytes) -> tuple[str, bytes | None]:
    """Append a name to a path that is kept as text, and as bytes too once it is not UTF-8."""
    try:
        text = name.decode()
        if raw_above is None:
            return f"{above}/{text}", None
    except UnicodeDecodeError:
        if raw_above is None:
            raw_above = above.encode()
    raw = raw_above + b"/" + name
    return raw.decode(errors="replace"), raw


def _describe(path: str, raw_path: bytes | None, columns: _Columns) -> ExportRow:
    _, _, mode, size, mtime_ns, ctime_ns, uid, gid, inode, nlink, target, flags = columns
    kind: NodeType = _TYPES.get(stat.S_IFMT(mode), "other")
    target_text, target_raw = to_text(target or b"") if kind == "symlink" else (msgspec.UNSET, None)
    return ExportRow(
        path, kind, size, mtime_ns, ctime_ns, mode, uid, gid, inode & _UINT64, nlink,
        target_text,
        bool(flags & SUSPECT), bool(flags & BLIND),
        msgspec.UNSET if raw_path is None else (to_text(raw_path)[1] or msgspec.UNSET),
        target_raw or msgspec.UNSET,
    )
