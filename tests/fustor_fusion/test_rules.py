import stat

import msgspec
import pytest

from fustor_event_model import FsRow
from fustor_fusion.rules import (
    BLIND,
    HOT_S,
    PLACEHOLDER,
    REALTIME,
    SUSPECT,
    Seen,
    Stored,
    Verdict,
    deletes,
    disproves_file,
    first_flags,
    is_buried,
    is_way_buried,
    judge_row,
    next_blind,
    next_flags,
)

DIR = stat.S_IFDIR | 0o755
FILE = stat.S_IFREG | 0o644


def stored(idx: int, *, owner: int = 1, flags: int = 0, mode: int = FILE, mtime_ns: int = 100,
           inode: int = 7) -> Stored:
    return Stored(b"n", idx, owner, flags, 3 if stat.S_ISDIR(mode) else None, 0, 10, mtime_ns, 0, mode, 0, 0, 1, inode,
                  1, None)


def row(*, mode: int = FILE, mtime_ns: int = 100, inode: int = 7, size: int = 10, atomic: bool = True) -> FsRow:
    return FsRow(b"n", size, mtime_ns, 0, mode, 0, 0, 1, inode, 1, None, atomic)


def seen(
    idx: int, *, owner: int = 1, realtime: bool = False, ordered: bool = True, blind: bool = False, since: int = 0
) -> Seen:
    return Seen(idx, owner, realtime, ordered, blind, since=since)


@pytest.mark.parametrize(("index", "verdict"), [(9, Verdict.DROP), (10, Verdict.UPDATE), (11, Verdict.UPDATE)])
@pytest.mark.parametrize("realtime", [True, False])
def test_of_one_agent_the_higher_index_wins_whatever_the_lane_and_mtime(index, verdict, realtime):
    assert judge_row(stored(10, mtime_ns=999), row(mtime_ns=1), seen(index, realtime=realtime)) is verdict


def test_a_scan_of_another_agent_yields_to_realtime_of_the_same_mtime_but_confirms_the_node():
    old = stored(10, owner=2, flags=REALTIME)
    assert judge_row(old, row(), seen(11)) is Verdict.CONFIRM
    assert judge_row(old, row(), seen(9)) is Verdict.DROP
    assert judge_row(old, row(mtime_ns=101), seen(11)) is Verdict.UPDATE


def test_realtime_of_another_agent_wins():
    assert judge_row(stored(10, owner=2), row(mtime_ns=1), seen(3, realtime=True)) is Verdict.UPDATE


def test_a_scan_wins_over_what_an_agent_without_a_session_said():
    old = stored(10, owner=2, flags=REALTIME)
    scan = msgspec.structs.replace(seen(5), present={1: 0})
    assert judge_row(old, row(mtime_ns=1), scan) is Verdict.UPDATE
    assert judge_row(old, row(mtime_ns=1), msgspec.structs.replace(scan, present={1: 0, 2: 9})) is Verdict.DROP
    assert judge_row(old, row(mtime_ns=1), msgspec.structs.replace(scan, present={1: 0, 2: 10})) is Verdict.UPDATE
    assert deletes(old, msgspec.structs.replace(scan, realtime=True))
    assert not deletes(old, scan)


def test_without_an_index_a_scan_wins_over_what_the_same_agent_said_in_an_earlier_session():
    old = stored(10, flags=REALTIME)
    scan = msgspec.structs.replace(seen(12, ordered=False), present={1: 10})
    assert judge_row(old, row(mtime_ns=1), scan) is Verdict.UPDATE
    assert judge_row(old, row(mtime_ns=1), msgspec.structs.replace(scan, present={1: 9})) is Verdict.CONFIRM


def test_between_scans_of_different_agents_the_mtime_decides_and_then_the_later_arrival():
    assert judge_row(stored(10, owner=2), row(mtime_ns=99), seen(11)) is Verdict.CONFIRM
    assert judge_row(stored(10, owner=2), row(mtime_ns=100), seen(9)) is Verdict.UPDATE


def test_without_an_index_a_later_scan_of_the_same_agent_wins_over_an_earlier_one_whatever_the_mtimes():
    assert judge_row(stored(10), row(mtime_ns=1), seen(11, ordered=False)) is Verdict.UPDATE


def test_another_identity_with_a_higher_index_is_another_directory():
    old = stored(10, mode=DIR)
    assert judge_row(old, row(mode=DIR, inode=8), seen(11)) is Verdict.NEW_IDENTITY
    assert judge_row(old, row(mode=DIR, inode=8), seen(10)) is Verdict.UPDATE
    assert judge_row(old, row(mode=DIR), seen(11)) is Verdict.UPDATE


def test_a_placeholder_has_no_identity_to_lose():
    assert judge_row(stored(10, mode=DIR, flags=PLACEHOLDER), row(mode=DIR, inode=8), seen(11)) is Verdict.UPDATE


def test_a_change_of_type_is_told_apart():
    assert judge_row(stored(10, mode=DIR), row(), seen(11)) is Verdict.FILE_OVER_DIRECTORY
    assert judge_row(stored(10), row(mode=DIR), seen(11)) is Verdict.DIRECTORY_OVER_FILE


@pytest.mark.parametrize(("tombstone", "floor", "buried"), [
    (None, 10, False), (None, 11, True), (10, 0, False), (11, 0, True), (5, 11, True), (None, 0, False)])
def test_a_row_below_a_tombstone_or_a_listing_is_buried(tombstone, floor, buried):
    assert is_buried(tombstone, floor, row(), seen(10)) is buried


def test_without_an_index_realtime_is_never_buried_and_a_scan_needs_a_later_mtime():
    assert not is_buried(50, 0, row(mtime_ns=1), seen(60, realtime=True, ordered=False))
    assert is_buried(50, 0, row(mtime_ns=50), seen(60, ordered=False))
    assert not is_buried(50, 0, row(mtime_ns=51), seen(60, ordered=False))


def test_between_agents_that_have_an_index_the_higher_one_wins_whatever_the_lane_and_the_mtime():
    for seen_by, verdict in ((1, Verdict.UPDATE), (2, Verdict.UPDATE), (3, Verdict.CONFIRM)):
        later = Seen(20, 1, False, True, peers={1, 2})
        assert judge_row(stored(10, owner=seen_by, flags=REALTIME), row(mtime_ns=1), later) is verdict
    for seen_by, verdict in ((1, Verdict.DROP), (2, Verdict.DROP), (3, Verdict.UPDATE)):
        earlier = Seen(5, 1, True, True, peers={1, 2})
        assert judge_row(stored(10, owner=seen_by), row(), earlier) is verdict
        assert deletes(stored(10, owner=seen_by), earlier) is (seen_by == 3)


def test_the_times_of_files_are_told_by_fusions_clock():
    for skew_ns in (-30, 30):
        ahead = Seen(60, 1, False, False, skew_ns=skew_ns)
        assert is_buried(50, 0, row(mtime_ns=50 - skew_ns), ahead)
        assert not is_buried(50, 0, row(mtime_ns=51 - skew_ns), ahead)


def test_an_absence_removes_what_was_seen_at_or_before_it():
    assert deletes(stored(10), seen(10, realtime=True))
    assert not deletes(stored(10), seen(9, realtime=True))
    assert deletes(stored(10, owner=2), seen(9, realtime=True))
    assert not deletes(stored(10, owner=2, flags=REALTIME), seen(9, realtime=True))


def test_a_file_is_suspect_until_it_is_seen_closed():
    assert next_flags(None, row(atomic=False), seen(1, realtime=True)) == SUSPECT | REALTIME
    assert next_flags(stored(1, flags=SUSPECT | REALTIME), row(), seen(2, realtime=True)) == REALTIME


def test_a_scan_clears_the_suspicion_only_of_a_file_that_is_unchanged_for_long_enough():
    old = stored(1, flags=SUSPECT)
    assert next_flags(old, row(), seen(2), unchanged_s=HOT_S) == 0
    assert next_flags(old, row(), seen(2), unchanged_s=HOT_S - 0.1) == SUSPECT
    still_written = next_flags(old, row(atomic=False), seen(2, realtime=True), unchanged_s=HOT_S)
    assert still_written == SUSPECT | REALTIME


def test_a_directory_is_never_suspect():
    assert next_flags(None, row(mode=DIR, atomic=False), seen(1, realtime=True)) == REALTIME


@pytest.mark.parametrize(
    ("before", "change", "how", "blind"),
    [
        (None, {}, {"blind": True}, True),
        (None, {}, {}, False),
        (None, {}, {"realtime": True}, False),
        (0, {}, {"blind": True}, False),
        (0, {"size": 11}, {"blind": True}, True),
        (0, {"mtime_ns": 101}, {"blind": True}, True),
        (0, {"size": 11}, {}, False),
        (REALTIME, {"size": 11}, {"blind": True}, True),
        (PLACEHOLDER, {}, {"blind": True}, True),
        (BLIND, {}, {"blind": True}, True),
        (BLIND, {}, {}, True),
        (BLIND, {"size": 11}, {}, True),
        (BLIND, {}, {"realtime": True}, False),
    ],
)
def test_what_a_blind_look_made_or_changed_is_a_blind_spot_until_realtime_says_something(before, change, how, blind):
    old = None if before is None else stored(10, flags=before)
    assert next_blind(old, row(**change), seen(11, **how)) == (BLIND if blind else 0)
    assert bool(next_flags(old, row(**change), seen(11, **how)) & BLIND) is blind
    if old is None:
        assert first_flags(seen(11, **how)) == next_flags(None, row(mode=DIR), seen(11, **how))


@pytest.mark.parametrize(("how", "buried"), [
    (seen(9), True), (seen(10), False), (seen(9, realtime=True), True),
    (seen(99, ordered=False), True), (seen(99, ordered=False, since=10), True),
    (seen(99, ordered=False, since=11), False), (seen(99, ordered=False, realtime=True), False),
])
def test_what_is_below_a_name_that_is_gone_is_buried_unless_it_was_seen_later(how, buried):
    assert is_way_buried(10, 5, how) is buried
    assert is_way_buried(None, 10, how) is (buried and how.ordered)


@pytest.mark.parametrize(("file", "how", "gives_way"), [
    (stored(10), seen(9), False), (stored(10, flags=REALTIME), seen(10), True),
    (stored(10, flags=REALTIME), seen(99, owner=2), False), (stored(10), seen(99, owner=2), True),
    (stored(10, flags=REALTIME), seen(99, owner=2, realtime=True), True),
    (stored(10, flags=REALTIME), seen(99, ordered=False, since=10), False),
    (stored(10, flags=REALTIME), seen(99, ordered=False, since=11), True),
])
def test_a_file_in_the_way_gives_way_to_what_was_seen_later_for_sure(file, how, gives_way):
    assert disproves_file(file, how) is gives_way


@pytest.mark.parametrize(("since", "verdict"), [(0, Verdict.CONFIRM), (10, Verdict.CONFIRM), (11, Verdict.UPDATE)])
def test_an_audit_without_an_index_is_believed_about_what_came_before_it_began(since, verdict):
    assert judge_row(stored(10, flags=REALTIME), row(mtime_ns=1), seen(99, ordered=False, since=since)) is verdict
