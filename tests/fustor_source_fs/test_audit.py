"""An audit finds what no event told of: names by either kind, contents by a full one."""

import mmap
import os

import pytest

from fustor_core.drivers import AuditCoverage
from fustor_event_model import AuditEnd, AuditStart, EventBase, Listed, MessageSource
from oracle import walk

KINDS = pytest.mark.parametrize("kind", ["incremental", "full"])


@pytest.fixture
def blind_tree(inside, still, blindfold):
    """Three directories with a file and a directory each, all in the view; returns the place."""
    for name in "abc":
        (inside / name / "sub" / "deep").mkdir(parents=True)
        (inside / name / "file").write_text(name)
    with blindfold:
        pass
    still.begin()
    return inside


def listed(said) -> set[bytes]:
    return {item.path for item in said if isinstance(item, Listed)}


def paths(view) -> set[bytes]:
    return set(view.rows) - {b"/"}


def settle(still):
    """Take what the audit made the source look at."""
    still.say()


# -- what is found ---------------------------------------------------------------------------


@KINDS
def test_what_was_made_removed_and_renamed_blindly_is_found(blind_tree, outside, still, blindfold, kind):
    with blindfold:
        (blind_tree / "a" / "new").mkdir()
        (blind_tree / "a" / "new" / "file").write_text("new")
        (blind_tree / "a" / "file").unlink()
        (blind_tree / "b" / "sub").rename(blind_tree / "c" / "sub from b")
        (blind_tree / "b" / "file").rename(outside / "file")
        (blind_tree / "c" / "sub" / "deep").rmdir()
        os.symlink("x", blind_tree / "c" / "link")
    still.audit(kind)
    settle(still)
    assert paths(still.view) == set(walk(bytes(blind_tree)))
    still.assert_exact()


@KINDS
@pytest.mark.parametrize("away", ["file over directory", "directory over file", "another directory"])
def test_what_took_the_place_of_another_blindly_is_found(blind_tree, outside, still, blindfold, kind, away):
    place = blind_tree / "a" / "sub"
    with blindfold:
        if away == "directory over file":
            place = blind_tree / "a" / "file"
        place.rename(outside / "gone")
        if away == "file over directory":
            place.write_text("a file now")
        else:
            place.mkdir()
            (place / "other").write_text("in another directory")
    still.audit(kind)
    settle(still)
    still.assert_exact()


def write_in_place(path):
    with path.open("r+b") as file:
        file.write(b"A")


def write_mapped(path):
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0:1] = b"B"


@pytest.mark.parametrize("write", [write_in_place, write_mapped, lambda path: path.chmod(0o600)])
def test_what_was_written_in_place_is_found_by_a_full_audit_only(blind_tree, still, blindfold, write):
    with blindfold:
        write(blind_tree / "a" / "file")
    still.audit("incremental")
    settle(still)
    assert still.differences(), "the directory is as it was, so nobody could know"
    still.audit("full")
    settle(still)
    still.assert_exact()


@KINDS
def test_watches_are_right_after_an_audit_has_found_moved_directories(blind_tree, still, blindfold, kind):
    with blindfold:
        (blind_tree / "a" / "sub").rename(blind_tree / "b" / "moved")
        (blind_tree / "c").rename(blind_tree / "d")
    still.audit(kind)
    settle(still)
    (blind_tree / "b" / "moved" / "deep" / "after").write_text("seen as it happens")
    (blind_tree / "d" / "sub" / "after").write_text("this too")
    still.sync()
    still.assert_exact()


@KINDS
def test_what_an_audit_finds_gone_is_said_on_its_own_lane(blind_tree, still, blindfold, kind):
    with blindfold:
        (blind_tree / "a" / "sub" / "deep").rmdir()
    still.audit(kind)
    settle(still)
    assert {item.message_source for item in still.items} == {MessageSource.AUDIT}
    still.assert_exact()


# -- what is passed over ---------------------------------------------------------------------


def test_an_incremental_audit_lists_only_what_has_changed(blind_tree, still, blindfold):
    with blindfold:
        (blind_tree / "b" / "sub" / "new").mkdir()
    said = still.audit("incremental")
    assert listed(said) == {b"/b/sub", b"/b/sub/new"}
    rows = sum(len(item.rows) for item in said if isinstance(item, EventBase))
    assert still.source.get_status().audit == AuditCoverage(listed=2, skipped=9, unreadable=0, rows=rows)
    assert isinstance(said[0], AuditStart)
    assert isinstance(said[-1], AuditEnd)
    assert (said[0].kind, said[-1].complete) == ("incremental", True)


def test_a_full_audit_lists_everything_though_nothing_has_changed(blind_tree, still):
    assert len(listed(still.audit("full"))) == 10
    assert still.audit("incremental")[1:-1] == [], "what a full audit has listed need not be listed again"


@pytest.mark.parametrize(("age_ns", "again"), [(10**9 - 1, True), (10**9, False)])
def test_times_are_trusted_from_one_second_on(blind_tree, still, age_ns, again):
    """Younger ones may stay what they are through another change: a tick may be as long as 10 ms, or 2 s."""
    newest = max(os.stat(blind_tree / "a").st_mtime_ns, os.stat(blind_tree / "a").st_ctime_ns)
    still.source._lister._wall_ns = lambda: newest + age_ns
    still.audit("full")
    assert (b"/a" in listed(still.audit("incremental"))) is again


def test_an_mtime_put_back_does_not_hide_a_change(blind_tree, still, blindfold):
    before = os.stat(blind_tree / "a")
    with blindfold:
        (blind_tree / "a" / "file").unlink()
        os.utime(blind_tree / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    still.audit("incremental")
    settle(still)
    still.assert_exact()


def test_a_listing_that_is_not_acknowledged_says_nothing(blind_tree, still):
    for item in still.source.get_audit_iterator("full"):
        still.view.apply([item])
    assert len(listed(still.audit("incremental"))) == 10


def test_a_listing_of_which_a_part_was_lost_says_nothing_even_if_its_end_is_acknowledged(blind_tree, still):
    items = list(still.source.get_audit_iterator("full"))
    lost = next(item for item in items if isinstance(item, EventBase) and item.prefix == b"/b/")
    still.source.recover(lost.position)
    for item in items:
        if item.position is not None:
            still.source.acknowledge(item.position)
    assert b"/b" in listed(still.audit("incremental"))


@pytest.mark.parametrize("again", ["follow", "get_snapshot_iterator"])
def test_a_new_role_or_snapshot_forgets_what_was_listed_before(blind_tree, still, again):
    getattr(still.source, again)()
    assert len(listed(still.audit("incremental"))) == 10


def test_a_directory_that_is_not_watched_is_always_listed(blind_tree, still):
    still.node(b"/b").watch = None
    assert listed(still.audit("incremental")) == {b"/b"}


def test_a_directory_that_was_moved_is_listed_again_at_its_new_place(blind_tree, still, blindfold):
    (blind_tree / "a").rename(blind_tree / "z")
    still.absorb()
    assert {b"/z", b"/z/sub", b"/z/sub/deep"} <= listed(still.audit("incremental"))
    settle(still)
    still.assert_exact()


def test_a_change_that_comes_while_the_audit_runs_is_kept(blind_tree, still):
    for number, item in enumerate(still.source.get_audit_iterator("full")):
        still.take(item)
        (blind_tree / "b" / f"during {number}").write_text("")
    still.sync()
    still.assert_exact()


# -- how fast ----------------------------------------------------------------------------------


def test_an_audit_rests_and_the_wait_ends_when_it_may_go_on(inside, start_still):
    for number in range(30):
        (inside / f"d{number}").mkdir()
        for name in range(9):
            (inside / f"d{number}" / f"f{name}").write_text("")
    still = start_still(audit_rows_per_s=1000.0)
    still.begin()
    now = [0.0]
    waits = []

    def wait(timeout_s=None):
        waits.append(timeout_s)
        now[0] += timeout_s

    still.source._now = lambda: now[0]
    still.source._wake_event.wait = wait
    audit = still.source.get_audit_iterator("full")
    seen = [item for item in audit if item is not None or still.source.wait(3600.0)]
    looked = 1 + 30 + 30 * 10
    assert seen[-1].complete
    assert looked / 1000.0 - 0.2 <= now[0] <= looked / 1000.0, "names and directories, less the last burst"
    assert len(waits) < 10, "in bursts, so that batches are not tiny"
    still.source.wait(3600.0)
    assert waits[-1] == 3600.0, "an audit that is over wakes nobody"


def test_an_audit_that_may_go_on_wakes_its_worker_once_however_long_the_lane_is_closed(inside, start_still):
    for number in range(200):
        (inside / f"f{number}").write_text("")
    still = start_still(audit_rows_per_s=100.0)
    still.begin()
    still.source._wake_event.wait = (waits := []).append
    audit = still.source.get_audit_iterator("full")
    while next(audit) is not None:
        pass
    still.source.wait(3600.0)
    still.source.wait(3600.0)
    assert 0 < waits[0] < 3.0
    assert waits[1] == 3600.0


def test_without_a_rate_an_audit_never_rests(inside, start_still):
    (inside / "d").mkdir()
    still = start_still(audit_rows_per_s=0.0)
    still.begin()
    assert None not in list(still.source.get_audit_iterator("full"))


def test_realtime_goes_on_while_an_audit_rests(inside, start_still):
    for number in range(100):
        (inside / f"d{number}").mkdir()
    still = start_still(audit_rows_per_s=100.0)
    still.begin()
    audit = still.source.get_audit_iterator("full")
    while next(audit) is not None:
        pass
    (inside / "d7" / "now").write_text("")
    still.sync()
    still.assert_exact()


# -- directories that nobody watches yet -------------------------------------------------------


def find_new_directory(still, walk):
    """Take what a walk says until it has sent the row of the new directory, which it has yet to list."""
    for item in walk:
        still.take(item)
        if b"/a/new" in still.view.rows:
            return


WALKS = pytest.mark.parametrize(
    "begin",
    [
        lambda source: source.get_audit_iterator("incremental"),
        lambda source: source.get_audit_iterator("full"),
        lambda source: source.scan_path(b"/", recursive=True, job_id="j"),
        lambda source: source.scan_path(b"/a", recursive=False, job_id="j"),
    ],
    ids=["incremental", "full", "scan", "flat scan"],
)


@WALKS
def test_a_barrier_waits_until_a_directory_that_was_found_is_listed(blind_tree, still, blindfold, begin):
    with blindfold:
        (blind_tree / "a" / "new" / "below").mkdir(parents=True)
    walk = begin(still.source)
    find_new_directory(still, walk)
    still.source.barrier("t")
    still.say()
    if "t" not in still.barriers:
        for item in walk:
            still.take(item)
        still.say()
    assert "t" in still.barriers
    assert b"/a/new/below" in still.view.rows, "what was there before the barrier is said before it"


@WALKS
def test_a_directory_that_a_walk_has_found_is_listed_though_the_walk_ends_before(blind_tree, still, blindfold, begin):
    with blindfold:
        (blind_tree / "a" / "new" / "below").mkdir(parents=True)
    walk = begin(still.source)
    find_new_directory(still, walk)
    walk.close()
    still.sync()
    still.assert_exact()


@pytest.mark.parametrize("items", range(1, 4))
def test_a_directory_whose_listing_a_walk_has_begun_is_listed_though_the_walk_ends(
    blind_tree, still, blindfold, items
):
    with blindfold:
        (blind_tree / "a" / "new" / "below").mkdir(parents=True)
    audit = still.source.get_audit_iterator("full")
    find_new_directory(still, audit)
    while not still.node(b"/a/new").watch:
        still.take(next(audit))
    for _ in range(items):
        still.take(next(audit))
    audit.close()
    still.sync()
    still.assert_exact()


def test_a_directory_that_nobody_watches_yet_is_listed_without_a_rest(inside, start_still, make_blindfold):
    still = start_still(audit_rows_per_s=30.0)
    still.begin()
    with make_blindfold(still):
        (inside / "/".join(["new"] * 20)).mkdir(parents=True)
    still.source._now = lambda: 0.0
    audit = still.source.get_audit_iterator("full")
    for item in iter(lambda: next(audit), None):
        still.take(item)
    still.assert_exact()


# -- sentinels -----------------------------------------------------------------------------------


def test_a_sentinel_says_what_is_at_the_names_on_its_own_lane(blind_tree, still, blindfold):
    with blindfold:
        (blind_tree / "a" / "file").write_text("grown")
        (blind_tree / "b" / "file").unlink()
    asked = [b"/a/file", b"/b/file", b"/c/file", b"/c/sub", b"/none/such", b"/"]
    said = list(still.source.perform_sentinel_check(asked))
    for item in said:
        still.take(item)
    assert {item.message_source for item in said} == {MessageSource.SENTINEL}
    assert still.view.rows[b"/a/file"][1].size == 5
    assert b"/b/file" not in still.view.rows
    assert {item.prefix + row.path for item in said for row in item.rows} == set(asked[:3])


def test_what_a_sentinel_said_and_was_lost_is_looked_at_again(blind_tree, still, blindfold):
    with blindfold:
        (blind_tree / "a" / "file").write_text("grown")
    for item in still.source.perform_sentinel_check([b"/a/file"]):
        still.source.recover(item.position)
    still.sync()
    assert still.view.rows[b"/a/file"][1].size == 5


def test_a_sentinel_that_is_cut_off_holds_no_barrier_up(blind_tree, still):
    check = still.source.perform_sentinel_check([b"/a/file", b"/b/file"])
    still.take(next(check))
    check.close()
    still.sync()
