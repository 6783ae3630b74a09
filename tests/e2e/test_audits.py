"""The whole agent on a tree that is changed where no event can come from: below an overlay that it watches."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import AgentUnderTest
from oracle import Entry, walk
from waiting import until

WRAPPER = """#!/bin/sh
exec unshare -Urm sh -c 'mount -t overlay overlay -o lowerdir={below}:{empty} {watched} && exec {program} "$@"' sh "$@"
"""
CONFIG = """
sources: [{{id: s, type: fs, config: {{uri: {watched}}}}}]
senders: [{{id: f, type: fusion, config: {{endpoint: embedded}}}}]
pipes: [{{id: p, source_id: s, sender_id: f, audit_interval_s: {interval_s}, full_audit_interval_s: 0}}]
"""


class Overlaid:
    """A tree, and an agent that watches it through an overlay: inotify tells it nothing of what is done below."""

    def __init__(self, folder: Path, start_agent: Callable[..., AgentUnderTest], *, interval_s: float) -> None:
        self.below = folder / "below"
        for name in ("below", "empty", "watched"):
            (folder / name).mkdir()
        for name in "abcd":
            (self.below / name / "sub" / "deep").mkdir(parents=True)
            (self.below / name / "file").write_text(name)
        newest_ns = max(path.stat().st_ctime_ns for path in self.below.rglob("*"))
        # Only times that are a second old can tell whether something changes after them.
        until(lambda: time.time_ns() - newest_ns > 1.1e9, within_s=10, what="the tree to be a second old")
        places = {"below": self.below, "empty": folder / "empty", "watched": folder / "watched"}
        wrapper, config = folder / "wrapper", folder / "config.yaml"
        self.program = Path(sys.executable).parent / "fustor-agent"
        wrapper.write_text(WRAPPER.format(program=self.program, **places))
        wrapper.chmod(0o755)
        config.write_text(CONFIG.format(interval_s=interval_s, **places))
        self.agent = start_agent(program=wrapper, config=config, view="p")
        self.agent.wait_ready()

    def change(self) -> None:
        """Make, remove, rename, and write in place."""
        (self.below / "a" / "new").mkdir()
        (self.below / "a" / "new" / "file").write_text("new")
        (self.below / "b" / "file").unlink()
        (self.below / "b" / "sub").rename(self.below / "c" / "moved")
        with (self.below / "c" / "file").open("r+") as file:
            file.write("written in place")

    def read(self) -> dict[bytes, Entry]:
        return self.agent.export(sync=None)

    def show(self) -> dict[bytes, tuple[str, int, int]]:
        """Return what the tree and an overlay of it have in common, of all but directories."""
        return _simplify(walk(bytes(self.below)))

    def get_audit(self) -> dict[str, Any]:
        pipe, = self.agent.status()["pipes"]
        audit = pipe["audit"]
        assert isinstance(audit, dict)
        return audit

    def order(self, kind: str) -> dict[str, Any]:
        """Order an audit by the command line, and wait for its end."""
        before = self.get_audit()["started_at"]
        words = [self.program, "pipe", "audit", "p", "--kind", kind]
        done = subprocess.run(words, env=self.agent.environment, capture_output=True, text=True, check=False)
        assert done.stdout == "audit started\n", done.stderr

        def ended() -> dict[str, Any] | None:
            audit = self.get_audit()
            return audit if audit["started_at"] != before and audit["state"] != "running" else None

        return until(ended, within_s=30, what="the audit to end")


def _simplify(entries: dict[bytes, Entry]) -> dict[bytes, tuple[str, int, int]]:
    return {path: ("directory", 0, 0) if each.type == "directory" else (each.type, each.size, each.mtime_ns)
            for path, each in entries.items()}


def may_mount() -> bool:
    words = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs none /mnt"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


@pytest.fixture
def overlaid(tmp_path: Path, start_agent: Callable[..., AgentUnderTest]) -> Callable[..., Overlaid]:
    if not may_mount():
        pytest.skip("mounting in a namespace of its own (unshare -Urm) is not permitted to this user")
    return lambda **options: Overlaid(tmp_path, start_agent, **options)


def test_an_incremental_audit_finds_names_and_a_full_one_what_was_written_in_place(
    overlaid: Callable[..., Overlaid],
) -> None:
    tree = overlaid(interval_s=0)
    assert _simplify(tree.read()) == tree.show()
    tree.change()
    audit = tree.order("incremental")
    assert (audit["state"], audit["kind"], audit["directories_unreadable"]) == ("done", "incremental", 0)
    # Changed: a, b, c; new: a/new, c/moved, c/moved/deep. The file that was written in place is in one of them.
    assert (audit["directories_listed"], audit["directories_skipped"]) == (6, 8)
    assert _simplify(tree.read()) == tree.show()
    assert tree.agent.status()["pipes"][0]["current"] is True

    with (tree.below / "d" / "file").open("r+") as file:
        file.write("written in place where nothing else has changed")
    tree.order("incremental")
    assert _simplify(tree.read()) != tree.show(), "nothing but the file itself tells"
    full = tree.order("full")
    assert (full["state"], full["kind"], full["directories_skipped"]) == ("done", "full", 0)
    assert _simplify(tree.read()) == tree.show()


def test_audits_run_by_themselves_and_what_they_find_is_a_blind_spot_until_it_is_seen(
    overlaid: Callable[..., Overlaid],
) -> None:
    tree = overlaid(interval_s=0.2)
    until(lambda: tree.get_audit()["state"] == "done", within_s=30, what="the first audit")
    tree.change()
    until(lambda: _simplify(tree.read()) == tree.show(), within_s=30, what="the changes to be found")
    with tree.agent.query("blind-spots") as answer:
        spots = answer.read().decode()
    for path in ("/a/new/file", "/c/file", "/b/file", "/b/sub"):
        assert f'"{path}"' in spots
    assert "/a/file" not in spots
