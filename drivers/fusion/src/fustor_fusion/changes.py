"""What changed in a view, in order: written in the transaction of the change, read from a token on."""

import enum
import re
from collections.abc import Callable
from typing import Any, Final

import apsw
import msgspec

from fustor_fusion.paths import to_text
from fustor_fusion.schema import ROOT_ID, read_meta
from fustor_fusion.totals import Totals, find_path

KEPT: Final = 100_000
_MAX_REMEMBERED = 20_000
TOKEN_PATTERN: Final = "([0-9a-f]{1,64})-([0-9]{1,18})"


class Kind(enum.IntEnum):
    """What became of a path."""

    PUT = 1  # it is there, new or changed
    GONE = 2  # it is not there any more, with all below it
    LISTED = 3  # anything below it may have changed


class Changes:
    """
    Collects, inside the writer's transaction, what `export` shows otherwise than before.

    A reader looks at a path after the transaction, so what is below a path that is `LISTED` in the
    same transaction need not be named.

    Args:
        connection: The writing connection.
        totals: Knows where directories are.
    """

    def __init__(self, connection: apsw.Connection, totals: Totals) -> None:
        self._execute: Callable[..., Any] = connection.execute
        self._execute_many: Callable[..., Any] = connection.executemany
        self._totals = totals
        self._noted: list[tuple[int, bytes, Kind]] = []
        self._listed: set[int] = set()
        self._paths: dict[int, bytes] = {}
        self.forget()

    def put(self, parent: int, name: bytes) -> None:
        """Note that a node is new or changed."""
        if not self._is_covered(parent):
            self._noted.append((parent, name, Kind.PUT))

    def remove(self, parent: int, name: bytes) -> None:
        """Note that a node is gone, with all below it."""
        if not self._is_covered(parent):
            self._noted.append((parent, name, Kind.GONE))
            self._listed.clear()  # what was noted before may be below it, and some of that may be there still

    def list(self, id_: int) -> None:
        """Note that anything below a directory may have changed."""
        if not self._is_covered(id_):
            self._listed.add(id_)
            self._noted.append((id_, b"", Kind.LISTED))

    def move(self, id_: int, parent: int, name: bytes, *, before: tuple[int, bytes]) -> None:
        """Note that a directory came to another place, with all below it; call `save` before, and then move it."""
        self._paths = {0: b"", ROOT_ID: b""}
        self.remove(*before)
        self.put(parent, name)
        self.list(id_)

    def forget(self) -> None:
        """Drop what was noted, after a rollback."""
        self._noted.clear()
        self._listed.clear()
        self._paths = {0: b"", ROOT_ID: b""}

    def save(self) -> None:
        """Write what was noted, and drop what is too old; before `Totals.save`, which forgets directories."""
        if not self._noted:
            return
        if len(self._paths) > _MAX_REMEMBERED:
            self._paths = {0: b"", ROOT_ID: b""}
        get_place = self._totals.get_place
        self._execute_many("INSERT INTO changes(path, kind) VALUES(?,?)", [
            (_join(find_path(id_, self._paths, get_place), name, kind), kind) for id_, name, kind in self._noted])
        self._execute("DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - ?", (KEPT,))
        self._noted.clear()
        self._listed.clear()

    def _is_covered(self, id_: int) -> bool:
        if self._listed:
            while id_:
                if id_ in self._listed:
                    return True
                id_ = self._totals.get_place(id_)[0]
        return False


def _join(above: bytes, name: bytes, kind: Kind) -> bytes:
    return above or b"/" if kind is Kind.LISTED else above + b"/" + name


class Token(msgspec.Struct, frozen=True):
    """
    A place between two changes of a view.

    Args:
        generation: Names the view's database.
        seq: The number of the last change before it.
    """

    generation: str
    seq: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.seq}"


def parse_token(text: str) -> Token | None:
    """Read a token as it was given out; None when it cannot be one."""
    found = re.fullmatch(TOKEN_PATTERN, text)
    return Token(found[1], int(found[2])) if found else None


def read_token(db: apsw.Connection) -> Token:
    """Return the place behind the last change that a transaction sees."""
    return Token(read_meta(db)["generation"], read_newest(db))


def read_newest(db: apsw.Connection) -> int:
    """Return the number of the last change; 0 before the first."""
    seq: Any
    (seq,), = db.execute("SELECT ifnull(max(seq), 0) FROM changes")
    return int(seq)


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change, as readers get it."""

    path: str
    kind: str
    raw: str | None = None


class ChangePage(msgspec.Struct, frozen=True):
    """Some changes, the token behind them, and whether there are more behind it already."""

    changes: list[Change]
    token: str
    more: bool


def read_changes(db: apsw.Connection, since: Token, *, limit: int) -> ChangePage | None:
    """
    Return the changes behind a token, oldest first.

    Args:
        db: Inside a read transaction.
        since: The token.
        limit: How many at most.

    Returns:
        None when not all of them are known: the token is too old, or of another generation.
    """
    now = read_token(db)
    oldest: Any
    (oldest,), = db.execute("SELECT ifnull(min(seq), 1) FROM changes")
    if since.generation != now.generation or not oldest - 1 <= since.seq <= now.seq:
        return None
    rows: list[Any] = db.execute(
        "SELECT seq, path, kind FROM changes WHERE seq>? ORDER BY seq LIMIT ?", (since.seq, limit)).fetchall()
    last = rows[-1][0] if rows else since.seq
    changes = []
    for _, path, kind in rows:
        text, raw = to_text(path)
        changes.append(Change(text, Kind(kind).name.lower(), raw))
    return ChangePage(changes, str(Token(now.generation, last)), last < now.seq)
