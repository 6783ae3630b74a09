"""A directory moves with all below it as one event, or not at all."""

import random
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fustor_event_model import DeleteEvent, FsItem, FsPath, FsRow, Listed, MessageSource, Moved, UpdateEvent
from fustor_fusion.arbiter import Arbiter
from fustor_fusion.errors import RequestRefused
from fustor_fusion.schema import open_database
from fustor_fusion.tree import Tree
from modelview import ModelView
from recount import check_counts
from viewcopy import Copy, read_export

RT = MessageSource.REALTIME
DIR, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644


class View:
    """A database with an arbiter, without threads, and a reader's copy of it."""

    def __init__(self, folder: Path) -> None:
        self.db, _ = open_database(folder / "view.db")
        self.db.execute("PRAGMA synchronous=OFF")  # nothing here is about the disk
        self.tree = Tree(self.db)
        self.arbiter = Arbiter(self.tree)
        self.copy = Copy(self.db)

    def apply(self, *items: FsItem, owner: int = 1, takes_moves: bool = True) -> None:
        self.db.execute("BEGIN")
        try:
            self.arbiter.apply(items, owner=owner, takes_moves=lambda: takes_moves)
        except RequestRefused:
            self.db.execute("ROLLBACK")
            self.tree.forget()
            self.arbiter.forget()
            raise
        self.tree.save()
        self.db.execute("COMMIT")
        self.copy.follow(self.db, limit=3)

    def check(self) -> None:
        """Compare the counts with the nodes, and the copy with the view."""
        check_counts(self.db)
        assert self.copy.rows == read_export(self.db)

    def dump(self) -> dict[bytes, tuple[int, int]]:
        return {path: (row["inode"], row["size"]) for path, row in read_export(self.db).items()}

    def refuse(self, *items: FsItem, **how: Any) -> str:
        """Apply what must be refused and must change nothing; returns the reason."""
        before = read_export(self.db)
        with pytest.raises(RequestRefused) as refused:
            self.apply(*items, **how)
        assert refused.value.status == 412
        assert read_export(self.db) == before
        return refused.value.detail


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    view = View(tmp_path)
    yield view
    view.check()
    view.db.close()


def row(path: bytes, inode: int, *, mode: int = FILE, size: int = 3) -> FsRow:
    return FsRow(path, 0 if mode == DIR else size, 1, 1, mode, 0, 0, 1, inode, 1)


def put(index: int, *rows: FsRow) -> FsItem:
    return UpdateEvent(index=index, message_source=RT, event_schema="fs", table="files", rows=list(rows))


def gone(index: int, *paths: bytes) -> FsItem:
    return DeleteEvent(index=index, message_source=RT, event_schema="fs", table="files",
                       rows=[FsPath(path) for path in paths])


def listed(index: int, path: bytes) -> FsItem:
    return Listed(index=index, message_source=MessageSource.SNAPSHOT, path=path)


def moved(index: int, before: bytes, path: bytes, inode: int, *, device: int = 1) -> FsItem:
    return Moved(index=index, message_source=RT, path=path, before=before, device=device, inode=inode)


@pytest.fixture
def filled(view: View) -> View:
    """`/a` with a file and a directory of one file, and `/z`."""
    view.apply(put(10, row(b"/a", 2, mode=DIR), row(b"/z", 3, mode=DIR), row(b"/a/b", 4, mode=DIR),
                   row(b"/a/f", 5, size=7), row(b"/a/b/g", 6)))
    return view


def test_all_below_goes_along(filled):
    filled.apply(moved(20, b"/a", b"/z/y", 2))
    assert filled.dump() == {b"/z": (3, 0), b"/z/y": (2, 0), b"/z/y/b": (4, 0), b"/z/y/b/g": (6, 3), b"/z/y/f": (5, 7)}
    filled.check()
    filled.apply(put(30, row(b"/z/y/b/new", 8)), gone(31, b"/z/y/f"), moved(32, b"/z/y/b", b"/b", 4))
    assert filled.dump() == {b"/z": (3, 0), b"/z/y": (2, 0), b"/b": (4, 0), b"/b/g": (6, 3), b"/b/new": (8, 3)}


def test_a_directory_that_is_older_than_the_one_it_came_to_is_counted_there(view):
    view.apply(put(10, row(b"/late", 2, mode=DIR), row(b"/late/f", 3, size=5)))
    view.apply(put(11, row(b"/early", 4, mode=DIR), row(b"/early/sub", 5, mode=DIR)))
    view.apply(moved(12, b"/late", b"/early/sub/late", 2))
    view.apply(put(13, row(b"/early/sub/late/g", 6, size=50)))
    view.check()


def test_a_move_and_what_is_around_it_may_be_in_one_batch(view):
    view.apply(put(10, row(b"/a", 2, mode=DIR), row(b"/a/f", 3)), moved(11, b"/a", b"/b", 2),
               put(12, row(b"/b/g", 4), row(b"/a", 5, mode=DIR), row(b"/a/h", 6)), moved(13, b"/b", b"/a/b", 2))
    assert sorted(view.dump()) == [b"/a", b"/a/b", b"/a/b/f", b"/a/b/g", b"/a/h"]


def test_it_was_seen_at_its_new_place_when_it_moved(filled):
    filled.apply(moved(20, b"/a", b"/z/y", 2))
    filled.apply(listed(15, b"/z"))  # began before, so it did not name it
    assert b"/z/y/f" in filled.dump()
    filled.apply(listed(25, b"/z"))
    assert sorted(filled.dump()) == [b"/z"]


def test_what_is_known_to_be_gone_below_it_stays_gone(filled):
    filled.apply(gone(15, b"/a/b/g"), moved(20, b"/a", b"/z/y", 2), put(12, row(b"/z/y/b/g", 6)))
    assert b"/z/y/b/g" not in filled.dump()


def test_what_was_at_the_new_place_goes(filled):
    filled.apply(put(11, row(b"/z/y", 9, mode=DIR), row(b"/z/y/old", 10)), moved(20, b"/a", b"/z/y", 2))
    assert sorted(filled.dump()) == [b"/z", b"/z/y", b"/z/y/b", b"/z/y/b/g", b"/z/y/f"]
    filled.apply(gone(25, b"/a"), put(30, row(b"/a", 11)), moved(31, b"/z/y", b"/a", 2))
    assert sorted(filled.dump()) == [b"/a", b"/a/b", b"/a/b/g", b"/a/f", b"/z"]


def test_a_name_that_was_gone_is_there_again_with_the_move(filled):
    filled.apply(gone(15, b"/z/y"), moved(20, b"/a", b"/z/y", 2))
    assert b"/z/y/f" in filled.dump()
    assert filled.db.execute("SELECT * FROM tombstones").fetchall() == []


def test_inodes_and_devices_of_64_bits_are_known_again(view):
    large = (1 << 64) - 5
    wide = FsRow(b"/a", 0, 1, 1, DIR, 0, 0, large, large - 1, 1)
    view.db.execute("BEGIN")
    view.arbiter.apply([put(10, wide)], owner=1, careful=True)
    view.tree.save()
    view.db.execute("COMMIT")
    view.copy.follow(view.db)
    view.apply(moved(20, b"/a", b"/b", large - 1, device=large))
    assert list(view.dump()) == [b"/b"]


@pytest.mark.parametrize(("item", "reason"), [
    (moved(20, b"/nowhere", b"/y", 2), "another directory, or none"),
    (moved(20, b"/nowhere/a", b"/y", 2), "not known"),
    (moved(20, b"/a", b"/nowhere/y", 2), "not known"),
    (moved(20, b"/a", b"/w/y", 2), "not known"),
    (moved(20, b"/a", b"/y", 99), "another directory, or none"),
    (moved(20, b"/a", b"/y", 2, device=9), "another directory, or none"),
    (moved(20, b"/a/f", b"/y", 5), "another directory, or none"),
    (moved(9, b"/a", b"/y", 2), "another directory, or none"),
    (moved(1 << 63, b"/a", b"/y", 2), "no directory can be moved so"),
    (moved(20, b"/a", b"/a/b/y", 2), "no directory can be moved so"),
    (moved(20, b"/a", b"/a", 2), "no directory can be moved so"),
    (moved(20, b"/a/b", b"/a", 4), "no directory can be moved so"),
    (moved(20, b"/", b"/y", 2), "no directory can be moved so"),
    (moved(20, b"/a", b"/", 2), "no directory can be moved so"),
    (moved(20, b"/a", b"y", 2), ""),
    (moved(20, b"/a", b"/z", 2), "seen at the new place later"),
])
def test_what_cannot_be_moved_so_is_refused_with_its_batch(filled, item, reason):
    filled.apply(put(5, row(b"/w/only/a/way", 20)), put(40, row(b"/z/later", 21)))
    assert reason in filled.refuse(put(50, row(b"/first", 30)), item)
    filled.check()
    filled.apply(put(60, row(b"/a/f", 5, size=8)))  # it goes on as if nothing had been


def test_what_another_agent_saw_is_not_moved(filled):
    assert "another directory" in filled.refuse(moved(20, b"/a", b"/y", 2), owner=2)


def test_only_who_sent_all_may_move(filled):
    assert "alone" in filled.refuse(moved(20, b"/a", b"/y", 2), takes_moves=False)


@pytest.mark.parametrize("attempt", range(4))
def test_any_moves_among_other_changes_make_the_tree_that_a_model_has(view, attempt):
    """The model remembers rows by path; every index is new, as if all were seen in this order."""
    seed = random.randrange(1 << 30)
    rng, model = random.Random(seed), ModelView()
    directories: dict[bytes, int] = {b"/": 1}

    def choose_place() -> bytes:
        return rng.choice(sorted(directories)).rstrip(b"/") + b"/" + rng.choice((b"a", b"b", b"c", b"d"))

    def forget(path: bytes) -> None:
        for each in [each for each in directories if each == path or each.startswith(path + b"/")]:
            del directories[each]

    for index in range(10, 400):
        path = choose_place()
        known = sorted(directories.keys() - {b"/"})
        verb = rng.choice(("file", "directory", "directory", "remove", "move", "move", "move"))
        if verb == "move" and known:
            before = rng.choice(known)
            if (path + b"/").startswith(before + b"/") or (before + b"/").startswith(path + b"/"):
                continue
            item = moved(index, before, path, directories[before])
            forget(path)
            for each in [each for each in directories if each == before or each.startswith(before + b"/")]:
                directories[path + each[len(before):]] = directories.pop(each)
        elif verb == "remove":
            item = gone(index, path)
            forget(path)
        elif verb == "directory":
            forget(path)
            directories[path] = index
            item = put(index, row(path, index, mode=DIR))
        else:
            forget(path)
            item = put(index, row(path, index, size=rng.randrange(1 << 40)))
        if verb == "directory":
            model.apply([gone(index, path)])  # another directory, with nothing of the former one
        model.apply([item])
        view.apply(item)
        expected = {path: (entry.inode, entry.size) for path, entry in model.get_entries().items()}
        assert view.dump() == expected, f"seed {seed}, index {index}"
    view.check()


# -- over HTTP ---------------------------------------------------------------------------------


@pytest.fixture
def agent(fusion, make):
    return make.agent(fusion)


def name_rows(make) -> FsItem:
    return make.update(10, b"/", [make.row(b"a", mode=DIR, inode=2), make.row(b"a/f", inode=3)])


def find_paths(fusion) -> list[str]:
    return [found["path"] for found in fusion.get("p/search", pattern="").json()]


def test_an_agent_that_leads_alone_may_move_once_its_snapshot_is_complete(fusion, agent, make):
    assert agent.opened["fustor"]["moves"] is True
    agent.push(name_rows(make))
    refused = agent.push(moved(20, b"/a", b"/b", 2))
    assert (refused.status_code, "snapshot" in refused.json()["detail"]) == (412, True)
    assert find_paths(fusion) == ["/a/f"]
    agent.snapshot()
    assert agent.push(moved(20, b"/a", b"/b", 2), seq=2).status_code == 200  # under the same name as before
    assert find_paths(fusion) == ["/b/f"]
    assert fusion.get("p/du", path="/b").json()["files"] == 1


def test_nobody_may_move_while_another_agent_is_there(fusion, agent, make):
    agent.push(name_rows(make))
    agent.snapshot()
    other = make.agent(fusion, name="other")
    assert agent.push(moved(20, b"/a", b"/b", 2)).status_code == 412
    assert other.push(moved(20, b"/a", b"/b", 2)).status_code == 412
    assert find_paths(fusion) == ["/a/f"]
