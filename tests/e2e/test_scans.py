"""Scans that somebody asks for, of what has changed where no event came: by a query, and by the command line."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import AgentUnderTest
from oracle import differences, walk
from unseen import unseen
from waiting import until


class Scanned:
    """A tree, and an agent that watches it and sees nothing of `change`."""

    def __init__(self, folder: Path, start_agent: Callable[..., AgentUnderTest]) -> None:
        self.top = folder / "tree"
        for name in "abc":
            (self.top / name / "sub").mkdir(parents=True)
            (self.top / name / "file").write_text(name)
        self.agent = start_agent(watch=self.top)
        self.agent.wait_ready()
        assert not self.compare(sync=30)

    def change(self, name: str) -> None:
        """Make, remove and write in place below a directory; hidden from the agent."""
        with unseen(self.agent.worker_pids()["watch.source"]):
            (self.top / name / "sub" / "new").mkdir()
            (self.top / name / "sub" / "new" / "file").write_text("new")
            (self.top / name / "gone").touch()
            (self.top / name / "gone").unlink()
            (self.top / name / "file").write_text("written in place")

    def compare(self, *, sync: float | None = None) -> list[str]:
        return differences(walk(bytes(self.top)), self.agent.export(sync=sync))

    def ask(self, path: str) -> str:
        """Ask for a scan by a query; returns the job."""
        with self.agent.query(f"tree?on_demand_scan=true&path={path}") as answer:
            found = json.load(answer)
        assert found["job_pending"] is True
        return str(found["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        with self.agent.query(f"jobs/{job_id}") as answer:
            found = json.load(answer)
        assert isinstance(found, dict)
        return found

    def wait_for(self, job_id: str) -> dict[str, Any]:
        until(lambda: self.job(job_id)["status"] == "COMPLETED", within_s=60, what="the scan to be over")
        return self.job(job_id)


@pytest.fixture
def scanned(tmp_path: Path, start_agent: Callable[..., AgentUnderTest]) -> Scanned:
    return Scanned(tmp_path, start_agent)


def test_queries_that_ask_for_scans_find_what_no_event_told_of_and_say_how_far_they_are(scanned: Scanned) -> None:
    for name in "abc":
        scanned.change(name)
    assert scanned.compare(sync=30), "an event came all the same"
    jobs = [scanned.ask(path) for path in ("/a", "/b/sub", "/b/file", "/c/file")]
    found = [scanned.wait_for(job) for job in jobs]
    assert [(each["rows"], each["complete"]) for each in found] == [(8, True), (5, True), (1, True), (1, True)]
    left = {line.partition(":")[0] for line in scanned.compare()}
    assert left == {"/b", "/c", "/c/sub", "/c/sub/new", "/c/sub/new/file"}, "nobody asked for these"
    with scanned.agent.query("blind-spots") as answer:
        spots = {each["path"] for each in json.load(answer)["additions"]}
    assert spots == {"/a/file", "/a/sub/new/file", "/b/file", "/b/sub/new/file", "/c/file"}


def test_scans_of_what_is_not_there_of_what_is_gone_and_from_above_the_root_end_and_say_so(scanned: Scanned) -> None:
    with unseen(scanned.agent.worker_pids()["watch.source"]):
        shutil.rmtree(scanned.top / "a")
    (scanned.top.parent / "beside").write_text("1")
    for path in ("/nowhere/at/all", "/a", "/a/file", "/../beside", "/b/../../beside"):
        job = scanned.wait_for(scanned.ask(path))
        assert job["complete"] is True, path
    assert not scanned.compare(sync=30), "and nothing from beside the tree is there"


def test_a_rescan_by_the_command_line_shows_its_job_and_ends_with_the_result(scanned: Scanned) -> None:
    scanned.change("a")
    done = scanned.agent.command("rescan", "watch", "/a")
    assert (done.returncode, done.stderr) == (0, "")
    last = done.stdout.splitlines()[-1]
    job_id = last.split()[1].rstrip(":")
    assert last == f"job {job_id}: done, 3 directories, 8 rows"
    assert not scanned.compare(sync=30)
    pipe, = scanned.agent.status()["pipes"]
    assert [(each["job_id"], each["path"], each["state"]) for each in pipe["scans"]] == [(job_id, "/a", "done")]
    scanned.change("b")
    assert scanned.agent.command("rescan", "watch").returncode == 0
    assert not scanned.compare(sync=30)


@pytest.mark.parametrize(("words", "reason"), [
    (("nobody", "/"), 'there is no pipe "nobody"; use one of: watch'),
    (("watch", "/a/../b"), "begin with /, and leave out . and .."),
    (("watch", "relative"), "begin with /"),
])  # fmt: skip
def test_a_rescan_that_cannot_be_says_why(scanned: Scanned, words: tuple[str, str], reason: str) -> None:
    done = scanned.agent.command("rescan", *words)
    assert done.returncode == 1
    assert reason in done.stderr


def test_a_scan_whose_source_is_killed_is_done_by_its_successor(scanned: Scanned) -> None:
    source = scanned.agent.kill("watch.source", signal.SIGSTOP)
    jobs = [scanned.ask(path) for path in ("/a", "/b/file")]
    os.kill(source, signal.SIGKILL)
    assert [scanned.wait_for(job)["progress"]["completed_pipes"] for job in jobs] == [1, 1]
    assert not scanned.compare(sync=60)


@pytest.mark.parametrize("worker", ["watch.pusher", "fusion"])
def test_a_scan_during_which_a_worker_is_killed_is_made_again_and_ends(scanned: Scanned, worker: str) -> None:
    for number in range(300):
        (scanned.top / "a" / f"d{number}").mkdir()
    assert not scanned.compare(sync=60)
    scanned.change("a")
    scanned.agent.kill(worker)
    done = scanned.agent.command("rescan", "watch", timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert not scanned.compare(sync=60)
