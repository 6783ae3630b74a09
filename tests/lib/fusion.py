"""A standalone Fusion as a subprocess, with a home and a port of its own."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oracle
from agent import free_ports
from processes import belonging_to
from waiting import until

# Straight to the loopback, whatever proxy the environment names.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class FusionFailed(AssertionError):
    """Fusion did not do what a test relies on; the message ends with what it printed."""


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
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """What an agent is configured with."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def agent_key(self) -> str:
        """The key that may push."""
        return (self.home / "state" / "fusion-agent.key").read_text().strip()

    @property
    def reader_key(self) -> str:
        """The key that may only read."""
        return (self.home / "state" / "fusion-reader.key").read_text().strip()

    @property
    def database(self) -> Path:
        """The view's database."""
        return self.home / "state" / f"fusion-{self.view}.db"

    def start(self) -> "FusionUnderTest":
        """Start it on its port, and wait until it answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        program = Path(sys.executable).parent / "fustor-fusion"
        arguments = ["start", "--port", str(self.port), "--view", self.view]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FUSTOR_")}
        with open(self.home / "output.log", "ab") as output:
            self._process = subprocess.Popen(
                [program, *arguments], env=environment | {"FUSTOR_FUSION_HOME": str(self.home)},
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
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
            raise self._failed("Fusion still ran 30 s after SIGTERM") from None
        self._process = None
        if code != 0:
            raise self._failed(f"Fusion ended with exit code {code}")

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            # The kernel ends the server with its supervisor; until then it holds port and database.
            until(lambda: not belonging_to(self.home), within_s=30, what="the server to be gone")

    def log(self) -> str:
        """Return what it printed."""
        return (self.home / "output.log").read_text(errors="replace")

    def ask(self, endpoint: str, **query: object) -> Any:
        """
        Ask the view.

        Args:
            endpoint: What follows the view's name, for example `stats`.
            query: Its parameters.
        """
        with self.open(endpoint, **query) as answer:
            return json.load(answer)

    @contextlib.contextmanager
    def open(self, endpoint: str, **query: object) -> Iterator[http.client.HTTPResponse]:
        """Ask the view, and read the answer as it comes."""
        url = f"{self.endpoint}/api/v1/views/{self.view}/{endpoint}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, headers={"X-API-Key": self.reader_key})
        try:
            answer = _direct.open(request, timeout=120)
        except urllib.error.HTTPError as err:
            with err:
                raise self._failed(f"{url}: {err.code} {err.read().decode(errors='replace')}") from None
        with answer:
            yield answer

    def export(self, *, sync_s: float | None = 30.0) -> dict[bytes, oracle.Entry]:
        """
        Return the whole view.

        Args:
            sync_s: Only once it holds all that happened before, at most after so long; None takes it as it is.
        """
        with self.open("export", **({} if sync_s is None else {"sync": sync_s})) as answer:
            return oracle.parse_export(answer)

    def sessions(self) -> list[dict[str, Any]]:
        """Return the live sessions, oldest first."""
        found = self.ask("sessions")["active_sessions"]
        assert isinstance(found, list)
        return found

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise self._failed(f"Fusion ended at once, exit code {self._process.returncode}")
        try:
            with _direct.open(f"{self.endpoint}/api/v1/pipe/session/", timeout=10):
                return True
        except urllib.error.HTTPError as err:
            with err:
                return err.code == 401
        except (OSError, http.client.HTTPException):
            return False

    def _failed(self, message: str) -> FusionFailed:
        return FusionFailed(f"{message}\n{self.log()[-4000:]}")
