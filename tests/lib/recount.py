"""What every directory of a view's database holds, counted by looking at every node."""

from typing import Any

import apsw

_COUNT = """
WITH RECURSIVE below(top, id) AS (
  SELECT id, id FROM nodes WHERE id IS NOT NULL
  UNION ALL SELECT top, n.id FROM below JOIN nodes AS n ON n.parent = below.id WHERE n.id IS NOT NULL)
SELECT top, count(n.name) - count(n.id), count(n.id) FILTER (WHERE NOT n.flags & 2),
  ifnull(sum(n.size >> 32) FILTER (WHERE n.id IS NULL), 0),
  ifnull(sum(n.size & 4294967295) FILTER (WHERE n.id IS NULL), 0)
FROM below LEFT JOIN nodes AS n ON n.parent = below.id GROUP BY top
"""


def count_again(db: apsw.Connection) -> dict[int, tuple[int, ...]]:
    """Count files, directories and bytes below every directory, by its number."""
    rows: list[Any] = db.execute(_COUNT).fetchall()
    return {id_: (files, directories, (high << 32) + low) for id_, files, directories, high, low in rows}


def read_counts(db: apsw.Connection) -> dict[int, tuple[int, ...]]:
    """Return the same as the database keeps it."""
    rows: list[Any] = db.execute("SELECT id, files, directories, bytes_high, bytes_low FROM totals").fetchall()
    return {id_: (files, directories, (high << 32) + low) for id_, files, directories, high, low in rows}


def read_places(db: apsw.Connection, table: str) -> set[tuple[object, ...]]:
    """Return where every directory is, by its number, as a table has it."""
    return set(db.execute(f"SELECT id, parent, name FROM {table} WHERE id IS NOT NULL").fetchall())


def check_counts(db: apsw.Connection) -> None:
    """Compare every directory's sums and place with its nodes."""
    assert read_counts(db) == count_again(db)
    assert read_places(db, "totals") == read_places(db, "nodes")
