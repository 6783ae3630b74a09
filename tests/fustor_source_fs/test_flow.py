"""Snapshots, barriers, recovery, following and pressure of the whole source, step by step."""

import os
from pathlib import Path

import pytest

from fustor_core.drivers import Barrier
from fustor_core.errors import ConfigError, Unavailable
from fustor_event_model import AuditEnd, AuditStart, JobDone, Listed, MessageSource, SnapshotEnd
from fustor_source_fs import FsConfig, FsSource


def make(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_text(name)
    return path


def sent(items) -> set[bytes]:
    return {item.prefix + row.path for item in items for row in getattr(item, "rows", ())}


# -- barriers -------------------------------------------------------------------------------------


def test_a_barrier_reads_what_no_thread_has_read_yet(inside, still):
    still.begin()
    (inside / "f").write_text("")
    still.source.barrier("b")
    still.say()
    assert [type(item) is Barrier for item in still.items] == [False] * (len(still.items) - 1) + [True]
    assert b"/f" in still.view.rows


def test_a_barrier_taken_while_a_dirty_listing_is_half_sent_waits_for_its_end(inside, still):
    make(inside / "d", *(f"{number}" for number in range(1500)))
    still.begin()
    still.source._work.mark_dirty(still.node(b"/d"))
    seen = [next(still.messages), next(still.messages)]
    assert [len(item.rows) for item in seen] == [1, 1000]
    still.source.barrier("b")
    rest = still.say()
    assert isinstance(rest[-2], Listed)
    assert rest[-1] == Barrier("b")


def test_a_barrier_waits_for_the_listings_that_a_listing_leads_to(inside, still):
    still.begin()
    make(inside / "a" / "b" / "c", "leaf")
    still.source.barrier("b")
    items = still.say()
    assert items[-1] == Barrier("b")
    assert b"/a/b/c/leaf" in sent(items)


def test_barriers_come_in_their_order_and_behind_their_own_changes_only(inside, still):
    still.begin()
    (inside / "f").write_text("")
    still.source.barrier("first")
    (inside / "g").write_text("")
    still.source.barrier("second")
    assert [item.token for item in still.say() if isinstance(item, Barrier)] == ["first", "second"]


def test_a_barrier_waits_for_a_running_snapshot(inside, still):
    make(inside / "d", "f")
    still.start_snapshot()
    still.source.barrier("b")
    still.say()
    assert still.barriers == []
    while still.step_snapshot():
        assert not [item for item in still.say() if isinstance(item, Barrier)] or still.snapshot is None or isinstance(
            still.items[-2], SnapshotEnd
        )
    still.say()
    assert still.barriers == ["b"]
    still.assert_exact()


def test_a_barrier_before_anything_is_watched_is_refused(still):
    with pytest.raises(Unavailable, match="nothing is watched yet"):
        still.source.barrier("b")


def test_a_barrier_is_refused_while_something_is_not_watched(inside, still, monkeypatch):
    def refuse(*directory: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(still.source._shards, "add_watch", refuse)
    still.start_snapshot()
    still.finish_snapshot()
    with pytest.raises(Unavailable, match=r"1 directories are not watched but looked at every 30 s: No space left"):
        still.source.barrier("b")


def test_a_barrier_is_refused_while_the_root_is_not_there(inside, still):
    still.begin()
    inside.rename(inside.parent / "away")
    still.absorb()
    still.say()
    with pytest.raises(Unavailable, match=str(inside)):
        still.source.barrier("b")


@pytest.fixture
def replaceable(tmp_path) -> tuple[Path, Path]:
    """A root with something in it, and another tree that can be put in its place."""
    make(tmp_path / "place" / "root" / "before", "f")
    make(tmp_path / "other" / "root" / "after", "g")
    return tmp_path / "place", tmp_path / "other"


def rename_an_ancestor(place: Path, other: Path) -> None:
    place.rename(place.with_name("old"))
    other.rename(place)


def turn_a_link(place: Path, other: Path) -> None:
    place.unlink()
    place.symlink_to(other)


@pytest.mark.parametrize("replace", [rename_an_ancestor, turn_a_link])
def test_a_barrier_sees_another_root_of_which_no_record_tells(replaceable, make_pump, replace):
    place, other = replaceable
    if replace is turn_a_link:
        place.rename(place.with_name("target"))
        place.symlink_to("target")
    pump = make_pump(place / "root")
    pump.begin()
    replace(place, other)
    pump.sync()
    pump.assert_exact()
    (place / "root" / "after" / "watched").write_text("")
    pump.sync()
    pump.assert_exact()


def test_a_barrier_is_refused_when_the_root_has_gone_and_no_record_tells(replaceable, make_pump):
    place, _ = replaceable
    pump = make_pump(place / "root")
    pump.begin()
    place.rename(place.with_name("old"))
    with pytest.raises(Unavailable, match="No such file"):
        pump.source.barrier("b")
    place.with_name("old").rename(place)
    pump.sync()
    pump.assert_exact()


# -- recovery -------------------------------------------------------------------------------------


def lose(still) -> list[bytes]:
    """Let all messages there are at this moment get lost."""
    lost: list[bytes] = []
    still.take = lambda item: lost.append(item.position)
    still.say()
    del still.take
    return lost


def test_what_got_lost_holds_back_a_barrier_that_is_older_than_its_recovery(inside, still):
    make(inside / "d")
    still.begin()
    (inside / "d" / "f").write_text("1")
    still.absorb()
    lost = lose(still)
    still.source.barrier("b")
    for position in lost:
        still.source.recover(position)
    items = still.say()
    assert items[-1] == Barrier("b")
    assert b"/d/f" in sent(items)


def test_a_listing_that_got_lost_holds_back_an_older_barrier_too(inside, still):
    still.begin()
    make(inside / "d", "f")
    still.absorb()
    lost = lose(still)
    still.source.barrier("b")
    for position in lost:
        still.source.recover(position)
    items = still.say()
    assert items[-1] == Barrier("b")
    assert b"/d/f" in sent(items)
    still.assert_exact()


def test_a_listing_of_which_a_part_got_lost_promises_nothing(inside, still):
    make(inside / "d" / "below" / "deep", "leaf")
    still.begin()
    still.start_snapshot()
    while b"/d/below" not in sent(still.items):
        still.step_snapshot()
    lost = still.items[-1]  # the children of d; that d was listed is not said yet
    listing_of_d = still.source._inflight.add(still.node(b"/d"))
    still.source.recover(listing_of_d)
    still.items.clear()
    still.step_snapshot()
    assert not [item for item in still.items if isinstance(item, Listed) and item.path == b"/d"]
    assert lost.prefix == b"/d/"
    still.finish_snapshot()
    still.sync()
    still.assert_exact()
    assert [item for item in still.items if isinstance(item, Listed) and item.path == b"/d"]


def test_a_lost_end_of_a_snapshot_is_said_again_behind_what_got_lost_with_it(inside, still):
    make(inside / "d", "f")
    lost = []
    still.take = lambda item: lost.append(item)
    still.start_snapshot()
    still.finish_snapshot()
    del still.take
    assert isinstance(lost[-1], SnapshotEnd)
    for item in reversed(lost):
        still.source.recover(item.position)
    items = still.say()
    assert isinstance(items[-1], SnapshotEnd)
    assert items[-1].complete
    still.assert_exact()


def test_what_was_acknowledged_is_not_recovered(inside, still):
    still.begin()
    (inside / "f").write_text("")
    still.absorb()
    items = still.say()
    for item in items:
        still.source.recover(item.position)
    assert still.say() == []
    assert still.source.get_status().details["inflight"] == 0


def test_a_row_of_a_directory_that_got_lost_goes_before_what_is_in_it(inside, still):
    make(inside / "o" / "x" / "y", "f")
    (inside / "d").write_text("a file")
    still.begin()
    (inside / "d").unlink()
    (inside / "o" / "x").rename(inside / "d")
    still.absorb()
    for position in reversed(lose(still)):
        still.source.recover(position)
    still.say()  # the view refuses rows below a file
    still.assert_exact()


def test_rows_that_got_lost_with_a_listing_go_before_what_is_below_them(inside, start_still):
    (inside / "a" / "x" / "y").mkdir(parents=True)
    (inside / "a" / "x" / "y" / "f").touch()
    pump = start_still()
    pump.begin()
    (inside / "a").rename(inside / "b")
    pump.absorb()
    lost = []
    while not any(isinstance(item, Listed) for item in lost):
        item = next(pump.messages)
        of_listing = getattr(item, "prefix", None) == b"/b/" or isinstance(item, Listed)
        if of_listing:
            lost.append(item)
        elif item is not None:
            pump.take(item)
    pump.lose(lost)
    pump.source._work.take_dirty()  # what is farther down happens to come first
    for item in pump.listing(b"/b/x/y"):
        pump.take(item)
    pump.source._work.mark_dirty(pump.node(b"/b"), age=0)
    pump.say()
    pump.assert_exact()


def test_a_row_above_that_gets_lost_while_it_is_said_again_drops_no_listing_below(inside, still):
    make(inside / "d" / "below")
    still.begin()
    (inside / "d" / "below" / "leaf").write_text("")
    still.read()
    still.source._translator.overflow(0)
    while not any(isinstance(item, Listed) and item.path == b"/d" for item in still.items):
        still.take(next(still.messages))
    for _ in range(2):
        still.source.recover(still.source._inflight.add(still.node(b"/d")))
        still.take(next(still.messages))  # the listing of what is below begins with the row of d
    assert b"/d/below/leaf" in sent(still.say())
    still.assert_exact()


def test_a_barrier_waits_for_what_a_snapshot_had_to_leave_to_the_messages(inside, still):
    make(inside / "d" / "below")
    still.begin()
    (inside / "d" / "below" / "leaf").write_text("")
    still.read()  # and tell nobody
    still.start_snapshot()
    still.source.barrier("b")
    while not still.items or not isinstance(still.items[-1], Listed) or still.items[-1].path != b"/d":
        still.step_snapshot()
    still.step_snapshot()  # the row with which the listing of what is below begins
    still.source.recover(still.source._inflight.add(still.node(b"/d")))
    while still.step_snapshot():
        pass
    still.say()
    assert b"/d/below/leaf" in sent(still.items[: still.items.index(Barrier("b"))])
    still.assert_exact()


def test_what_got_lost_of_a_directory_that_is_gone_is_nobodys_work(inside, still):
    make(inside / "d", "f")
    still.begin()
    (inside / "d" / "f").write_text("1")
    still.absorb()
    lost = lose(still)
    (inside / "d" / "f").unlink()
    (inside / "d").rmdir()
    still.absorb()
    still.say()
    for position in lost:
        still.source.recover(position)
    still.say()
    still.assert_exact()


# -- snapshots ------------------------------------------------------------------------------------


def test_a_snapshot_that_is_cut_off_and_begun_again_is_complete(inside, still):
    for number in range(5):
        make(inside / f"d{number}" / "sub", "f")
    still.start_snapshot()
    for _ in range(7):
        still.step_snapshot()
    still.snapshot.close()
    assert still.source.get_status().not_current_because == "the snapshot is running"
    (inside / "d1" / "sub" / "g").write_text("")
    still.begin()
    still.assert_exact()
    assert still.source.get_status().not_current_because is None


def test_a_snapshot_does_not_list_again_what_the_messages_listed_meanwhile(inside, still):
    make(inside / "a" / "deep", "f")
    make(inside / "b", "f")
    still.start_snapshot()
    while b"/a" not in sent(still.items):
        still.step_snapshot()
    still.source.rescan(b"/a")
    still.source.rescan(b"/b")
    still.say()
    still.items.clear()
    still.finish_snapshot()
    assert not {b"/a/deep/f", b"/b/f"} & sent(still.items)
    still.sync()
    still.assert_exact()


def test_a_snapshot_of_a_root_that_is_not_there_is_not_complete(inside, still):
    inside.rmdir()
    still.start_snapshot()
    still.finish_snapshot()
    (end,) = still.items
    assert end.complete is False


def test_a_root_that_comes_back_is_watched_and_listed_again(inside, still):
    make(inside / "d", "f")
    still.begin()
    inside.rename(inside.parent / "away")
    still.absorb()
    still.say()
    assert still.source.get_status().not_current_because.startswith(f'uri "{inside}"')
    make(inside / "e", "g")
    while still.source.get_status().not_current_because is not None:
        still.source.wait(10)  # until the next retry
        still.say()
    still.assert_exact()
    (inside / "e" / "h").write_text("")
    still.sync()
    still.assert_exact()


# -- following --------------------------------------------------------------------------------------


def follow(still) -> None:
    still.source.follow()
    while still.source.get_status().not_current_because is not None:
        if (item := next(still.messages)) is not None:
            still.take(item)


def test_a_follower_walks_without_a_word_and_then_says_what_changes(inside, still):
    make(inside / "d" / "e", "f")
    follow(still)
    assert still.items == []
    assert still.source.get_status().details["watches"] == 3
    (inside / "d" / "e" / "f").write_text("changed")
    still.absorb()
    assert sent(still.say()) == {b"/d/e/f"}


def test_a_follower_says_what_was_born_while_it_walked(inside, still):
    make(inside / "d")
    still.source.follow()
    next(still.messages)  # the root has been walked, d has not
    make(inside / "new" / "deep", "f")
    make(inside / "d" / "later", "g")
    records = still.read()
    while still.source._following:  # the walk finds them before their records are known
        if (item := next(still.messages)) is not None:
            still.take(item)
    still.feed(records)
    still.say()
    assert {b"/new", b"/new/deep", b"/new/deep/f"} <= sent(still.items)


def test_a_follower_says_what_was_born_and_read_about_while_it_walked(inside, still):
    make(inside / "d")
    still.source.follow()
    next(still.messages)
    make(inside / "new" / "deep" / "deeper", "f")
    still.absorb()
    while still.source._following:
        if (item := next(still.messages)) is not None:
            still.take(item)
    still.say()
    assert {b"/new", b"/new/deep", b"/new/deep/deeper", b"/new/deep/deeper/f"} <= sent(still.items)


def test_a_walk_that_overtakes_the_listing_of_what_was_born_hides_nothing_of_it(inside, still, monkeypatch):
    for number in range(6):
        make(inside / f"d{number}")
    real = os.scandir

    def create_first(place):
        monkeypatch.setattr(os, "scandir", real)
        make(inside / "new" / "deep" / "deeper", "f")
        return real(place)

    monkeypatch.setattr(os, "scandir", create_first)
    still.source.follow()
    next(still.messages)  # the root is walked: the walk has found /new, and its record is there too
    for number in range(6):
        still.source.rescan(b"/d%d" % number, recursive=False)  # listed before /new, so the walk is ahead of it
    still.absorb()
    still.source.barrier("b")
    still.wait_for_barrier("b")
    assert {b"/new", b"/new/deep", b"/new/deep/deeper", b"/new/deep/deeper/f"} <= sent(still.items)


def test_a_barrier_waits_until_a_follower_has_set_its_watches(inside, still):
    make(inside / "d" / "e")
    still.source.follow()
    still.source.barrier("b")
    while still.source._following:
        if (item := next(still.messages)) is not None:
            still.take(item)
        assert still.barriers == [] or not still.source._following
    still.say()
    assert still.barriers == ["b"]


def test_a_follower_that_becomes_leader_sends_everything(inside, still):
    make(inside / "d" / "e", "f")
    follow(still)
    still.begin()
    still.assert_exact()
    assert still.source.get_status().not_current_because is None


def test_a_leader_that_follows_and_leads_again_sends_what_changed_meanwhile(inside, still):
    make(inside / "d" / "e", "f")
    still.begin()
    still.source.follow()
    make(inside / "d" / "new", "g")
    still.begin()
    still.assert_exact()


# -- pressure ---------------------------------------------------------------------------------------


def test_a_kernel_overflow_is_a_rescan_and_nothing_is_lost(inside, still):
    make(inside / "d", "f")
    still.begin()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit // 2 + 1):
        (inside / "d" / f"{number % 2}").touch()
        (inside / "d" / f"{number % 2}").unlink()
    make(inside / "after", "g")  # its records are lost
    still.sync()
    still.assert_exact()
    assert still.source.get_status().overflows == 1


def test_a_backlog_over_its_bound_is_a_rescan_and_nothing_is_lost(inside, start_still):
    still = start_still(max_backlog_bytes=100)
    make(inside / "d")
    still.begin()
    make(inside / "d" / "e", "f")
    for number in range(100):
        (inside / "d" / f"{number}").touch()
    still.sync()
    still.assert_exact()
    assert still.source.get_status().overflows == 1


def test_more_changes_than_may_be_pending_become_dirty_directories_and_nothing_is_lost(inside, start_still):
    still = start_still(max_pending=5)
    for number in range(4):
        make(inside / f"d{number}", *(f"{each}" for each in range(10)))
    still.begin()
    for number in range(4):
        for each in range(10):
            (inside / f"d{number}" / f"{each}").write_text("changed")
    still.absorb()
    status = still.source.get_status()
    assert status.pending <= 5
    assert status.dirty >= 3
    still.say()
    still.assert_exact()


def test_a_dirty_mark_is_cleared_before_the_directory_is_opened(inside, still):
    make(inside / "d", *(f"{number}" for number in range(1500)))
    still.begin()
    still.source._work.mark_dirty(still.node(b"/d"))
    next(still.messages), next(still.messages)
    still.source._work.mark_dirty(still.node(b"/d"))  # while it is listed
    still.say()
    assert [item.path for item in still.items if isinstance(item, Listed)] == [b"/d", b"/d"]


def test_the_lag_is_the_age_of_the_oldest_change_not_acknowledged(inside, still):
    still.begin()
    now = [still.source._now() + 1000.0]
    assert still.source.get_status().lag_s == 0.0
    (inside / "f").write_text("")
    still.absorb()
    lost = lose(still)
    still.source._now = lambda: now[0]
    assert still.source.get_status().lag_s > 999.0
    for position in lost:
        still.source.acknowledge(position)
    assert still.source.get_status().lag_s == 0.0


# -- audits and scans ---------------------------------------------------------------------------------


def test_an_audit_looks_at_everything_and_is_complete(inside, still):
    make(inside / "d" / "e", "f")
    still.begin()
    (inside / "d" / "e" / "f").unlink()
    still.read()  # nobody hears of it
    items = [item for item in still.source.get_audit_iterator("full") if item is not None]
    assert isinstance(items[0], AuditStart)
    assert isinstance(items[-1], AuditEnd)
    assert items[-1].complete
    assert {item.message_source for item in items} == {MessageSource.AUDIT}
    for item in items:
        still.take(item)
    still.assert_exact()


def test_an_audit_during_which_a_directory_vanishes_is_not_complete(inside, still):
    make(inside / "d" / "e", "f")
    still.begin()
    audit = still.source.get_audit_iterator("full")
    seen = []
    for item in audit:
        seen.append(item)
        if isinstance(item, Listed) and item.path == b"/d":
            (inside / "d" / "e").rename(inside.parent / "away")
    assert seen[-1].complete is False
    assert not [item for item in seen if isinstance(item, Listed) and item.path == b"/d/e"]


def test_a_scan_says_what_is_below_a_path_and_then_that_it_is_done(inside, still):
    make(inside / "d" / "e", "f")
    make(inside / "other", "g")
    still.begin()
    items = [item for item in still.source.scan_path(b"/d", recursive=True, job_id="j") if item is not None]
    assert isinstance(items[-1], JobDone)
    assert (items[-1].job_id, items[-1].complete) == ("j", True)
    assert sent(items) == {b"/d", b"/d/e", b"/d/e/f"}


def test_a_flat_scan_stays_in_its_directory(inside, still):
    make(inside / "d" / "e", "f")
    still.begin()
    items = [item for item in still.source.scan_path(b"/d", recursive=False, job_id="j") if item is not None]
    assert sent(items) == {b"/d", b"/d/e"}


@pytest.mark.parametrize(("path", "expected"), [
    (b"/d/f", {b"/d/f"}),
    (b"/d/gone", {b"/d/gone"}),
    (b"/nowhere/f", {b"/nowhere"}),
    (b"/d/new", {b"/d/new", b"/d/new/sub", b"/d/new/sub/f", b"/d/new/g"}),
    (b"/d/new/sub", {b"/d/new", b"/d/new/sub", b"/d/new/sub/f", b"/d/new/g"}),
])  # fmt: skip
def test_a_scan_of_what_is_no_known_directory_looks_at_the_name_or_at_what_is_on_the_way(
    inside, still, blindfold, path, expected
):
    make(inside / "d", "f", "gone")
    still.begin()
    with blindfold:
        (inside / "d" / "f").write_text("new")
        (inside / "d" / "gone").unlink()
        make(inside / "d" / "new" / "sub", "f")
        (inside / "d" / "new" / "g").write_text("g")
    *items, done = [item for item in still.source.scan_path(path, recursive=True, job_id="j") if item is not None]
    assert (done.job_id, done.path, done.complete) == ("j", path, True)
    assert {item.message_source for item in items} == {MessageSource.ON_DEMAND}
    assert sent(items) == expected


# -- the class ------------------------------------------------------------------------------------------


def test_the_connection_test_tells_what_is_missing_from_what_can_never_be(inside):
    FsSource.test_connection(FsConfig(uri=str(inside)))
    with pytest.raises(Unavailable, match="create, mount or permit it"):
        FsSource.test_connection(FsConfig(uri=str(inside / "nowhere")))
    (inside / "file").write_text("")
    with pytest.raises(ConfigError, match="is not a directory"):
        FsSource.test_connection(FsConfig(uri=str(inside / "file")))


def test_closing_gives_the_instance_and_its_thread_back(inside, pump):
    pump.begin()
    reader = pump.source._reader
    pump.source.close()
    pump.source.close()
    assert not reader._thread.is_alive()
