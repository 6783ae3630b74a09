"""What watches a tree in `bench_watchers`: ours and others; started, asked how many files it has told of, ended."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

import psutil
from agents import MB, find_processes, wait_until
from public_agent import PublicAgent
from public_fusion import PublicFusion

from agent import AgentUnderTest

READY_WITHIN_S = 1_800
_FILES = b"f"  # what the names of files begin with in the trees of this bench


class Contestant(Protocol):
    """
    One that watches a tree, not started yet.

    Args:
        tree: The directory to watch.
        home: For what it keeps.
    """

    title: str

    def __init__(self, tree: Path, home: Path) -> None: ...

    def start(self) -> None:
        """Start it; returns once it has looked at all that is there."""

    def count(self) -> int:
        """Return how many files it has told of."""

    def pids(self) -> list[int]:
        """Return its processes."""

    def stop(self) -> None:
        """End it."""


class _Teller:
    """Reads a stream of paths in a thread and counts the files among them, each once."""

    def __init__(self, paths: Iterator[bytes]) -> None:
        self._seen: set[bytes] = set()
        self._thread = threading.Thread(target=self._read, args=(paths,))
        self._thread.start()

    def _read(self, paths: Iterator[bytes]) -> None:
        for path in paths:
            if path.rpartition(b"/")[2].startswith(_FILES):
                self._seen.add(path)

    def count(self) -> int:
        return len(self._seen)

    def join(self) -> None:
        self._thread.join()


class _Program:
    """One process, and what it tells."""

    _process: subprocess.Popen[bytes]
    _teller: _Teller

    def count(self) -> int:
        return self._teller.count()

    def pids(self) -> list[int]:
        return [self._process.pid]

    def stop(self) -> None:
        _end(self._process)
        self._teller.join()


class SourceAlone(_Program):
    """Our fs source with a receiver that discards."""

    title = "our source, discarded"

    def __init__(self, tree: Path, home: Path) -> None:
        self._words = [sys.executable, str(Path(__file__).with_name("source_alone.py")), str(tree)]

    def start(self) -> None:
        self._process = subprocess.Popen(self._words, stdout=subprocess.PIPE)
        output = _get_output(self._process)
        if output.readline() != b"ready\n":
            raise SystemExit("the source did not start")
        self._teller = _Teller(line.rstrip(b"\n") for line in output)


class Inotifywait(_Program):
    """`inotifywait -m -r` of inotify-tools, told when a file was created or moved in, or closed after writing."""

    title = "inotifywait -m -r"

    def __init__(self, tree: Path, home: Path) -> None:
        events = ("--event", "create", "--event", "moved_to", "--event", "close_write")
        self._words = ["inotifywait", "-m", "-r", *events, "--format", "%w%f", str(tree)]

    def start(self) -> None:
        self._process = subprocess.Popen(self._words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        while (line := self._process.stderr.readline()) and b"established" not in line:
            pass
        # What it says of its losses is not to fill the pipe.
        self._errors = threading.Thread(target=self._process.stderr.read)
        self._errors.start()
        self._teller = _Teller(line.rstrip(b"\n") for line in _get_output(self._process))

    def stop(self) -> None:
        super().stop()
        self._errors.join()


class Watchman(_Program):
    """Watchman's server, with a subscription to all that changes."""

    title = "Watchman"

    def __init__(self, tree: Path, home: Path) -> None:
        self._tree = tree
        self._home = home

    def start(self) -> None:
        self._home.mkdir()
        at = {name: str(self._home / name) for name in ("sock", "log", "pid", "state")}
        self._process = subprocess.Popen(
            ["watchman", "--foreground", "--no-save-state", f"--sockname={at['sock']}", f"--logfile={at['log']}",
             f"--pidfile={at['pid']}", f"--statefile={at['state']}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(at["sock"]), within_s=30)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(at["sock"])
        stream = self._socket.makefile("rwb")
        self._ask(stream, "watch", str(self._tree))
        clock = self._ask(stream, "clock", str(self._tree), {"sync_timeout": READY_WITHIN_S * 1000})["clock"]
        self._ask(stream, "subscribe", str(self._tree), "all", {"fields": ["name"], "since": clock})
        self._teller = _Teller(_read_names(stream))

    def _ask(self, stream: IO[bytes], *command: object) -> dict[str, object]:
        stream.write(json.dumps(command).encode() + b"\n")
        stream.flush()
        answer = json.loads(stream.readline())
        if "error" in answer:
            raise SystemExit(f"Watchman: {answer['error']}")
        assert isinstance(answer, dict)
        return answer

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        super().stop()
        self._socket.close()


class OurAgent:
    """Our agent with its embedded Fusion; told is what can be queried."""

    title = "our agent + Fusion"

    def __init__(self, tree: Path, home: Path) -> None:
        self._agent = AgentUnderTest(home, watch=tree)

    def start(self) -> None:
        self._agent.start()
        self._agent.wait_ready(within_s=READY_WITHIN_S)
        self._connection = http.client.HTTPConnection("127.0.0.1", self._agent.fusion_port, timeout=60)
        self._headers = {"X-API-Key": self._agent.reader_key()}

    def count(self) -> int:
        self._connection.request("GET", f"/api/v1/views/{self._agent.view}/stats", headers=self._headers)
        return int(json.loads(self._connection.getresponse().read())["files"])

    def pids(self) -> list[int]:
        return list(find_processes(self._agent).values())

    def stop(self) -> None:
        self._connection.close()
        self._agent.stop()


class PublicPair:
    """The public agent and Fusion 0.8.17; told is what can be queried."""

    title = "public agent + Fusion 0.8.17"

    def __init__(self, tree: Path, home: Path) -> None:
        self._fusion = PublicFusion(home / "fusion")
        self._tree, self._home = tree, home

    def start(self) -> None:
        there = sum(len(names) for _, _, names in os.walk(self._tree))
        self._fusion.start()
        self._agent = PublicAgent(self._home / "agent", tree=self._tree, endpoint=self._fusion.endpoint,
                                  key=self._fusion.push_key, audit_interval_s=86_400)
        self._agent.start()
        wait_until(lambda: self.count() >= there and self._fusion.query("stats") is not None, within_s=READY_WITHIN_S)

    def count(self) -> int:
        return int((self._fusion.query("stats") or {}).get("total_files") or 0)

    def pids(self) -> list[int]:
        return [*self._fusion.pids(), *self._agent.pids()]

    def stop(self) -> None:
        self._agent.stop()
        self._fusion.stop()


CONTESTANTS: Sequence[type[Contestant]] = (SourceAlone, OurAgent, Inotifywait, Watchman, PublicPair)


def install_debian(*packages: str) -> bool:
    """Install Debian packages visibly, unless their commands are there; tells whether they are."""
    commands = {"inotify-tools": "inotifywait", "watchman": "watchman"}
    missing = [package for package in packages if shutil.which(commands[package]) is None]
    if missing and os.getuid() == 0 and shutil.which("apt-get"):
        print(f"installing {' '.join(missing)}", flush=True)
        subprocess.run(["apt-get", "install", "--yes", "--quiet", *missing], check=False)
        missing = [package for package in packages if shutil.which(commands[package]) is None]
    return not missing


def measure_pss(pids: Sequence[int]) -> float:
    """Return the memory of processes in MB, what they share counted once."""
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids) / MB


def _read_names(stream: IO[bytes]) -> Iterator[bytes]:
    for line in stream:
        for name in json.loads(line).get("files", ()):
            yield os.fsencode(name)


def _get_output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait()
