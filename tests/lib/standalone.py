"""A standalone Fusion through its command, with a home of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from processes import belonging_to, describe, kill_all
from waiting import until

PROGRAM = Path(sys.executable).parent / "fustor-fusion"


class StandaloneFusion:
    """
    Runs commands of `fustor-fusion` on one home; `end` makes sure that nothing of it is left.

    Args:
        home: FUSTOR_FUSION_HOME; made by the first command.
        program: The command; by default that of the environment which runs the tests.
    """

    def __init__(self, home: Path, *, program: Path = PROGRAM) -> None:
        self.home = home
        self._program = program
        self.url = ""

    @property
    def environment(self) -> dict[str, str]:
        """What every command is run with."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FUSTOR_")}
        return inherited | {"FUSTOR_FUSION_HOME": str(self.home)}

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command, which must end with an exit code."""
        done = subprocess.run(
            [self._program, *arguments], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60, check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}"
        return done

    def start(self, *arguments: str) -> str:
        """Start it in the background on a free port; returns what the command said."""
        if "--port" not in arguments:
            arguments = (*arguments, "--port", "0")
        done = self.run("start", "-D", *arguments)
        self.url = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("address"))
        return done.stdout + done.stderr

    def write_config(self, text: str) -> None:
        """Write fusion.yaml."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "fusion.yaml").write_text(text)

    def add_key(self, role: str, *views: str) -> str:
        """Make a key; returns its secret."""
        named = [word for view in views for word in ("--view", view)]
        return self.run("keys", "add", "--role", role, *named).stdout.strip()

    def status(self) -> dict[str, Any]:
        """Return `status --json` of a Fusion that is well."""
        found = json.loads(self.run("status", "--json").stdout)
        assert isinstance(found, dict)
        return found

    def worker(self) -> dict[str, Any]:
        """Return the status of the worker."""
        done = subprocess.run(
            [self._program, "status", "--json"], env=self.environment, capture_output=True, timeout=60, check=False
        )
        (worker,) = json.loads(done.stdout)["workers"]
        assert isinstance(worker, dict)
        return worker

    def key(self, name: str) -> str:
        """Return the content of a key file, `agent` or `reader`."""
        return (self.home / "state" / f"fusion-{name}.key").read_text().strip()

    def request(
        self, secret: str, path: str, body: object = None, *,
        headers: Mapping[str, str] | None = None, query: Mapping[str, Any] | None = None,
    ) -> requests.Response:
        """Send a request below /api/v1/: a POST if it has a body."""
        with requests.Session() as client:
            client.trust_env = False
            return client.request(
                "GET" if body is None else "POST", f"{self.url}/api/v1/{path}", json=body, params=query,
                headers={"X-API-Key": secret, **(headers or {})}, timeout=120,
            )

    def log(self) -> str:
        """Return the log."""
        path = self.home / "logs" / "fusion.log"
        return path.read_text(errors="replace") if path.exists() else "(no log)"

    def processes(self) -> set[int]:
        """Return what runs for this home."""
        return belonging_to(self.home)

    def wait_gone(self) -> None:
        """Wait until nothing of it runs."""
        until(lambda: not self.processes(), within_s=30, what="every process to be gone")

    def end(self) -> None:
        """
        Stop it, and report what is left as a failure.

        Raises:
            AssertionError: Something was left; it is killed.
        """
        subprocess.run([self._program, "stop"], env=self.environment, capture_output=True, timeout=60, check=False)
        left = self.processes()
        names = [describe(pid) for pid in sorted(left)]
        kill_all(left)
        assert not names, f"left behind: {names}\n{self.log()}"
