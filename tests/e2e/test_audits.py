"""The whole agent on a tree that is changed where no event comes from."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import AgentUnderTest
from oracle import differences, walk
from unseen import unseen
from waiting import until

CONFIG = """
sources: [{{id: s, type: fs, config: {{uri: {top}, driver_params: {{
  audit_rows_per_s: {rows_per_s}, pressure_limit_percent: 0}}}}}}]
senders: [{{id: f, type: fusion, config: {{endpoint: embedded}}}}]
pipes: [{{id: p, source_id: s, sender_id: f, audit_interval_s: {interval_s}, full_audit_interval_s: 0}}]
"""


class Audited:
    """A tree, and an agent that watches it."""

    def __init__(
        self, folder: Path, start_agent: Callable[..., AgentUnderTest], *, interval_s: float = 0, rows_per_s: int = 0
    ) -> None:
        self.top = folder / "tree"
        for name in "abcd":
            (self.top / name / "sub" / "deep").mkdir(parents=True)
            (self.top / name / "file").write_text(name)
        newest_ns = max(path.stat().st_ctime_ns for path in self.top.rglob("*"))
        # Only times that are a second old can tell whether something changes after them.
        until(lambda: time.time_ns() - newest_ns > 1.1e9, within_s=10, what="the tree to be a second old")
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(top=self.top, interval_s=interval_s, rows_per_s=rows_per_s))
        self.agent = start_agent(config=config, view="p")
        self.agent.wait_ready()
        assert not self.compare(sync=30)

    @contextlib.contextmanager
    def unseen(self) -> Iterator[None]:
        """Hide from the agent what is done inside."""
        with unseen(self.agent.worker_pids()["p.source"]):
            yield

    def change(self) -> None:
        """Make, remove, rename, and write in place; hidden from the agent."""
        with self.unseen():
            (self.top / "a" / "new").mkdir()
            (self.top / "a" / "new" / "file").write_text("new")
            (self.top / "b" / "file").unlink()
            (self.top / "b" / "sub").rename(self.top / "c" / "moved")
            (self.top / "c" / "file").write_text("written in place")

    def compare(self, *, sync: float | None = None) -> list[str]:
        """Say how the view differs from the tree."""
        return differences(walk(bytes(self.top)), self.agent.export(sync=sync))

    def get_audit(self) -> dict[str, Any]:
        """Return what the status says of the running or last audit."""
        pipe, = self.agent.status()["pipes"]
        audit = pipe["audit"]
        assert isinstance(audit, dict)
        return audit

    def begin(self, kind: str) -> None:
        """Order an audit by the command line."""
        done = self.agent.command("pipe", "audit", "p", "--kind", kind)
        assert done.stdout == "audit started\n", done.stderr

    def order(self, kind: str) -> dict[str, Any]:
        """Order an audit, and wait for its end."""
        before = self.get_audit()["started_at"]
        self.begin(kind)

        def ended() -> dict[str, Any] | None:
            audit = self.get_audit()
            return audit if audit["started_at"] != before and audit["state"] != "running" else None

        return until(ended, within_s=30, what="the audit to end") or {}


@pytest.fixture
def audited(tmp_path: Path, start_agent: Callable[..., AgentUnderTest]) -> Callable[..., Audited]:
    return lambda **options: Audited(tmp_path, start_agent, **options)


def test_an_incremental_audit_finds_names_and_a_full_one_what_was_written_in_place(
    audited: Callable[..., Audited],
) -> None:
    tree = audited()
    tree.change()
    assert len(tree.compare(sync=30)) > 5, "an event came all the same"
    audit = tree.order("incremental")
    assert (audit["state"], audit["kind"], audit["directories_unreadable"]) == ("done", "incremental", 0)
    # Changed: a, b, c; new: a/new, c/moved, c/moved/deep. The file that was written in place is in one of them.
    assert (audit["directories_listed"], audit["directories_skipped"]) == (6, 8)
    assert not tree.compare()
    assert tree.agent.status()["pipes"][0]["current"] is True

    with tree.unseen():
        (tree.top / "d" / "file").write_text("written in place where nothing else has changed")
    tree.order("incremental")
    assert tree.compare(), "nothing but the file itself tells"
    full = tree.order("full")
    assert (full["state"], full["kind"], full["directories_skipped"]) == ("done", "full", 0)
    assert not tree.compare()


def test_audits_run_by_themselves_and_what_they_find_is_a_blind_spot_until_it_is_seen(
    audited: Callable[..., Audited],
) -> None:
    tree = audited(interval_s=0.2)
    until(lambda: tree.get_audit()["state"] == "done", within_s=30, what="the first audit")
    tree.change()
    until(lambda: not tree.compare(), within_s=30, what="the changes to be found")
    with tree.agent.query("blind-spots") as answer:
        spots = answer.read().decode()
    for path in ("/a/new/file", "/c/file", "/b/file", "/b/sub"):
        assert f'"{path}"' in spots
    assert "/a/file" not in spots


@pytest.mark.parametrize("worker", ["p.source", "p.pusher", "fusion"])
def test_an_audit_in_which_a_worker_is_killed_removes_nothing_that_is_there_and_the_view_ends_exact(
    audited: Callable[..., Audited], worker: str
) -> None:
    tree = audited(rows_per_s=20)
    there = walk(bytes(tree.top)).keys()
    tree.begin("full")
    until(lambda: tree.get_audit()["directories_listed"], within_s=30, what="the audit to be under way")
    killed = tree.agent.kill(worker)
    until(lambda: tree.agent.worker_pids().get(worker, killed) != killed, within_s=30, what="its successor")
    tree.agent.wait_ready()
    until(lambda: tree.get_audit()["state"] != "running", within_s=30, what="the end of the audit, if it goes on")
    assert tree.agent.export(sync=None).keys() == there
    tree.change()
    tree.order("incremental")
    assert not tree.compare(sync=30)
