"""The real agent as a subprocess, with a home and ports of its own."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import oracle
from processes import belonging_to, describe, kill_all
from waiting import until

# Straight to the loopback, whatever proxy the environment names.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class AgentFailed(AssertionError):
    """The agent did not do what a test relies on; the message ends with its log."""


class AgentUnderTest:
    """
    Runs `fustor-agent start` in the foreground, in a session of its own.

    Use it with `with`: at the end the agent is stopped, and a process that is left over is
    killed and reported as a failure.

    Args:
        home: FUSTOR_HOME; made if missing.
        watch: Directory for `--watch`; None when a configuration says what to do.
        config: File for `--config`.
        view: Name of the view that `export` reads.
        program: The command; by default that of the environment which runs the tests.
        env: Further environment variables.
        stop_within_s: How long a stop may take before it counts as a failure.
    """

    def __init__(
        self,
        home: Path,
        *,
        watch: Path | None = None,
        config: Path | None = None,
        view: str = "watch",
        program: Path | None = None,
        env: Mapping[str, str] | None = None,
        stop_within_s: float = 30.0,
    ) -> None:
        self.home = home
        self.view = view
        self.console_port, self.fusion_port = free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None
        self._program = program or Path(sys.executable).parent / "fustor-agent"
        self._arguments = ["start"]
        self._arguments += ["--watch", str(watch)] if watch is not None else []
        self._arguments += ["--config", str(config)] if config is not None else []
        self._env = dict(env or {})
        self._stop_within_s = stop_within_s
        self._sessions: set[int] = set()

    @property
    def environment(self) -> dict[str, str]:
        """What every command of this agent is run with."""
        own = {
            "FUSTOR_HOME": str(self.home),
            "FUSTOR_CONSOLE_PORT": str(self.console_port),
            "FUSTOR_FUSION_PORT": str(self.fusion_port),
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FUSTOR_")}
        return inherited | own | self._env

    @property
    def console_url(self) -> str:
        """Where the console listens."""
        return f"http://127.0.0.1:{self.console_port}"

    @property
    def fusion_url(self) -> str:
        """Where the embedded Fusion listens."""
        return f"http://127.0.0.1:{self.fusion_port}"

    def start(self) -> "AgentUnderTest":
        """Start the agent; returns at once."""
        if self.process is not None and self.process.poll() is None:
            raise AgentFailed(f"already running as {self.process.pid}")
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self._output, "ab") as output:
            self.process = subprocess.Popen(
                [self._program, *self._arguments],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._sessions.add(self.process.pid)
        return self

    def wait_ready(self, within_s: float = 60.0) -> None:
        """
        Wait until every pipe is current.

        Raises:
            AgentFailed: The agent ended, or is not ready in time; with the last answer and the log.
        """
        try:
            until(lambda: self._must_run() and self.readyz()[0] == 200, within_s=within_s, what="/readyz")
        except TimeoutError as error:
            raise self._failed(f"{error}; last answer: {self.readyz()}") from None

    def readyz(self) -> tuple[int, str]:
        """Return status code and text of /readyz; code 0 and the reason if nobody answers."""
        try:
            with _direct.open(f"{self.console_url}/readyz", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)

    def status(self) -> dict[str, Any]:
        """Return `/api/status`."""
        with self._get(f"{self.console_url}/api/status") as answer:
            found = json.load(answer)
        assert isinstance(found, dict)
        return found

    def worker_pids(self) -> dict[str, int]:
        """Return the pids of the workers that run, by name."""
        return {worker["name"]: worker["pid"] for worker in self.status()["workers"] if worker["pid"]}

    def kill(self, worker: str, with_signal: int = signal.SIGKILL) -> int:
        """Signal a worker by name; returns the pid that got it."""
        pid = self.worker_pids()[worker]
        os.kill(pid, with_signal)
        return pid

    def export(self, sync: float | None = 30.0, view: str | None = None) -> dict[bytes, oracle.Entry]:
        """
        Return the whole view.

        Args:
            sync: Only once it holds all that happened before; None takes it as it is.
            view: Another view than the usual one.
        """
        with self.query("export", sync=sync, view=view) as answer:
            return oracle.parse_export(answer)

    @contextlib.contextmanager
    def query(
        self, endpoint: str, *, sync: float | None = None, view: str | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask the embedded Fusion; `endpoint` is what follows the view's name, with its own `?` if any."""
        url = f"{self.fusion_url}/api/v1/views/{view or self.view}/{endpoint}"
        if sync is not None:
            url += f"{'&' if '?' in endpoint else '?'}sync={sync:g}"
        with self._get(url, {"X-API-Key": self.reader_key()}, timeout_s=(sync or 0) + 60) as answer:
            yield answer

    def reader_key(self) -> str:
        """Return the key that may only read."""
        return (self.home / "state" / "fusion-reader.key").read_text().strip()

    def differences(self, tree: Path, *, directory_times: bool = True) -> list[str]:
        """Compare the view, after a sync, with a tree that nobody changes."""
        return oracle.differences(oracle.walk(str(tree)), self.export(), directory_times=directory_times)

    def command(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run another `fustor-agent` command on this home."""
        return subprocess.run(
            [self._program, *arguments],
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )

    def stop(self) -> int:
        """
        Stop the agent by SIGTERM, as `fustor-agent stop` does, and make sure that nothing of it is left.

        Returns:
            Its exit code; negative when a signal ended it.

        Raises:
            AgentFailed: It did not stop in time, or left a process behind. Nothing runs any more all the same.
        """
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
        faults = []
        try:
            code = self.process.wait(self._stop_within_s)
        except subprocess.TimeoutExpired:
            faults.append(f"still running {self._stop_within_s:g} s after SIGTERM")
            self.process.kill()
            code = self.process.wait()
        faults += [f"left behind: {name}" for name in self._sweep()]
        if faults:
            raise self._failed("; ".join(faults))
        self.process = None
        return code

    def crash(self) -> None:
        """Kill the supervisor and every worker, as a crash of the machine does; `start` begins anew."""
        kill_all(self._processes())
        if self.process is not None:
            self.process.wait()
            self.process = None

    def log(self, lines: int = 80) -> str:
        """Return the end of what the agent printed and logged."""
        parts = []
        for path in (self._output, self.home / "logs" / "agent.log"):
            if path.exists():
                tail = path.read_text(errors="replace").splitlines()[-lines:]
                parts += [f"--- {path.name}", *tail]
        return "\n".join(parts)

    def __enter__(self) -> "AgentUnderTest":
        return self.start() if self.process is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
            return
        print(self.log(), file=sys.stderr)
        try:
            self.stop()
        except AgentFailed as failure:  # must not hide the error that the test is about
            print(failure, file=sys.stderr)

    @property
    def _output(self) -> Path:
        return self.home / "output.log"

    def _get(
        self, url: str, headers: Mapping[str, str] | None = None, timeout_s: float = 30.0
    ) -> http.client.HTTPResponse:
        request = urllib.request.Request(url, headers=dict(headers or {}))
        try:
            answer = _direct.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                raise self._failed(f"{url}: {error.code} {error.read().decode(errors='replace')}") from None
        assert isinstance(answer, http.client.HTTPResponse)
        return answer

    def _must_run(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise self._failed(f"the agent ended, exit code {self.process and self.process.returncode}")
        return True

    def _sweep(self) -> list[str]:
        """Kill what is left, and name it. A moment of grace: the kernel may still be tearing workers down."""
        with contextlib.suppress(TimeoutError):
            until(lambda: not self._processes(), within_s=2, what="every process of the agent to be gone")
        left = self._processes()
        names = [describe(pid) for pid in sorted(left)]
        kill_all(left)
        return names

    def _processes(self) -> set[int]:
        return belonging_to(self.home, self._sessions)

    def _failed(self, message: str) -> AgentFailed:
        return AgentFailed(f"{message}\n{self.log()}")


def free_ports(count: int) -> list[int]:
    """Return ports on the loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
