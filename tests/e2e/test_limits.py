"""What a worker may use up: it alone is replaced, and nothing is lost."""

import json
from pathlib import Path
from typing import Any

from desk import Desk
from oracle import differences, walk
from waiting import until


def _limit(desk: Desk, tree: Path, **source: int) -> None:
    path = desk.configure(tree, p=(tree.name, "fusion"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"workers": {"source": source}}))


def _worker(desk: Desk, name: str) -> dict[str, Any]:
    return next(worker for worker in desk.status()["workers"] if worker["name"] == name)


def test_a_source_that_is_too_large_is_replaced_again_and_again_and_no_change_is_lost(desk: Desk) -> None:
    tree = desk.tree("tree")
    _limit(desk, tree, soft_memory_mb=1)  # less than any process has
    desk.run("start", "-D")

    def write_until_replaced(times: int) -> bool:
        (tree / f"file {len(list(tree.iterdir()))}").write_text("written while sources come and go")
        return int(_worker(desk, "p.source")["restarts"]) >= times

    until(lambda: write_until_replaced(2), within_s=60, what="two sources to be replaced")
    death = _worker(desk, "p.source")["last_exit"]
    assert "its soft ceiling is 1 MB" in death["reason"]
    assert (death["code"], death["asked"]) == (0, False), "it was let finish, but is shown as a failure"
    _limit(desk, tree)
    desk.run("reload")
    desk.wait_ready()
    assert differences(walk(bytes(tree)), desk.agent.export(view="p")) == []
    status = desk.status()
    assert status["pipes"][0]["counters"]["lost"] == 0
    others = {worker["name"]: worker["restarts"] for worker in status["workers"] if worker["name"] != "p.source"}
    assert others == {"p.pusher": 0, "fusion": 0, "console": 0}


def test_a_source_that_needs_more_than_its_hard_ceiling_says_so_and_the_rest_runs(desk: Desk) -> None:
    tree = desk.tree("tree")
    _limit(desk, tree, hard_memory_mb=1)
    desk.run("start", "-D")
    until(lambda: _worker(desk, "p.source")["state"] == "backoff", within_s=30, what="the source to fail")
    shown = desk.run("status", code=1).stdout
    assert "hard ceiling of 1 MB" in shown
    _limit(desk, tree)
    desk.run("reload")
    desk.wait_ready()
    assert differences(walk(bytes(tree)), desk.agent.export(view="p")) == []
