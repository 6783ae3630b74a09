"""A standalone Fusion that serves one view in the foreground, on a port that it keeps."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import requests

import oracle
from agent import free_ports
from configfile import write_config
from standalone import PROGRAM, StandaloneFusion
from waiting import until


class FusionUnderTest:
    """
    Runs `fustor-fusion start`; owns its process, which `stop` or `kill` ends.

    Args:
        home: Where its state is; made if missing. It outlives the process.
        view: The view that it serves.
    """

    def __init__(self, home: Path, *, view: str = "view") -> None:
        self.home = home
        self.view = view
        (self.port,) = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._commands = StandaloneFusion(home)
        self._commands.url = self.endpoint
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def agent_key(self) -> str:
        """The key that may push."""
        return self._commands.key("agent")

    @property
    def reader_key(self) -> str:
        """The key that may only read."""
        return self._commands.key("reader")

    def write_agent_config(self, path: Path, tree: Path, **driver_params: object) -> Path:
        """Write a configuration by which an agent pushes a tree here, through a pipe `p`; returns the path."""
        sender = {"endpoint": self.endpoint, "credential": {"file": str(self.home / "state" / "fusion-agent.key")}}
        source = {"uri": str(tree), "driver_params": driver_params}
        return write_config(
            path, sources={"tree": ("fs", source)}, senders={"far": ("fusion", sender)}, pipes={"p": ("tree", "far")}
        )

    def start(self) -> "FusionUnderTest":
        """Start it on its port, and wait until it answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        command = [PROGRAM, "start", "--port", str(self.port), "--view", self.view]
        with open(self.home / "output.log", "ab") as output:
            self._process = subprocess.Popen(
                command, env=self._commands.environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )
        try:
            until(self._answers, within_s=60, what="Fusion")
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """End it as an operator does."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            code = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"Fusion still ran 30 s after SIGTERM\n{self.log()}") from None
        self._process = None
        assert code == 0, f"Fusion ended with exit code {code}\n{self.log()}"

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            # The kernel ends the server with its supervisor; until then it holds port and database.
            self._commands.wait_gone()

    def log(self) -> str:
        """Return the end of what it printed."""
        return (self.home / "output.log").read_text(errors="replace")[-4000:]

    def ask(self, endpoint: str, **query: object) -> Any:
        """
        Ask the view.

        Args:
            endpoint: What follows the view's name, for example `stats`.
            query: Its parameters.
        """
        return self._get(endpoint, query).json()

    def export(self, *, sync_s: float | None = 30.0) -> dict[bytes, oracle.Entry]:
        """
        Return the whole view.

        Args:
            sync_s: Only once it holds all that happened before, at most after so long; None takes it as it is.
        """
        answer = self._get("export", {"sync": sync_s})
        return oracle.parse_export(answer.content.splitlines())

    def sessions(self) -> list[dict[str, Any]]:
        """Return the live sessions, oldest first."""
        found = self.ask("sessions")["active_sessions"]
        assert isinstance(found, list)
        return found

    def _get(self, endpoint: str, query: dict[str, object]) -> requests.Response:
        answer = self._commands.request(self.reader_key, f"views/{self.view}/{endpoint}", query=query)
        assert answer.ok, f"{answer.url}: {answer.status_code} {answer.text}\n{self.log()}"
        return answer

    def _answers(self) -> bool:
        assert self._process is not None
        code = self._process.poll()
        assert code is None, f"Fusion ended at once, exit code {code}\n{self.log()}"
        try:
            return self._commands.request("", "openapi.json").ok
        except requests.ConnectionError:
            return False
