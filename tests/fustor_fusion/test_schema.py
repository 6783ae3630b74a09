import sqlite3
from pathlib import Path

import pytest

from fustor_fusion.errors import DatabaseTooNew
from fustor_fusion.queries import read_usage
from fustor_fusion.schema import VERSION, open_database
from fustor_fusion.store import Store
from recount import check_counts

DUMP_1 = Path(__file__).with_name("data") / "version-1.sql"
"""What a Fusion whose schema was of version 1 had written."""


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "view.db"
    connection = sqlite3.connect(path)
    connection.executescript(DUMP_1.read_text())
    connection.close()
    return path


def read_all(path: Path) -> dict[str, list[object]]:
    """Return all that version 1 had, but the counts that moved to a table of their own."""
    connection = sqlite3.connect(path)
    tables = ("* FROM nodes", "* FROM tombstones", "id, agent, pipe, epoch, newest FROM owners", "* FROM positions",
              "* FROM sessions", "* FROM meta WHERE key NOT IN ('files', 'directories', 'bytes')")
    found = {table: connection.execute(f"SELECT {table} ORDER BY 1, 2").fetchall() for table in tables}
    connection.close()
    return found


def describe_schema(path: Path) -> list[object]:
    connection = sqlite3.connect(path)
    schema = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()
    version = connection.execute("PRAGMA user_version").fetchall()
    connection.close()
    return schema + version


def test_an_old_database_keeps_all_it_holds_and_gets_what_is_new(old):
    before = read_all(old)
    connection, damage = open_database(old)
    assert damage is None
    check_counts(connection)
    below = [read_usage(connection, names) for names in ([], [b"d"], [b"d", b"e"], [b"way"], [b"empty"])]
    connection.close()
    assert [(usage.files, usage.directories, usage.bytes) for usage in below] == [
        (6, 3, 43), (4, 1, 29), (2, 0, 16), (1, 0, 9), (0, 0, 0)]
    assert read_all(old) == before


def test_an_old_database_becomes_what_a_new_one_is(old, tmp_path):
    Store(old).close()
    Store(tmp_path / "new.db").close()
    assert describe_schema(old) == describe_schema(tmp_path / "new.db")


def test_a_migration_that_fails_changes_nothing(old):
    before = read_all(old), describe_schema(old)
    blocker = sqlite3.connect(old)
    blocker.execute("CREATE TABLE totals(x)")  # in the way of the step
    blocker.commit()
    blocker.close()
    connection, damage = open_database(old)
    connection.close()
    assert "totals already exists" in damage
    aside = old.with_name("view.db.damaged-1")
    blocker = sqlite3.connect(aside)
    blocker.execute("DROP TABLE totals")
    blocker.commit()
    blocker.close()
    assert (read_all(aside), describe_schema(aside)) == before


def test_a_database_of_a_newer_release_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "view.db"
    connection, _ = open_database(path)
    connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseTooNew, match=rf"view\.db: .* version {VERSION + 1}, .* knows {VERSION}\); run that"):
        open_database(path)
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*.damaged*")) == []


@pytest.mark.parametrize("version", [0, -3])
def test_a_database_of_no_version_of_ours_is_set_aside(tmp_path, version):
    path = tmp_path / "view.db"
    connection, _ = open_database(path)
    connection.execute(f"PRAGMA user_version={version}")
    connection.close()
    connection, damage = open_database(path)
    connection.close()
    assert f"version {version}" in damage
