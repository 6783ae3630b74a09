"""A reader's copy of a view, kept up to date by what the view says has changed."""

import json
from typing import Any

import apsw
import msgspec

from fustor_fusion.changes import ChangePage, Token, read_changes, read_token
from fustor_fusion.export import export, read_metadata
from fustor_fusion.paths import split_path
from fustor_fusion.queries import find_directory

Rows = dict[bytes, dict[str, Any]]


def read_export(db: apsw.Connection, path: bytes = b"/") -> Rows:
    """Return what is below a path, by path."""
    names = split_path(path)
    directory = find_directory(db, names)
    if directory is None:
        return {}
    lines = b"".join(export(db, names, directory)).splitlines()
    return {get_path(row): row for row in map(json.loads, lines)}


def get_path(row: Any) -> bytes:
    """Return the exact path of a row or a change, as JSON has it."""
    return msgspec.convert(row["raw"], bytes) if row.get("raw") else row["path"].encode()


class Copy:
    """
    Rows by path.

    Args:
        db: Where it begins.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self.token = read_token(db)
        self.rows = read_export(db)

    def follow(self, db: apsw.Connection, *, limit: int = 1_000) -> None:
        """Look again at all that has changed; some changes at a time."""
        more = True
        while more:
            page = read_changes(db, self.token, limit=limit)
            assert isinstance(page, ChangePage)
            for change in page.changes:
                self._look(db, change.kind, get_path(msgspec.to_builtins(change)))
            generation, _, seq = page.token.rpartition("-")
            self.token, more = Token(generation, int(seq)), page.more

    def _look(self, db: apsw.Connection, kind: str, path: bytes) -> None:
        if kind != "put":
            for each in [each for each in self.rows if each.startswith(path.rstrip(b"/") + b"/")]:
                del self.rows[each]
        if kind == "listed":
            self.rows |= read_export(db, path)
            return
        self.rows.pop(path, None)
        row = read_metadata(db, split_path(path)) if kind == "put" else None
        if row is not None and path != b"/":
            self.rows[path] = json.loads(msgspec.json.encode(row))
