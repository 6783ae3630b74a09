"""Looks and listings against a real kernel, step by step: every race is driven by hand."""

import errno
import itertools
import os
import random
import stat
import subprocess
from pathlib import Path

import pytest

from fustor_event_model import DeleteEvent, Listed, MessageSource, SnapshotEnd, UpdateEvent
from fustor_source_fs import places
from treeops import exchange


def make(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_text(name)
    return path


def sent(items) -> set[bytes]:
    """The paths of all rows, as they stand in the events."""
    return {item.prefix + row.path for item in items if not isinstance(item, Listed | SnapshotEnd) for row in item.rows}


def listed(items) -> list[bytes]:
    return [item.path for item in items if isinstance(item, Listed)]


def names_in_use(still) -> None:
    """Everything that was read is in the view, and nothing is left to do."""
    still.absorb()
    still.say()
    still.assert_exact()
    status = still.source.get_status()
    assert (status.pending, status.dirty, status.not_current_because) == (0, 0, None)


# -- a directory is watched before it is listed, at any depth and speed -----------------------


def test_a_directory_is_watched_before_it_is_listed(inside, still, monkeypatch):
    make(inside / "d")
    real = os.scandir

    def create_first(place):
        (inside / "d" / "born").write_text("")
        return real(place)

    still.start_snapshot()
    while b"/d" not in still.view.rows:
        still.step_snapshot()
    monkeypatch.setattr(os, "scandir", create_first)
    still.finish_snapshot()
    monkeypatch.undo()
    assert b"/d/born" in still.view.rows
    assert b"born" in [record.name for record in still.read()]


def test_a_directory_created_between_the_watch_and_the_listing_is_listed_too(inside, still, monkeypatch):
    make(inside / "d")
    real = os.scandir

    def create_first(place):
        monkeypatch.setattr(os, "scandir", real)
        make(inside / "d" / "child" / "grandchild", "leaf")
        return real(place)

    monkeypatch.setattr(os, "scandir", create_first)
    still.start_snapshot()
    still.finish_snapshot()
    names_in_use(still)
    assert b"/d/child/grandchild/leaf" in still.view.rows


def test_a_directory_created_filled_and_renamed_before_the_first_look_is_complete(inside, still):
    still.begin()
    make(inside / "new" / "deep", "a", "b")
    still.absorb()
    (inside / "new").rename(inside / "final")
    still.say()
    names_in_use(still)
    assert b"/final/deep/a" in still.view.rows


def test_a_directory_filled_after_it_was_read_about_and_before_it_is_watched_is_complete(inside, still):
    still.begin()
    (inside / "d").mkdir()
    still.absorb()
    make(inside / "d" / "e", "f")
    names_in_use(still)


def test_a_deep_tree_that_is_born_at_once_is_sent_to_its_leaves(inside, still):
    still.begin()
    make(inside.joinpath(*"abcdefghij"), "leaf")
    names_in_use(still)


def test_a_directory_that_was_moved_in_is_listed_to_its_leaves(inside, outside, still):
    make(outside / "d" / "e", "f")
    still.begin()
    (outside / "d").rename(inside / "d")
    names_in_use(still)
    (inside / "d" / "e" / "g").write_text("watched")
    names_in_use(still)


def test_a_directory_that_was_moved_out_is_gone_and_no_longer_watched(inside, outside, still):
    make(inside / "d" / "e", "f")
    still.begin()
    before = still.source._tree.watch_count
    (inside / "d").rename(outside / "d")
    names_in_use(still)
    assert still.source._tree.watch_count == before - 2
    (outside / "d" / "e" / "f").write_text("outside")
    still.read()  # the kernel's word that the watches are gone
    (outside / "d" / "e" / "f").write_text("outside again")
    assert still.read() == []


def test_a_directory_that_left_and_came_back_is_watched_again(inside, outside, still):
    make(inside / "d", "f")
    still.begin()
    (inside / "d").rename(outside / "d")
    (outside / "d").rename(inside / "d")
    names_in_use(still)
    (inside / "d" / "f").write_text("changed")
    names_in_use(still)


# -- renames ----------------------------------------------------------------------------------


def test_a_directory_renamed_while_it_is_listed_in_chunks_makes_the_listing_void(inside, still):
    make(inside / "d", *(f"{number}" for number in range(1500)))
    still.begin()
    listing = still.listing(b"/d")
    first, chunk = next(listing), next(listing)
    assert (len(first.rows), len(chunk.rows)) == (1, 1000)
    (inside / "d").rename(inside / "e")
    still.absorb()
    assert list(listing) == []
    names_in_use(still)
    assert b"/e" in listed(still.items)


def test_rows_never_go_under_a_path_that_the_directory_has_left_meanwhile(inside, still):
    make(inside / "d", "f")
    still.start_snapshot()
    while listed(still.items) != [b"/"]:
        still.step_snapshot()
    still.step_snapshot()
    assert sent(still.items[-1:]) == {b"/d"}  # d's own row; its children come next
    (inside / "d").rename(inside / "e")
    still.absorb()
    still.say()
    still.items.clear()
    still.finish_snapshot()
    assert not {path for path in sent(still.items) if path.startswith(b"/d/")}
    names_in_use(still)


def test_a_directory_moved_away_and_back_while_it_is_listed_is_listed_again(inside, still):
    make(inside / "d", *(f"{number}" for number in range(1500)))
    still.begin()
    listing = still.listing(b"/d")
    next(listing), next(listing)
    (inside / "d").rename(inside / "e")
    (inside / "d" / "ghost").parent.mkdir()
    (inside / "d").rmdir()
    (inside / "e").rename(inside / "d")
    still.absorb()
    assert list(listing) == []
    names_in_use(still)


def test_an_exchange_of_two_directories_is_seen_in_one_read(inside, still):
    make(inside / "a", "in-a")
    make(inside / "b" / "below", "in-b")
    still.begin()
    exchange(bytes(inside / "a"), bytes(inside / "b"))
    names_in_use(still)
    assert b"/b/in-a" in still.view.rows


@pytest.mark.parametrize("cut", range(1, 6))
def test_an_exchange_of_two_directories_is_seen_wherever_the_reads_cut_it(inside, still, cut):
    make(inside / "a", "in-a")
    make(inside / "b" / "below", "in-b")
    still.begin()
    exchange(bytes(inside / "a"), bytes(inside / "b"))
    records = still.read()
    assert len(records) == 6
    still.feed(records[:cut])
    still.say()
    still.feed(records[cut:])
    names_in_use(still)
    (inside / "a" / "below" / "later").write_text("")
    (inside / "b" / "later").write_text("")
    names_in_use(still)


def test_an_exchange_of_a_directory_and_a_file_is_seen(inside, still):
    make(inside / "d" / "e", "leaf")
    (inside / "f").write_text("file")
    still.begin()
    exchange(bytes(inside / "d"), bytes(inside / "f"))
    names_in_use(still)
    assert b"/f/e/leaf" in still.view.rows


def test_a_rename_over_an_empty_directory_leaves_one_that_is_watched(inside, still):
    make(inside / "a", "f")
    make(inside / "b")
    still.begin()
    (inside / "a").rename(inside / "b")
    names_in_use(still)
    (inside / "b" / "g").write_text("")
    names_in_use(still)


def test_names_change_places_through_a_third_while_the_looks_are_ahead_of_the_records(inside, still):
    make(inside / "x" / "a", "in-a")
    make(inside / "y" / "b", "in-b")
    make(inside / "z")
    still.begin()
    (inside / "x" / "a").rename(inside / "z" / "t")
    (inside / "y" / "b").rename(inside / "x" / "a")
    (inside / "z" / "t").rename(inside / "y" / "b")
    records = still.read()
    for path in (b"/x", b"/y", b"/z"):
        still.source.rescan(path)  # looks at the end of it before the first record is known
        still.say()
    for record in records:
        still.feed([record])
        still.say()
    names_in_use(still)
    still.sync()
    for name in ("x/a/later", "y/b/later"):
        (inside / name).write_text("")
    names_in_use(still)


def test_a_barrier_holds_while_a_directory_with_an_older_change_is_between_two_places(inside, still):
    make(inside / "d", "f")
    still.begin()
    (inside / "d" / "f").write_text("changed before the barrier")
    still.source.barrier("b")
    (inside / "d").rename(inside / "e")
    records = still.read()
    still.feed(records[:1])
    for _ in range(20):
        item = next(still.messages)
        if item is not None:
            still.take(item)
    assert still.barriers == []
    still.feed(records[1:])
    still.wait_for_barrier("b")
    assert still.view.rows[b"/e/f"][1].size == len("changed before the barrier")


def test_what_a_stale_record_sent_under_way_is_found_again_where_it_stands(inside, outside, still):
    make(inside / "x" / "d", "old")
    make(inside / "y")
    still.begin()
    (inside / "x" / "d").rename(outside / "old")
    make(inside / "x" / "d", "new")
    records = still.read()
    still.source.rescan(b"/x")  # finds the new directory before the record of the old one
    still.say()
    node = still.node(b"/x/d")
    still.feed(records)
    still.source.barrier("b")
    still.wait_for_barrier("b")
    assert still.node(b"/x/d").watch == node.watch
    names_in_use(still)
    assert still.source._translator._moving == {}


# -- order --------------------------------------------------------------------------------------


def test_a_delete_is_looked_at_again_behind_what_was_sent_meanwhile(inside, still):
    make(inside / "d", "a", "b")
    still.begin()
    (inside / "d" / "a").unlink()
    (inside / "d" / "b").write_text("changed")
    still.absorb()
    while b"/d/b" not in sent(still.items):
        still.take(next(still.messages))
    (inside / "d" / "a").write_text("back")
    for item in still.listing(b"/d", MessageSource.ON_DEMAND):
        still.take(item)
    still.say()
    assert b"/d/a" in still.view.rows
    names_in_use(still)


def test_every_row_of_a_chunk_is_stamped_before_it_is_looked_at_and_after_the_chunk_before(inside, still):
    make(inside / "d", *(f"{number}" for number in range(2500)))
    still.begin()
    listing = still.listing(b"/d")
    own, *chunks, end = [*listing]
    assert [len(each.rows) for each in chunks] == [1000, 1000, 500]
    indices = [own.index, *(each.index for each in chunks)]
    assert indices == sorted(set(indices))
    assert end.index == own.index


def test_a_file_that_changes_between_two_chunks_is_never_overtaken_by_its_listing(inside, still):
    make(inside / "d", *(f"{number}" for number in range(1500)))
    still.begin()
    listing = still.listing(b"/d", MessageSource.SNAPSHOT)
    still.take(next(listing))
    still.take(next(listing))
    for number in range(1500):
        (inside / "d" / f"{number}").write_text("changed while it was listed")
    still.absorb()
    still.say()
    for item in listing:
        still.take(item)  # the view refuses a row that is older than what it has
    names_in_use(still)


# -- what is gone ---------------------------------------------------------------------------------


def test_what_vanished_unseen_is_gone_after_a_listing(inside, still):
    make(inside / "d" / "e", "leaf")
    make(inside / "d" / "stays", "leaf")
    still.begin()
    (inside / "d" / "e" / "leaf").unlink()
    (inside / "d" / "e").rmdir()
    still.read()  # nobody hears of it
    watches = still.source._tree.watch_count
    still.source.rescan(b"/d", recursive=False)
    names_in_use(still)
    assert b"/d/stays/leaf" in still.view.rows
    assert still.source._tree.watch_count == watches - 1


def test_another_directory_of_the_same_name_found_by_a_listing_is_listed_itself(inside, still):
    make(inside / "d" / "e" / "old", "leaf")
    still.begin()
    (inside / "d" / "e").rename(inside.parent / "away")
    make(inside / "d" / "e" / "new", "leaf")
    still.read()
    still.source.rescan(b"/d", recursive=False)
    names_in_use(still)
    (inside / "d" / "e" / "new" / "later").write_text("")
    names_in_use(still)


def test_a_live_directory_that_is_not_there_is_looked_for_again_not_declared_gone(inside, still):
    make(inside / "d" / "e", "f")
    still.begin()
    (inside / "d").rename(inside / "x")
    still.source._work.mark_dirty(still.node(b"/d/e"))
    item = next(still.messages)  # /d/e is not there, and no record says why
    while item is not None:
        still.take(item)
        item = next(still.messages)
    assert DeleteEvent not in {type(each) for each in still.items if b"/d/e" in sent([each])}
    still.sync()
    names_in_use(still)
    assert b"/x/e/f" in still.view.rows


def test_a_live_directory_that_could_not_be_opened_once_is_listed_after_all(inside, still, monkeypatch):
    make(inside / "d" / "e", "f")
    still.begin()
    node = still.node(b"/d/e")
    real = places.open_directory

    def be_away_once(root: bytes, path: bytes, *, above: tuple[int, int] | None) -> int:
        monkeypatch.setattr(places, "open_directory", real)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(places, "open_directory", be_away_once)
    (inside / "d" / "e" / "f").write_text("changed")
    still.sync()  # the barrier waits for the second look
    names_in_use(still)
    assert still.node(b"/d/e") is node


def test_the_identity_of_a_directory_decides_not_its_name(inside, still):
    make(inside / "d", "f")
    still.begin()
    (inside / "d" / "f").write_text("changed")
    still.absorb()
    (inside / "d").rename(inside / "gone")
    make(inside / "d", "g")
    names_in_use(still)
    assert b"/d/f" not in still.view.rows


# -- patterns -------------------------------------------------------------------------------------


def test_a_renamed_directory_is_deleted_whatever_the_pattern_says_of_its_name(inside, start_still):
    still = start_still(file_pattern="*.txt")
    make(inside / "d", "a.txt")
    still.begin()
    (inside / "d").rename(inside / "e")
    still.absorb()
    still.say()
    still.assert_exact(pattern="*.txt")


def test_a_directory_that_a_file_outside_the_pattern_replaced_is_deleted(inside, start_still):
    still = start_still(file_pattern="*.txt")
    make(inside / "d", "a.txt")
    (inside / "f").write_text("")
    still.begin()
    exchange(bytes(inside / "d"), bytes(inside / "f"))
    still.absorb()
    still.say()
    still.assert_exact(pattern="*.txt")


def test_a_delete_outside_the_pattern_that_got_lost_is_said_again(inside, start_still):
    still = start_still(file_pattern="*.txt")
    make(inside / "d", "a.txt")
    still.begin()
    (inside / "d").rename(inside / "e")
    still.absorb()
    lost, still.take = [], lambda item: lost.append(item.position)
    still.say()
    del still.take
    for position in lost:
        still.source.recover(position)
    still.say()
    still.assert_exact(pattern="*.txt")


def test_names_outside_the_pattern_are_never_sent_but_the_times_of_their_directory_are(inside, start_still):
    still = start_still(file_pattern="*.txt")
    make(inside / "d")
    still.begin()
    (inside / "d" / "f.o").write_text("")
    still.absorb()
    assert sent(still.say()) == {b"/d"}


# -- what cannot be read ------------------------------------------------------------------------------


def test_a_symbolic_link_in_place_of_an_ancestor_never_leads_out(inside, outside, still):
    make(inside / "d" / "e", "f")
    make(outside / "e", "secret")
    still.begin()
    (inside / "d").rename(inside.parent / "away")
    (inside / "d").symlink_to(outside)
    still.source._work.mark_dirty(still.node(b"/d/e"))
    still.source._work.look(still.node(b"/d/e"), b"secret")
    for _ in range(10):
        if (item := next(still.messages)) is not None:
            still.take(item)
    assert b"/d/e/secret" not in sent(still.items)
    still.sync()
    names_in_use(still)
    assert still.view.rows[b"/d"][1].target == bytes(outside)


def test_a_symbolic_link_to_a_directory_is_a_row_and_never_followed(inside, outside, still):
    make(outside / "e", "secret")
    (inside / "link").symlink_to(outside)
    (inside / "nowhere").symlink_to("does/not/exist")
    still.begin()
    names_in_use(still)
    assert set(still.view.get_entries()) == {b"/link", b"/nowhere"}


def test_a_name_that_fails_to_be_read_makes_its_listing_incomplete_and_is_retried(inside, start_still, monkeypatch):
    still = start_still(retry_unreadable_s=0.0)
    make(inside / "d", "f")
    still.begin()
    real = os.stat

    def fail(path, **options):
        if path == b"f":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", fail)
    assert listed(still.listing(b"/d")) == []
    monkeypatch.undo()
    assert still.source.get_status().skipped == {"/d": "Input/output error"}
    assert b"/d/f" in still.view.rows
    names_in_use(still)
    assert b"/d" in listed(still.items)


def test_the_names_of_a_large_directory_are_sent_sorted_a_part_at_a_time(inside, still, monkeypatch):
    monkeypatch.setattr("fustor_source_fs.listing._SORTED_NAMES", 40)
    make(inside / "d", *(f"{number:02}" for number in random.sample(range(100), 100)))
    still.begin()
    events = [item for item in still.listing(b"/d") if isinstance(item, UpdateEvent)]
    names = [row.path for event in events for row in event.rows if row.path != b"d"]
    assert len(names) == 100
    assert [names[:40], names[40:80], names[80:]] == [sorted(names[:40]), sorted(names[40:80]), sorted(names[80:])]


def test_what_was_read_before_a_directory_failed_is_sent(inside, start_still, monkeypatch):
    still = start_still(retry_unreadable_s=0.0)
    make(inside / "d", *(f"{number}" for number in range(10)))
    real = os.scandir

    class Failing:
        def __init__(self, place):
            self.entries = real(place)

        def __enter__(self):
            yield from itertools.islice(self.entries, 7)
            raise OSError(errno.EIO, "Input/output error")

        def __exit__(self, *error):
            self.entries.close()

    still.begin()
    monkeypatch.setattr(os, "scandir", Failing)
    found = list(still.listing(b"/d"))
    monkeypatch.undo()
    assert listed(found) == []
    assert len(sent(found)) == 1 + 7
    assert still.source.get_status().skipped == {"/d": "Input/output error"}
    names_in_use(still)


def test_without_a_watch_to_spare_it_goes_on_and_says_so(inside, still, monkeypatch):
    make(inside / "d", "f")

    def refuse(*directory: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(still.source._shards, "add_watch", refuse)
    still.start_snapshot()
    still.finish_snapshot()
    still.assert_exact()
    assert "2 directories are not watched" in still.source.get_status().not_current_because
    monkeypatch.undo()
    still.source.rescan(b"/")
    names_in_use(still)


# -- names, times and paths of every kind ---------------------------------------------------------------


def test_names_of_any_bytes_come_and_go(inside, still):
    names = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."] + [b"\xff" * 255, b"a" * 255]
    still.begin()
    for name in names:
        os.mkdir(bytes(inside) + b"/" + name)
        os.mkdir(bytes(inside) + b"/" + name + b"/" + name)
    names_in_use(still)
    assert {b"/" + name + b"/" + name for name in names} <= still.view.rows.keys()
    for name in names:
        os.rmdir(bytes(inside) + b"/" + name + b"/" + name)
        os.rename(bytes(inside) + b"/" + name, bytes(inside) + b"/" + name[:253] + b"~~")
        names_in_use(still)
        os.rmdir(bytes(inside) + b"/" + name[:253] + b"~~")
    names_in_use(still)
    assert not still.view.get_entries()


@pytest.mark.parametrize("seconds", [-(1 << 31), -1, 0, 7_258_118_400], ids=["1901", "-1 s", "zero", "2200"])
def test_times_of_any_kind_are_kept(inside, still, seconds):
    (inside / "f").write_text("")
    still.begin()
    os.utime(inside / "f", ns=(0, seconds * 10**9))
    names_in_use(still)
    assert still.view.rows[b"/f"][1].mtime_ns == seconds * 10**9


def test_a_time_beyond_what_64_bits_of_nanoseconds_hold_becomes_the_last_one_they_do(inside, still):
    (inside / "f").write_text("")
    still.begin()
    os.utime(inside / "f", ns=(0, 13_569_465_600 * 10**9))  # the year 2400
    assert (inside / "f").stat().st_mtime > 1 << 33
    still.absorb()
    still.say()
    assert still.view.rows[b"/f"][1].mtime_ns == (1 << 63) - 1


def test_a_path_deeper_than_any_system_call_takes_is_watched_and_sent(inside, still):
    here = os.open(inside, os.O_RDONLY)
    for _ in range(30):
        os.mkdir(b"n" * 250, dir_fd=here)
        below = os.open(b"n" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    still.begin()
    os.close(os.open(b"leaf", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    names_in_use(still)
    assert (b"/" + b"n" * 250) * 30 + b"/leaf" in still.view.rows


def test_a_thousand_levels_are_watched_renamed_and_dropped(inside, outside, still):
    here = os.open(inside, os.O_RDONLY)
    for _ in range(1000):
        os.mkdir(b"d", dir_fd=here)
        below = os.open(b"d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    still.begin()
    (inside / "d").rename(inside / "moved")
    names_in_use(still)
    (inside / "moved").rename(outside / "moved")
    names_in_use(still)
    assert not still.view.get_entries()
    subprocess.run(["rm", "-rf", outside / "moved"], check=True)  # deeper than pytest's own cleaning can go


def test_a_directory_that_came_to_the_place_of_a_file_is_said_before_what_is_in_it(inside, still):
    make(inside / "o" / "x" / "y" / "z", "f")
    make(inside / "first", "f")
    (inside / "d").write_text("a file")
    still.begin()
    still.source.rescan(b"/o/x/y/z", recursive=False)  # listed first of all that the rename makes necessary
    (inside / "first" / "f").write_text("looked at before /d is")
    (inside / "d").unlink()
    (inside / "o" / "x").rename(inside / "d")
    names_in_use(still)  # the view refuses rows below a file
    assert listed(still.items)[0] == b"/d/y/z"


def test_all_directories_of_a_moved_tree_are_said_before_what_is_in_them(inside, still):
    make(inside / "o" / "x" / "y" / "z", "f")
    make(inside / "first", "f")
    make(inside / "d", "y")  # as a file
    still.begin()
    still.source.rescan(b"/o/x/y/z", recursive=False)
    (inside / "first" / "f").write_text("looked at before /d is")
    exchange(bytes(inside / "o" / "x"), bytes(inside / "d"))
    names_in_use(still)
    assert listed(still.items)[0] == b"/d/y/z"


def test_a_directory_that_cannot_be_said_yet_keeps_what_is_in_it_waiting(inside, still, monkeypatch):
    make(inside / "o" / "x" / "y", "f")
    make(inside / "first", "f")
    (inside / "d").write_text("a file")
    still.begin()
    still.source.rescan(b"/o/x/y", recursive=False)
    (inside / "first" / "f").write_text("looked at before /d is")
    (inside / "d").unlink()
    (inside / "o" / "x").rename(inside / "d")
    still.absorb()

    refused = []

    def refuse(root, path):
        refused.append(path)
        monkeypatch.undo()
        raise FileNotFoundError(path)

    monkeypatch.setattr(places, "stat_directory", refuse)
    still.sync()  # waits for what is looked at again a little later
    assert refused == [b"/d"]
    names_in_use(still)


def test_special_files_are_rows_and_never_opened(inside, still):
    os.mkfifo(inside / "fifo")
    still.begin()
    os.mkfifo(inside / "other")
    names_in_use(still)
    assert stat.S_ISFIFO(still.view.rows[b"/fifo"][1].mode)


# -- parents and hard links -------------------------------------------------------------------------------


def test_the_times_of_a_directory_follow_its_children(inside, still):
    make(inside / "d", "f")
    still.begin()
    for change in ((inside / "d" / "g").touch, (inside / "d" / "f").unlink, (inside / "d" / "e").mkdir):
        change()
        names_in_use(still)


def test_a_parent_is_looked_at_once_for_many_children(inside, still):
    make(inside / "d")
    still.begin()
    for number in range(100):
        (inside / "d" / f"{number}").touch()
    still.absorb()
    rows = [item.prefix + row.path for item in still.say() for row in item.rows]
    assert rows.count(b"/d") == 1


def test_a_write_through_one_name_sends_the_identity_that_the_other_names_share(inside, still):
    make(inside / "d", "one")
    os.link(inside / "d" / "one", inside / "two")
    still.begin()
    (inside / "two").write_text("through two")
    still.absorb()
    (event,) = [item for item in still.say() if isinstance(item, UpdateEvent) and b"/two" in sent([item])]
    (row,) = [row for row in event.rows if row.path == b"two"]
    assert (row.inode, row.nlink) == ((inside / "d" / "one").stat().st_ino, 2)
    assert still.view.rows[b"/d/one"][1].size == len("through two")
