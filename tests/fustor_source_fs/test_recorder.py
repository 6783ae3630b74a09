"""The flight recorder: what it keeps is what happened, and can be played without a kernel."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fustor_event_model import DeleteEvent, FsPath, FsRow, Listed, MessageSource, UpdateEvent
from fustor_source_fs import bindings as b
from fustor_source_fs.recorder import Found, Lost, Passed, Read, Recorder, Watched, read_recording
from fustor_source_fs.records import Record
from fustor_source_fs.watches import Tree
from replay import Replay, get_watches

RECORDINGS = Path(__file__).parent / "recordings"
ASKED = {
    # a and b were exchanged, then something was made in a/y, which had been b/y, and in b/x
    "exchange": {b"/", b"/a", b"/a/", b"/a/y/", b"/b", b"/b/", b"/b/x/"},
    # from/tree became to/moved, its departure read last; then something was made in to/moved/below
    "arrival-first": {b"/from", b"/from/tree", b"/to", b"/to/moved", b"/to/moved/", b"/to/moved/below/"},
}
"""For each recording of what was captured wrongly once: where the source must look, directories that it lists ending
with a slash."""


def get_recording(pump: Any) -> list[Any]:
    return read_recording(pump.source.record().read_bytes())


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_played_again_ends_as_it_did(
    tree: Any, start_still: Any, operations: Any, monkeypatch: pytest.MonkeyPatch, seed: int, shards: int
) -> None:
    monkeypatch.setattr("fustor_source_fs.shards.SHARDS", shards)
    changes = operations(tree, seed)
    for _ in range(20):
        changes.step()
    pump = start_still()
    pump.begin()
    for _ in range(15):
        for _ in range(4):
            changes.step()
        changes.show_links()
        pump.sync()
    pump.assert_exact(changes.log)
    replay = Replay(get_recording(pump))
    assert replay.get_watches() == get_watches(pump.source._tree)
    assert replay.view.rows.keys() == pump.view.rows.keys()
    said = {item.prefix + row.path for item in pump.items if isinstance(item, UpdateEvent) for row in item.rows}
    assert said
    assert [path for path in said if not replay.is_asked(path) and path != b"/"] == []


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDINGS.iterdir()))
def test_what_was_captured_wrongly_once_is_looked_for_where_it_is(name: str) -> None:
    assert Replay(read_recording((RECORDINGS / f"{name}.ndjson").read_bytes())).asked == ASKED[name]


def test_a_recording_shows_what_the_records_asked_for(inside: Path, pump: Any) -> None:
    (inside / "d").mkdir()
    pump.begin()
    (inside / "d" / "new").touch()
    os.rename(inside / "d", inside / "e")
    pump.sync()
    replay = Replay(get_recording(pump))
    assert {b"/d", b"/e"} <= replay.asked
    assert replay.is_asked(b"/d/new") or replay.is_asked(b"/e/new")
    assert b"/e" in replay.get_watches()[pump.node(b"/e").watch]
    assert set(replay.view.rows) == {b"/", b"/e", b"/e/new"}


def test_the_older_half_is_forgotten_and_the_newer_one_still_says_where_its_watches_are() -> None:
    tree = Tree()
    node = tree.add(tree.root, b"d")
    node.device, node.inode = 1, 2
    tree.hold_watch(node, 7)
    recorder = Recorder(tree, half_bytes=1_000)
    for number in range(100):
        recorder.read(0, b"%03d" % number + bytes(97), [Record(7, b.IN_MODIFY, 0, b"f")], more=False)
    kept = [entry.data[:3] for entry in recorder._older + recorder._newer if isinstance(entry, Read)]
    assert kept == [b"%03d" % number for number in range(100 - len(kept), 100)]
    assert 5 <= len(kept) <= 20
    for half in (recorder._older, recorder._newer):
        assert half[0] == Watched(b"/d", 1, 2, 7)
        assert sum(isinstance(entry, Watched) for entry in half) == 1


@pytest.mark.parametrize("lane", [MessageSource.SNAPSHOT, MessageSource.AUDIT])
def test_what_a_walk_finds_does_not_drive_out_what_happened_before(lane: MessageSource) -> None:
    recorder = Recorder(Tree(), half_bytes=10_000)
    change = make_update(MessageSource.REALTIME, 1)
    recorder.found(change)
    for _ in range(50):
        recorder.found(make_update(lane, 1_000))
    assert recorder._newer == [Found(change), *[Passed(b"/d/", 7, 1_000)] * 50]


def test_the_few_names_that_a_walk_finds_and_all_that_changes_are_kept() -> None:
    recorder = Recorder(Tree())
    items = [make_update(MessageSource.SNAPSHOT, 16), make_update(MessageSource.REALTIME, 1_000)]
    for item in items:
        recorder.found(item)
    assert recorder._newer == [Found(item) for item in items]


def make_update(lane: MessageSource, count: int) -> UpdateEvent[FsRow]:
    rows = [FsRow(b"%d" % number, 0, 0, 0, 0o100644, 0, 0, 1, number, 1) for number in range(count)]
    return UpdateEvent(index=7, message_source=lane, event_schema="fs", table="files", rows=rows, prefix=b"/d/")


def test_a_recording_holds_no_contents_and_not_where_links_lead(inside: Path, pump: Any) -> None:
    (inside / "file").write_text("contents-of-the-file")
    (inside / "link").symlink_to("where-it-leads")
    pump.begin()
    path = pump.source.record()
    assert path.stat().st_mode & 0o077 == 0
    rows = [row for entry in get_recording(pump) if isinstance(entry, Found) and isinstance(entry.item, UpdateEvent)
            for row in entry.item.rows]
    assert {row.path: row.target for row in rows} == {b"": None, b"file": None, b"link": b""}
    assert all(word not in repr(get_recording(pump)) for word in ("contents-of-the-file", "where-it-leads"))


def test_what_was_thrown_away_is_noted(inside: Path, start_pump: Any) -> None:
    pump = start_pump(max_backlog_bytes=1)
    pump.begin()
    (inside / "file").touch()
    pump.sync()
    assert any(isinstance(entry, Lost) for entry in get_recording(pump))


def test_something_else_is_no_recording() -> None:
    with pytest.raises(msgspec.DecodeError):
        read_recording(b'{"type": "nothing"}')


def test_long_paths_are_counted() -> None:
    recorder = Recorder(Tree(), half_bytes=100_000)
    for number in range(1_000):
        path = b"/%d" % number * 1_000
        recorder.found(Listed(index=number, message_source=MessageSource.SNAPSHOT, path=path))
        recorder.found(DeleteEvent(
            index=number, message_source=MessageSource.REALTIME, event_schema="fs", table="files", prefix=path,
            rows=[FsPath(b"gone")],
        ))
    assert 50_000 < len(repr(recorder._older + recorder._newer)) < 300_000
