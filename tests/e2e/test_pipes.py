"""Several pipes in one agent: they do not know of each other."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

from desk import EMBEDDED, Desk
from oracle import differences, walk
from waiting import until


def test_two_trees_have_a_view_each_and_a_fault_of_one_pipe_is_not_the_others(desk: Desk) -> None:
    first, second = desk.tree("first"), desk.tree("second")
    desk.configure(first, second, p=("first", "fusion"), q=("second", "fusion"))
    desk.run("start", "-D")
    desk.wait_ready()
    before = desk.pids()
    (first / "only here").write_text("1")
    (second / "only there").mkdir()
    assert _differences(desk, p=first, q=second) == []
    os.kill(before["p.source"], signal.SIGKILL)
    os.kill(before["p.pusher"], signal.SIGKILL)
    (second / "meanwhile").write_text("22")
    assert differences(walk(bytes(second)), desk.agent.export(view="q")) == []
    killed = ("p.source", "p.pusher")
    until(lambda: all(desk.pids()[name] != before[name] for name in killed), within_s=30, what="two new workers")
    desk.wait_ready()
    after = desk.pids()
    assert {name for name in before if after[name] != before[name]} == {"p.source", "p.pusher"}
    shutil.rmtree(first / "below")
    assert _differences(desk, p=first, q=second) == []


def _differences(desk: Desk, **trees: Path) -> list[str]:
    found = []
    for view, tree in trees.items():
        found += [f"{view}: {each}" for each in differences(walk(bytes(tree)), desk.agent.export(view=view))]
    return found


def test_one_tree_goes_to_two_senders_and_an_echo_writes_every_row(desk: Desk) -> None:
    tree = desk.tree("tree")
    lines = desk.directory / "events.ndjson"
    desk.configure(
        tree, senders={**EMBEDDED, "lines": ("echo", {"path": str(lines)})}, p=("tree", "fusion"), e=("tree", "lines")
    )
    desk.run("start", "-D")
    desk.wait_ready()
    assert {"/below", "/below/file"} <= set(_paths(lines))
    (tree / "later").write_text("later")
    until(lambda: "/later" in _paths(lines), within_s=30, what="the new file's line")
    (tree / "later").unlink()
    until(lambda: _last(lines, "/later").get("event", "") == "delete", within_s=30, what="the line of its end")
    assert _differences(desk, p=tree) == []
    assert {pipe["id"]: pipe["role"] for pipe in desk.status()["pipes"]} == {"p": "leader", "e": "leader"}


def _rows(lines: Path) -> list[dict[str, Any]]:
    whole = lines.read_bytes().rpartition(b"\n")[0]
    found = [json.loads(line) for line in whole.splitlines()]
    return [line for line in found if line["event"] in ("insert", "update", "delete")]


def _paths(lines: Path) -> list[str]:
    return [line["path"] for line in _rows(lines)]


def _last(lines: Path, path: str) -> dict[str, Any]:
    return next((line for line in reversed(_rows(lines)) if line["path"] == path), {})
