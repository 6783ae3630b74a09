"""The commands that ask the embedded Fusion, as a person and as a script uses them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from desk import Desk

_FAILED, _NOT_RUNNING = 1, 3


@pytest.fixture
def desk(tmp_path: Path, no_process_is_left: None) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    top = desk.tree("a")
    (top / "link").symlink_to("below")
    (top / os.fsdecode(b"odd\xff")).write_text("odd")
    (top / "below" / "deep").mkdir()
    (top / "below" / "deep" / "two words.csv").write_text("1,2")
    yield desk
    left = desk.clear()
    assert not left, f"left behind: {left}"


@pytest.fixture
def started(desk: Desk) -> Desk:
    desk.configure(desk.directory / "a")
    desk.run("start", "-D")
    desk.wait_ready()
    return desk


def test_tree_shows_what_is_there_by_depth_and_as_json(started: Desk) -> None:
    whole = ["below/", "  deep/", "    two words.csv", "  file", "link -> below", "odd\\udcff"]
    assert started.run("tree", "--sync", "30").stdout.splitlines() == whole
    assert started.run("tree", "--depth", "1").stdout.splitlines() == ["below/", "link -> below", "odd\\udcff"]
    assert started.run("tree", "/below").stdout.splitlines() == ["deep/", "  two words.csv", "file"]
    rows = [json.loads(line) for line in started.run("tree", "/below", "--json").stdout.splitlines()]
    assert [(row["path"], row["size"]) for row in rows if row["type"] == "file"] == [
        ("/below/deep/two words.csv", 3), ("/below/file", 1),
    ]  # fmt: skip


def test_find_prints_paths_and_du_sums(started: Desk) -> None:
    assert started.run("find", "*.csv").stdout == "/below/deep/two words.csv\n"
    assert started.run("find", "below/*").stdout == ""
    assert started.run("find", "/below/**/f*").stdout == "/below/file\n"
    assert started.run("find", "odd*").stdout == "/odd\\udcff\n"
    assert started.run("du").stdout == "12 bytes, 4 files, 2 directories  /\n"
    assert json.loads(started.run("du", "/below", "--json").stdout) == {
        "path": "/below", "files": 2, "directories": 1, "bytes": 4,
    }  # fmt: skip
    assert started.run("du", "/odd\udcff").stdout.startswith("3 bytes, 1 files")


@pytest.mark.parametrize("words", [("tree", "/nowhere"), ("du", "/nowhere")])
def test_a_path_that_is_not_there_is_named(started: Desk, words: tuple[str, str]) -> None:
    assert started.run(*words, code=_FAILED).stderr == '"/nowhere" is not in the view "p-a"\n'


def test_a_sync_holds_what_was_done_right_before(started: Desk) -> None:
    for number in range(20):
        (started.directory / "a" / f"new{number}").touch()
        assert f"/new{number}\n" in started.run("find", f"new{number}", "--sync", "30").stdout


def test_one_of_several_views_must_be_chosen(desk: Desk) -> None:
    desk.configure(desk.directory / "a", desk.tree("b"))
    desk.run("start", "-D")
    desk.wait_ready()
    assert desk.run("du", code=_FAILED).stderr == "there are several views; use --view with one of: p-a, p-b\n"
    refused = desk.run("du", "--view", "none", code=_FAILED).stderr
    assert refused == 'there is no view "none"; use --view with one of: p-a, p-b\n'
    assert desk.run("tree", "--view", "p-b").stdout.splitlines() == ["below/", "  file"]


def test_without_an_agent_or_an_embedded_fusion_they_say_so(desk: Desk) -> None:
    desk.run("du", code=_NOT_RUNNING)
    desk.configure(desk.directory / "a", senders={"out": ("echo", {"path": str(desk.directory / "out")})})
    desk.run("start", "-D")
    assert "the embedded Fusion does not run" in desk.run("tree", code=_FAILED).stderr
