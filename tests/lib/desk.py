"""Somebody who uses `fustor-agent` by its commands, on a home of their own."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from agent import AgentUnderTest
from configfile import Typed, write_config
from processes import belonging_to, describe, kill_all
from waiting import until

EMBEDDED: Typed = {"fusion": ("fusion", {"endpoint": "embedded"})}


class Desk:
    """
    Runs commands; at the end `clear` stops what runs.

    Args:
        directory: For the home and the trees.
        env: Further environment variables.
    """

    def __init__(self, directory: Path, env: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.agent = AgentUnderTest(self.home, env=env)

    @property
    def pid(self) -> int:
        """What stands in the PID file."""
        return int((self.home / "agent.pid").read_text())

    def tree(self, name: str) -> Path:
        """Return a small tree."""
        top = self.directory / name
        (top / "below").mkdir(parents=True)
        (top / "below" / "file").write_text(name)
        return top

    def configure(self, *trees: Path, senders: Typed = EMBEDDED, **pipes: tuple[str, str]) -> Path:
        """
        Write the configuration of the home.

        Args:
            trees: A source of type fs each, called as the directory.
            senders: By default the embedded Fusion, called `fusion`.
            pipes: Source and sender by id; by default one pipe `p-<tree>` to the first sender per tree.
        """
        self.home.mkdir(exist_ok=True)
        sender = next(iter(senders))
        return write_config(
            self.home / "agent-config.yaml",
            sources={tree.name: ("fs", {"uri": str(tree)}) for tree in trees},
            senders=senders,
            pipes=pipes or {f"p-{tree.name}": (tree.name, sender) for tree in trees},
        )

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command, and check its exit code."""
        done = self.agent.command(*arguments)
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.agent.log()}"
        )
        return done

    def signal(self, number: int) -> None:
        """Signal the agent itself."""
        os.kill(self.pid, number)

    def status(self) -> dict[str, Any]:
        """Return what `status --json` prints, whatever it exits with."""
        found = json.loads(self.agent.command("status", "--json").stdout)
        assert isinstance(found, dict)
        return found

    def pids(self) -> dict[str, int]:
        """Return the pids of the workers by name, once all of them run."""

        def look() -> dict[str, int] | None:
            workers = self.status()["workers"]
            runs = workers and all(worker["state"] == "running" for worker in workers)
            return {worker["name"]: worker["pid"] for worker in workers} if runs else None

        found = until(look, within_s=30, what="all workers to run")
        assert found is not None
        return found

    def wait_ready(self) -> None:
        """Wait until every pipe is current."""
        until(lambda: self.agent.readyz()[0] == 200, within_s=30, what="/readyz")

    def processes(self) -> set[int]:
        """Return the living processes of this home."""
        return belonging_to(self.home)

    def clear(self) -> list[str]:
        """Stop the agent; returns what had to be killed."""
        self.agent.command("stop")
        left = self.processes()
        names = [describe(pid) for pid in sorted(left)]
        kill_all(left)
        return names
