"""Hard links: an observation of one name is one of all names of the same inode."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from arbitration import SNAP, View, folder, gone, listed, row, up
from fustor_event_model import AuditEnd, FsItem, MessageSource, SnapshotEnd
from fustor_fusion.paths import encode_raw
from fustor_fusion.totals import read_sums


@pytest.fixture
def view(tmp_path):
    view = View(tmp_path)
    yield view
    view.check()
    view.db.close()


def test_a_realtime_row_speaks_for_all_names_of_its_inode(view):
    view.apply(up(5, b"/", row(b"a", 7, nlink=2), row(b"b", 7, nlink=2), row(b"c", 8)))
    view.apply(up(6, b"/", row(b"a", 7, nlink=2, size=50, mtime_ns=60)))
    assert view.dump("size", "mtime_ns") == {b"/a": (50, 60), b"/b": (50, 60), b"/c": (5, 10)}


def test_a_new_name_of_an_inode_raises_the_link_count_of_its_old_one(view):
    view.apply(up(5, b"/", row(b"a", 7)))
    view.apply(up(6, b"/", row(b"b", 7, nlink=2)))
    assert view.dump("nlink") == {b"/a": 2, b"/b": 2}


def test_the_name_that_was_seen_last_speaks_for_its_inode_whatever_arrives_last(view):
    view.apply(up(6, b"/y/", row(b"b", 7, nlink=2, size=99)), up(5, b"/x/", row(b"a", 7, nlink=2)))
    assert view.dump("size") == {b"/x/a": 99, b"/y/b": 99}


@pytest.mark.parametrize("links", [1, 2])
@pytest.mark.parametrize("end", [
    SnapshotEnd(index=7, message_source=SNAP, complete=True),
    AuditEnd(index=7, message_source=MessageSource.AUDIT, complete=True)])
def test_a_change_between_the_listings_of_two_names_is_spread_at_the_end_of_the_scan(view, links, end):
    view.apply(up(5, b"/x/", row(b"a", 7, nlink=links), row(b"other", 8), source=SNAP))
    view.apply(up(6, b"/y/", row(b"b", 7, nlink=2, size=99), source=SNAP))
    view.apply(end)
    assert view.dump("size", "nlink") == {b"/x/a": (99, 2), b"/x/other": (5, 1), b"/y/b": (99, 2)}


def test_an_inode_that_is_used_again_is_searched_again(view):
    view.apply(up(5, b"/", row(b"a", 7)))
    view.apply(up(6, b"/", row(b"b", 7, nlink=2)))
    view.apply(gone(7, b"/a", b"/b"))
    view.apply(up(8, b"/", row(b"c", 7)))
    view.apply(up(9, b"/", row(b"d", 7, nlink=2)))
    view.apply(up(10, b"/", row(b"d", 7, nlink=2, size=99)))
    assert view.dump("size", "nlink") == {b"/c": (99, 2), b"/d": (99, 2)}


def test_a_search_for_names_is_made_again_after_a_rollback(view):
    view.apply(up(5, b"/", row(b"a", 7)))
    view.db.execute("BEGIN")
    view.arbiter.apply([up(6, b"/", row(b"b", 7, nlink=2))], owner=1)
    view.db.execute("ROLLBACK")
    view.tree.forget()
    view.arbiter.forget()
    view.apply(up(6, b"/", row(b"b", 7, nlink=2, size=7)))
    assert view.dump("size", "nlink") == {b"/a": (7, 2), b"/b": (7, 2)}

def test_every_name_of_a_hard_link_counts(view):
    view.apply(up(5, b"/d/", row(b"a", 7, nlink=2)), up(5, b"/e/", row(b"b", 7, nlink=2)))
    view.apply(up(6, b"/d/", row(b"a", 7, nlink=2, size=50)))
    assert (read_sums(view.db, 1).files, read_sums(view.db, 1).bytes) == (2, 100)


def look_at(view: View, *items: FsItem) -> list[bytes]:
    """Apply items; return which names are to be looked at."""
    return view.apply(*items).look_at


@pytest.mark.parametrize("end", [
    gone(20, b"/d/a"),
    gone(20, b"/d"),
    listed(20, b"/d"),
    up(20, b"/d/", row(b"a", 9)),
    up(20, b"/d/", folder(b"a", 9)),
    up(20, b"/", folder(b"d", 9)),
    up(20, b"/", row(b"d", 9)),
], ids=["deleted", "directory deleted", "not listed", "replaced", "a directory", "another directory", "a file above"])
def test_when_a_name_is_gone_another_one_of_the_file_is_to_be_looked_at(view, end):
    view.apply(up(5, b"/", folder(b"d", 2)), up(5, b"/d/", row(b"a", 7, nlink=3)),
               up(5, b"/e/", row(b"b", 7, nlink=3), row(b"c", 7, nlink=3), row(b"other", 8)))
    looks = look_at(view, end)
    assert looks in ([b"/e/b"], [b"/e/c"])
    assert look_at(view, up(30, b"/e/", row(looks[0][3:], 7, nlink=2))) == []
    assert {view.dump("nlink")[each] for each in (b"/e/b", b"/e/c")} == {2}


def test_no_name_is_looked_at_when_it_was_seen_since_or_when_none_is_left(view):
    view.apply(up(5, b"/d/", row(b"a", 7, nlink=3), row(b"b", 7, nlink=3)), up(5, b"/e/", row(b"c", 7, nlink=3)))
    assert look_at(view, gone(20, b"/d/a"), up(21, b"/e/", row(b"c", 7, nlink=2))) == []
    assert look_at(view, gone(30, b"/d/b", b"/e/c")) == []
    assert look_at(view, gone(31, b"/d/b", b"/nowhere")) == []


def test_a_file_with_one_name_and_a_row_that_changes_nothing_ask_for_no_look(view):
    view.apply(up(5, b"/d/", row(b"a", 7), row(b"b", 8, nlink=2), row(b"c", 8, nlink=2)))
    assert look_at(view, gone(20, b"/d/a"), up(20, b"/d/", row(b"b", 8, nlink=2, size=99))) == []
    assert look_at(view, gone(19, b"/d/b"), up(18, b"/d/", row(b"b", 9))) == []


def test_what_was_rolled_back_asks_for_no_look(view):
    view.apply(up(5, b"/d/", row(b"a", 7, nlink=2), row(b"b", 7, nlink=2)))
    view.db.execute("BEGIN")
    view.arbiter.apply([gone(20, b"/d/a")], owner=1)
    view.db.execute("ROLLBACK")
    view.tree.forget()
    view.arbiter.forget()
    assert look_at(view, up(21, b"/", row(b"x"))) == []


def test_a_thousand_names_that_go_at_once_are_all_followed_and_a_look_is_asked_for_once_per_file(view):
    names = [row(b"f%d" % number, number, nlink=3) for number in range(2, 1_502)]
    for directory in (b"/d/", b"/e/", b"/f/"):
        view.apply(up(5, directory, *names, source=SNAP))
    looks = look_at(view, gone(20, b"/d", b"/e"))
    assert sorted(looks) == sorted(b"/f/" + each.path for each in names)


def test_a_sync_is_answered_only_behind_the_look_at_another_name(fusion, make):
    agent = make.agent(fusion)
    agent.beat()
    agent.snapshot(up(5, b"/", row(b"a", 7, nlink=2), row(b"b", 7, nlink=2), source=SNAP))
    with ThreadPoolExecutor(1) as reader:
        answer = reader.submit(fusion.get, "p/metadata", path="/b", sync=60)
        (early,) = agent.poll()
        agent.push(gone(20, b"/a"))
        assert agent.answer(early["token"]).status_code == 200
        look, late = agent.poll()
        assert (look, late["type"]) == ({"type": "look", "paths": [encode_raw(b"/b")]}, "sync")
        agent.push(up(30, b"/", row(b"b", 7, size=99)))
        agent.answer(late["token"])
        assert (answer.result().json()["size"], answer.result().json()["nlink"]) == (99, 1)
