import base64
import dataclasses
import json
import os
import socket
from pathlib import Path

import pytest

from oracle import Entry, differences, misplaced, parse_export, walk

ENTRY = Entry(
    type="file", size=1, mtime_ns=2, ctime_ns=3, mode=0o100644, uid=4, gid=5, inode=6, nlink=1, target=None
)
CHANGES = {
    "type": "other", "size": 2, "mtime_ns": -2, "ctime_ns": 4, "mode": 0o100600, "uid": 0, "gid": 0, "inode": 7,
    "nlink": 2, "target": b"elsewhere",
}


def export_line(path: bytes, entry: Entry) -> str:
    row = dataclasses.asdict(entry)
    target = row.pop("target")
    if target is not None:
        row["target"] = target.decode()
    row["path"] = path.decode(errors="replace")
    if row["path"].encode() != path:
        row["raw"] = base64.b64encode(path).decode()
    return json.dumps(row)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "a" / "empty").mkdir(parents=True)
    (tmp_path / "a" / "one.txt").write_bytes(b"12345")
    (tmp_path / "a-b").write_bytes(b"")
    os.utime(tmp_path / "a-b", ns=(0, -1_000_000_001))
    (tmp_path / "link").symlink_to("a/nowhere")
    os.link(tmp_path / "a" / "one.txt", tmp_path / "two.txt")
    os.mkfifo(tmp_path / "fifo")
    os.close(os.open(os.fsencode(tmp_path) + b"/bad\xff\nname", os.O_CREAT | os.O_WRONLY))
    return tmp_path


def test_every_name_is_found_and_the_root_is_not(tree: Path) -> None:
    assert list(walk(tree)) == [
        b"/a", b"/a/empty", b"/a/one.txt", b"/a-b", b"/bad\xff\nname", b"/fifo", b"/link", b"/two.txt"
    ]


def test_an_entry_is_what_lstat_says(tree: Path) -> None:
    found = walk(str(tree).encode())
    for path, entry in found.items():
        true = os.lstat(os.fsencode(tree) + path)
        assert entry.mode == true.st_mode
        assert (entry.size, entry.mtime_ns, entry.ctime_ns) == (true.st_size, true.st_mtime_ns, true.st_ctime_ns)
        assert (entry.uid, entry.gid) == (true.st_uid, true.st_gid)
        assert (entry.inode, entry.nlink) == (true.st_ino, true.st_nlink)
    assert {path: found[path].type for path in (b"/a", b"/a-b", b"/link", b"/fifo")} == {
        b"/a": "directory", b"/a-b": "file", b"/link": "symlink", b"/fifo": "other"
    }
    assert found[b"/link"].target == b"a/nowhere"
    assert found[b"/two.txt"].nlink == 2
    assert found[b"/a-b"].mtime_ns == -1_000_000_001


def test_a_socket_is_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        assert walk(tmp_path)[b"/s"].type == "other"


def test_a_pattern_chooses_names_but_never_directories(tree: Path) -> None:
    assert list(walk(tree, "*.txt")) == [b"/a", b"/a/empty", b"/a/one.txt", b"/two.txt"]


def test_a_link_to_a_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "inside").touch()
    (tmp_path / "link").symlink_to("real")
    assert list(walk(tmp_path)) == [b"/link", b"/real", b"/real/inside"]


def test_a_path_longer_than_path_max_is_walked(tmp_path: Path) -> None:
    depth = 1500  # above the usual limit of open files and, with these names, five times PATH_MAX
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 12, dir_fd=here)
        there = os.open("d" * 12, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    os.close(os.open("leaf", os.O_CREAT, dir_fd=here))
    try:
        found = walk(tmp_path)
        assert len(found) == depth + 1
        assert found[(b"/" + b"d" * 12) * depth + b"/leaf"].type == "file"
    finally:
        for _ in range(depth):
            above = os.open("..", os.O_RDONLY, dir_fd=here)
            if os.listdir(here) == ["leaf"]:
                os.unlink("leaf", dir_fd=here)
            os.close(here)
            os.rmdir("d" * 12, dir_fd=above)
            here = above
        os.close(here)


def test_no_descriptor_is_left_open(tree: Path) -> None:
    before = os.listdir("/proc/self/fd")
    walk(tree)
    with pytest.raises(FileNotFoundError):
        walk(tree / "missing")
    assert os.listdir("/proc/self/fd") == before


def test_an_export_of_the_tree_reads_back_as_the_tree(tree: Path) -> None:
    found = walk(tree)
    view = parse_export([export_line(path, entry) for path, entry in found.items()] + ["\n"])
    assert view == found
    assert differences(found, view) == []
    assert misplaced(view) == []


def test_raw_bytes_win_over_the_readable_path() -> None:
    row = {"path": "/\N{REPLACEMENT CHARACTER}", "raw": base64.b64encode(b"/\xff").decode()}
    line = json.dumps(json.loads(export_line(b"/x", ENTRY)) | row)
    assert list(parse_export([line.encode()])) == [b"/\xff"]


@pytest.mark.parametrize("path", [b"relative", b"/", b""])
def test_a_path_that_is_not_below_the_root_is_refused(path: bytes) -> None:
    with pytest.raises(ValueError, match="not a path below the root"):
        parse_export([export_line(path, ENTRY)])


def test_a_path_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        parse_export([export_line(b"/a", ENTRY)] * 2)


def test_a_missing_field_is_refused() -> None:
    row = json.loads(export_line(b"/a", ENTRY))
    del row["nlink"]
    with pytest.raises(KeyError, match="nlink"):
        parse_export([json.dumps(row)])


def test_every_attribute_has_a_mutation() -> None:
    assert set(CHANGES) == {field.name for field in dataclasses.fields(Entry)}


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_attribute_is_reported(field: str) -> None:
    claimed = dataclasses.replace(ENTRY, **{field: CHANGES[field]})
    (line,) = differences({b"/f": ENTRY}, {b"/f": claimed})
    assert line == f"/f: {field} is {CHANGES[field]!r}, should be {getattr(ENTRY, field)!r}"


@pytest.mark.parametrize("field", CHANGES)
def test_only_what_children_do_to_a_directory_can_be_left_out(field: str) -> None:
    directory = dataclasses.replace(ENTRY, type="directory")
    claimed = dataclasses.replace(directory, **{field: CHANGES[field]})
    found = differences({b"/d": directory}, {b"/d": claimed}, directory_times=False)
    assert (found == []) == (field in {"size", "mtime_ns", "ctime_ns", "nlink"})


def test_the_times_of_a_file_are_never_left_out() -> None:
    claimed = dataclasses.replace(ENTRY, mtime_ns=9)
    assert differences({b"/f": ENTRY}, {b"/f": claimed}, directory_times=False) != []


def test_missing_and_surplus_names_are_reported() -> None:
    assert differences({b"/a": ENTRY}, {b"/b": ENTRY}) == [
        "/a: missing in the view (a file)",
        "/b: only in the view (a file)",
    ]


def test_the_report_is_bounded_and_says_how_much_is_left_out() -> None:
    tree = {b"/%02d" % number: ENTRY for number in range(30)}
    found = differences(tree, {}, limit=5)
    assert len(found) == 6
    assert found[-1] == "... and 25 more"


def test_a_name_that_is_not_text_can_be_printed() -> None:
    (line,) = differences({b"/\xff": ENTRY}, {})
    assert line.encode() == b"/\\udcff: missing in the view (a file)"


def test_a_child_before_its_parent_or_after_its_aunt_is_misplaced() -> None:
    assert misplaced({b"/a/b": ENTRY, b"/a": ENTRY}) == [b"/a/b", b"/a"]
    assert misplaced({b"/a": ENTRY, b"/a-b": ENTRY, b"/a/b": ENTRY}) == [b"/a-b", b"/a/b"]
    assert misplaced({b"/a": ENTRY, b"/a/b": ENTRY, b"/a-b": ENTRY}) == []
