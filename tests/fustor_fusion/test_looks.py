"""Since when a suspect has been seen as it is."""

import pytest

from fustor_fusion import looks
from fustor_fusion.looks import Looks


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def seen(clock):
    return Looks(lambda: clock[0])


def test_the_time_runs_from_the_first_look_that_showed_the_same(seen, clock):
    assert seen.note(1, b"a", size=5, mtime_ns=7) == 0
    clock[0] += 10
    assert seen.note(1, b"a", size=5, mtime_ns=7) == 10
    assert seen.note(1, b"b", size=5, mtime_ns=7) == 0
    clock[0] += 10
    assert seen.note(1, b"a", size=5, mtime_ns=7) == 20


@pytest.mark.parametrize("change", [{"size": 6, "mtime_ns": 7}, {"size": 5, "mtime_ns": 8}])
def test_a_change_begins_anew(seen, clock, change):
    seen.note(1, b"a", size=5, mtime_ns=7)
    clock[0] += 10
    assert seen.note(1, b"a", **change) == 0
    assert seen.note(1, b"a", size=5, mtime_ns=7) == 0


def test_what_is_discarded_begins_anew(seen, clock):
    seen.note(1, b"a", size=5, mtime_ns=7)
    clock[0] += 10
    seen.discard(1, b"a")
    assert seen.note(1, b"a", size=5, mtime_ns=7) == 0


def test_of_more_suspects_than_are_remembered_all_end_in_turn(seen, clock, monkeypatch):
    monkeypatch.setattr(looks, "_MAX_REMEMBERED", 10)
    suspects = {b"%d" % number for number in range(35)}
    for _ in range(8):
        for name in sorted(suspects):
            clock[0] += 10
            if seen.note(1, name, size=5, mtime_ns=7) >= 30:
                seen.discard(1, name)
                suspects.remove(name)
    assert not suspects


def test_memory_is_bounded_by_forgetting_what_was_not_looked_at_again_for_a_day(seen, clock, monkeypatch):
    monkeypatch.setattr(looks, "_MAX_REMEMBERED", 2)
    for name in (b"a", b"b", b"c"):
        seen.note(1, name, size=5, mtime_ns=7)
    clock[0] += 10
    assert [seen.note(1, name, size=5, mtime_ns=7) for name in (b"a", b"b", b"c")] == [10, 10, 0]
    clock[0] += 86_400
    assert seen.note(1, b"c", size=5, mtime_ns=7) == 0
    clock[0] += 10
    assert seen.note(1, b"c", size=5, mtime_ns=7) == 10
    assert seen.note(1, b"a", size=5, mtime_ns=7) == 0
