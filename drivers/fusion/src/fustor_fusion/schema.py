"""The database of one view: its tables, how it is opened and migrated, and what happens to a damaged one."""

import contextlib
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import apsw

from fustor_fusion.errors import DatabaseTooNew

log = logging.getLogger(__name__)

ROOT_ID = 1
BUSY_TIMEOUT_MS = 5_000

# Version 1, which never changes; every database begins with it and takes the steps of `_STEPS` after it.
# One row per name, keyed by the directory and the name, so that a listing is one range and a
# renamed directory one row. Only directories have an id and a floor (see rules.py).
# No index over all inodes: it would cost a third of the ingest rate.
_DDL = """
CREATE TABLE nodes(
  parent INTEGER NOT NULL, name BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,
  device INTEGER NOT NULL, inode INTEGER NOT NULL, nlink INTEGER NOT NULL, target BLOB,
  idx INTEGER NOT NULL, owner INTEGER NOT NULL, flags INTEGER NOT NULL, id INTEGER, floor INTEGER,
  PRIMARY KEY(parent, name)) WITHOUT ROWID;
CREATE INDEX links ON nodes(inode, device) WHERE nlink > 1 AND id IS NULL;
CREATE INDEX marked ON nodes(flags, idx) WHERE flags & 3;
CREATE TABLE tombstones(
  parent INTEGER NOT NULL, name BLOB NOT NULL, idx INTEGER NOT NULL, owner INTEGER NOT NULL,
  PRIMARY KEY(parent, name)) WITHOUT ROWID;
CREATE TABLE owners(id INTEGER PRIMARY KEY, agent TEXT NOT NULL, pipe TEXT NOT NULL,
  epoch INTEGER NOT NULL, newest INTEGER NOT NULL, UNIQUE(agent, pipe));
CREATE TABLE positions(owner INTEGER NOT NULL, lane TEXT NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY(owner, lane)) WITHOUT ROWID;
CREATE TABLE sessions(id TEXT PRIMARY KEY, state BLOB NOT NULL, snapshot_done INTEGER NOT NULL DEFAULT 0)
  WITHOUT ROWID;
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO nodes VALUES(0, x'', 0, 0, 0, 16384, 0, 0, 0, 0, 1, NULL, 0, 0, 2, 1, 0);
"""


# How much there is below each directory, see totals.py. In version 1 a directory's number was higher than its parent's.
_ADD_TOTALS = """
CREATE TABLE totals(
  id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, files INTEGER NOT NULL,
  directories INTEGER NOT NULL, bytes_high INTEGER NOT NULL, bytes_low INTEGER NOT NULL);
DELETE FROM meta WHERE key IN ('files', 'directories', 'bytes');
INSERT INTO totals
  SELECT d.id, d.parent, d.name, count(n.name) - count(n.id), count(n.id) FILTER (WHERE NOT n.flags & 2),
    ifnull(sum(n.size >> 32) FILTER (WHERE n.id IS NULL), 0),
    ifnull(sum(n.size & 4294967295) FILTER (WHERE n.id IS NULL), 0)
  FROM nodes AS d LEFT JOIN nodes AS n ON n.parent = d.id WHERE d.id IS NOT NULL GROUP BY d.id;
"""
_ADD_UP = """
UPDATE totals SET files = totals.files + c.files, directories = totals.directories + c.directories,
  bytes_high = totals.bytes_high + c.bytes_high, bytes_low = totals.bytes_low + c.bytes_low
  FROM totals AS c WHERE c.id = ? AND totals.id = c.parent
"""
_CARRY = "UPDATE totals SET bytes_high = bytes_high + (bytes_low >> 32), bytes_low = bytes_low & 4294967295"


def _add_totals(connection: apsw.Connection) -> None:
    connection.execute(_ADD_TOTALS)
    ids = connection.execute("SELECT id FROM totals WHERE parent > 0 ORDER BY id DESC")
    connection.executemany(_ADD_UP, ids)
    connection.execute(_CARRY)


# What changed, see changes.py; the newest is never deleted, so that no number is used again.
_ADD_CHANGES = "CREATE TABLE changes(seq INTEGER PRIMARY KEY, path BLOB NOT NULL, kind INTEGER NOT NULL)"


def _add_changes(connection: apsw.Connection) -> None:
    connection.execute(_ADD_CHANGES)


# What only an audit or a scan saw, see blindspots.py.
_ADD_BLIND_SPOTS = """
CREATE INDEX blind ON nodes(parent, name) WHERE flags & 8;
CREATE TABLE blind_deletions(
  parent INTEGER NOT NULL, name BLOB NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY(parent, name)) WITHOUT ROWID;
"""


def _add_blind_spots(connection: apsw.Connection) -> None:
    connection.execute(_ADD_BLIND_SPOTS)


# How the clocks of owners differ from Fusion's, see timeline.py and skew.py; before, an index was taken as a time.
_ADD_CLOCKS = """
ALTER TABLE owners ADD COLUMN newest_index INTEGER NOT NULL DEFAULT 0;
ALTER TABLE owners ADD COLUMN marks BLOB NOT NULL DEFAULT x'5b5d';
ALTER TABLE owners ADD COLUMN skew_ns INTEGER NOT NULL DEFAULT 0;
UPDATE owners SET newest_index = newest;
"""


def _add_clocks(connection: apsw.Connection) -> None:
    connection.execute(_ADD_CLOCKS)


# With which clock of Fusion's an owner's was compared last, see arrival.py.
_ADD_RULERS = "ALTER TABLE owners ADD COLUMN ruler TEXT NOT NULL DEFAULT ''"


def _add_rulers(connection: apsw.Connection) -> None:
    connection.execute(_ADD_RULERS)


_STEPS: Final[tuple[Callable[[apsw.Connection], None], ...]] = (
    _add_totals, _add_changes, _add_blind_spots, _add_clocks, _add_rulers,
)
"""What makes version 2 of version 1, version 3 of version 2, and so on; a step once released never changes."""

VERSION: Final = 1 + len(_STEPS)


def name_database(state_dir: Path, view: str) -> Path:
    """Return where the database of a view is."""
    return state_dir / f"fusion-{quote(view, safe='')}.db"


def open_database(path: Path) -> tuple[apsw.Connection, str | None]:
    """
    Open the writing connection, making the database when it is missing.

    A damaged database is set aside as `<name>.damaged-<n>` and a new one is made. One of an
    older version is brought to this one in one transaction.

    Returns:
        The connection, and what was set aside and why; None when nothing was.

    Raises:
        DatabaseTooNew: A newer version wrote it; it is left as it is.
        apsw.Error: The file cannot be opened for another reason than damage.
    """
    try:
        return _open(path), None
    except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError, _Unusable) as err:
        aside = _set_aside(path)
        log.error("A database is damaged; it was set aside and a new one begun path=%s aside=%s error=%s",
                  path, aside.name, err)
        return _open(path), f"the database was damaged ({err}) and set aside as {aside.name}"


def open_reader(path: Path) -> apsw.Connection:
    """Open a connection that can only read."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.execute("PRAGMA query_only=ON; PRAGMA cache_size=-2000")
    return connection


def read_meta(connection: apsw.Connection) -> dict[str, Any]:
    """Return what the database says about itself: generation, next number, and what is kept of Fusion's clock."""
    execute: Callable[..., Any] = connection.execute
    return dict(execute("SELECT key, value FROM meta").fetchall())


def mark_damaged(path: Path) -> None:
    """Leave a mark that makes the next `open_database` look at every page."""
    _mark(path).touch()


class _Unusable(Exception):
    """The file is a database, but not one of ours or not whole."""


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".check")


def _open(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), statementcachesize=200)
    try:
        path.chmod(0o600)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-6000;"
                           "PRAGMA journal_size_limit=16777216")
        _migrate(connection, path)
        _check(connection, every_page=_mark(path).exists())
        _mark(path).unlink(missing_ok=True)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: apsw.Connection, path: Path) -> None:
    """Bring a database to this version, an empty file too, all or nothing."""
    version: int = connection.pragma("user_version")
    if version > VERSION:
        raise DatabaseTooNew(f"{path}: written by a newer release (its schema is of version {version}, this release "
                             f"knows {VERSION}); run that release, or move the file away to begin a new view")
    is_empty = version == 0 and not connection.pragma("schema_version")
    if version < 1 and not is_empty:
        raise _Unusable(f"it is of version {version}, which never was")
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    if is_empty:
        _create(connection)
    for step in _STEPS[max(version, 1) - 1 :]:
        step(connection)
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")
    if not is_empty:
        log.info("A database was brought to a newer version path=%s from=%d to=%d", path, version, VERSION)


def _create(connection: apsw.Connection) -> None:
    connection.execute(_DDL)
    connection.execute("INSERT INTO meta VALUES('generation', ?), ('next_id', 2)", (secrets.token_hex(16),))


def _check(connection: apsw.Connection, *, every_page: bool) -> None:
    tables = ("nodes", "tombstones", "owners", "positions", "sessions", "meta", "totals", "changes", "blind_deletions")
    for table in tables:
        connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()
    if not connection.execute("SELECT 1 FROM meta WHERE key='generation'").fetchall():
        raise _Unusable("it has no generation")
    if not connection.execute("SELECT 1 FROM nodes WHERE parent=0 AND id=?", (ROOT_ID,)).fetchall():
        raise _Unusable("it has no root")
    if not connection.execute("SELECT 1 FROM totals WHERE id=?", (ROOT_ID,)).fetchall():
        raise _Unusable("it has no totals")
    if every_page:
        result = connection.pragma("quick_check")
        if result != "ok":
            raise _Unusable(f"quick_check says {result!r:.200}")


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    _mark(path).unlink(missing_ok=True)
    return aside
