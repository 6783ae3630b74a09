"""Blind spots over the whole of Fusion: what an audit finds is one, what is reported is none."""

import stat

import msgspec
import pytest

from fustor_event_model import DeleteEvent, FsPath, FsRow, Listed, MessageSource, UpdateEvent
from fustor_fusion import blindspots

AUDIT, REALTIME, ON_DEMAND = MessageSource.AUDIT, MessageSource.REALTIME, MessageSource.ON_DEMAND
BLIND_LANES = pytest.mark.parametrize("lane", [AUDIT, ON_DEMAND])


def rows(index, lane, *names, directory=False, size=5, prefix=b"/"):
    mode = stat.S_IFDIR | 0o755 if directory else stat.S_IFREG | 0o644
    made = [FsRow(name, size, 100, 0, mode, 0, 0, 1, 1000 + len(name), 1) for name in names]
    return UpdateEvent(index=index, message_source=lane, event_schema="fs", table="files", rows=made, prefix=prefix)


def gone(index, lane, *names, prefix=b"/"):
    paths = [FsPath(name) for name in names]
    return DeleteEvent(index=index, message_source=lane, event_schema="fs", table="files", rows=paths, prefix=prefix)


def listed(index, lane, path=b"/"):
    return Listed(index=index, message_source=lane, path=path)


def open_agent(fusion, make):
    """Open a session whose snapshot has a, b and the directory d with e."""
    agent, snapshot = make.agent(fusion), MessageSource.SNAPSHOT
    agent.snapshot(rows(10, snapshot, b"a", b"b"), rows(10, snapshot, b"d", directory=True),
                   rows(10, snapshot, b"e", prefix=b"/d/"), listed(10, snapshot), listed(10, snapshot, b"/d"))
    return agent


def find_spots(fusion):
    """Return the paths of files that were found and of names that were found gone, the ways to ask being at one."""
    found = fusion.get("p/blind-spots").json()
    assert found["additions_count"] == len(found["additions"])
    assert found["deletion_count"] == len(found["deletions"])
    additions = {node["path"] for node in found["additions"]}
    exported = [msgspec.json.decode(line) for line in fusion.get("p/export").text.splitlines()]
    assert {row["path"] for row in exported if row["blind_spot"] and row["type"] != "directory"} == additions
    assert fusion.get("p/stats").json()["has_blind_spot"] is any(
        [additions, found["deletions"], *(row["blind_spot"] for row in exported)])
    return sorted(additions), found["deletions"]


@pytest.fixture
def agent(fusion, make):
    return open_agent(fusion, make)


@pytest.fixture
def spots(fusion):
    return lambda: find_spots(fusion)


def test_what_a_snapshot_and_realtime_say_is_no_blind_spot(agent, spots):
    agent.push(rows(20, REALTIME, b"c"), gone(21, REALTIME, b"b"))
    assert spots() == ([], [])


@BLIND_LANES
def test_what_was_made_changed_and_removed_unseen_is_one(agent, spots, lane):
    agent.push(rows(20, lane, b"a", b"new"), rows(20, lane, b"d", directory=True), listed(20, lane),
               rows(21, lane, b"e", prefix=b"/d/", size=9), listed(21, lane, b"/d"), lane=lane.value)
    assert spots() == (["/d/e", "/new"], ["/b"])


def test_all_in_a_new_directory_is_one_and_a_directory_gone_with_all_in_it_is_named_once(agent, fusion, spots):
    agent.push(rows(20, AUDIT, b"a", b"b"), rows(20, AUDIT, b"n", directory=True), listed(20, AUDIT),
               rows(21, AUDIT, b"x", b"y", prefix=b"/n/"), listed(21, AUDIT, b"/n"), lane="audit")
    assert spots() == (["/n/x", "/n/y"], ["/d"])
    assert fusion.get("p/blind-spots").json()["additions"][0] | {"path": "", "name": ""} == {
        "name": "", "content_type": "file", "path": "", "size": 5, "modified_time": 1e-7, "created_time": 0.0,
        "integrity_suspect": False}


def test_an_audit_row_of_a_deletion_is_one_too(agent, spots):
    agent.push(gone(20, AUDIT, b"b"), gone(21, AUDIT, b"never there"), lane="audit")
    assert spots() == ([], ["/b"])


@pytest.mark.parametrize(
    ("item", "left"),
    [
        (rows(30, REALTIME, b"new"), ([], ["/b"])),
        (gone(30, REALTIME, b"new"), ([], ["/b"])),
        (rows(30, REALTIME, b"b"), (["/new"], [])),
        (gone(30, REALTIME, b"b"), (["/new"], [])),
        (rows(30, MessageSource.SENTINEL, b"new"), (["/new"], ["/b"])),
        (rows(30, AUDIT, b"b"), (["/b", "/new"], [])),
    ],
)
def test_what_is_said_of_a_name_ends_its_blind_spot(agent, spots, item, left):
    agent.push(rows(20, AUDIT, b"a", b"new"), rows(20, AUDIT, b"d", directory=True), listed(20, AUDIT), lane="audit")
    assert spots() == (["/new"], ["/b"])
    agent.push(item, lane=item.message_source.value)
    assert spots() == left


def test_a_session_that_begins_ends_them_all(agent, fusion, spots, make):
    agent.push(rows(20, AUDIT, b"a", b"new"), rows(20, AUDIT, b"d", directory=True), listed(20, AUDIT), lane="audit")
    agent.beat()
    assert spots() == (["/new"], ["/b"])
    make.agent(fusion, name="another")
    assert spots() == ([], [])
    agent.push(rows(40, AUDIT, b"later"), lane="audit")
    assert spots() == (["/later"], [])


def test_only_the_newest_deletions_are_kept(agent, spots, monkeypatch):
    monkeypatch.setattr(blindspots, "MAX_DELETIONS", 3)
    agent.push(rows(20, REALTIME, *(b"f%d" % number for number in range(5))))
    for number in range(5):
        agent.push(gone(30 + number, AUDIT, b"f%d" % number), lane="audit")
    assert spots() == ([], ["/f2", "/f3", "/f4"])


def test_they_survive_a_restart(tmp_path, make):
    for number in range(2):
        fusion = make.fusion(make.config(tmp_path))
        try:
            if number == 0:
                open_agent(fusion, make).push(rows(20, AUDIT, b"a", b"new"), listed(20, AUDIT), lane="audit")
            assert find_spots(fusion) == (["/new"], ["/b", "/d"])
        finally:
            fusion.stop()
