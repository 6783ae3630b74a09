"""
Programs of others as they were released, each in an environment of its own.

The names of Fustor 0.8.17 are those of ours, and other tools bring much along, so they never go
into the environment of the tests: they are installed once into the user's cache directory.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from processes import descendants

VERSION: Final = "0.8.17"
INSTALL_TIMEOUT_S: Final = 600.0
END_TIMEOUT_S: Final = 20.0


class NotInstallable(Exception):
    """The packages cannot be had; the message is what the installer said last."""


def pin(*parts: str) -> list[str]:
    """
    Require distributions of the release 0.8.17.

    All that are needed: they require each other without versions, and the registry holds newer ones.
    """
    return [f"{part}=={VERSION}" for part in parts]


def install(name: str, requirements: Sequence[str]) -> Path:
    """
    Install packages, unless that was done before.

    Args:
        name: Of the environment.
        requirements: What is to be there.

    Returns:
        The environment's `bin` directory.

    Raises:
        NotInstallable: The registry does not give them.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fustor-tests"
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}"
    done, wanted = place / "installed", "\n".join(requirements)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want it at the same time
        if not done.exists() or done.read_text() != wanted:
            shutil.rmtree(place, ignore_errors=True)
            # Not the tests' own interpreter: that one is itself in a virtual environment.
            _run([sys.executable, "-m", "venv", str(place)])
            _run([str(place / "bin" / "python"), "-m", "pip", "install", "-q", *requirements])
            done.write_text(wanted)
    return place / "bin"


class Program:
    """
    One running program of a release; owns its process until `end`.

    Args:
        home: Its home and current directory, where `output` is what it prints; made if missing.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> None:
        """Start it, with nothing of our environment but where programs are; returns at once."""
        self._home.mkdir(parents=True, exist_ok=True)
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._home), "FUSTOR_HOME": str(self._home)}
        with (self._home / "output").open("ab") as output:
            self.process = subprocess.Popen(
                command, env=environment, cwd=self._home, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    def end(self, number: signal.Signals) -> None:
        """End it by a signal, if it runs; what takes too long is killed."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def pids(self) -> list[int]:
        """Return its processes; none if it does not run."""
        return [] if self.process is None else [self.process.pid, *sorted(descendants(self.process.pid))]

    def log(self) -> str:
        """Return what it printed."""
        return (self._home / "output").read_text(errors="replace")


def _run(command: list[str]) -> None:
    try:
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INSTALL_TIMEOUT_S,
            text=True,
        )
    except subprocess.CalledProcessError as err:
        last = [line for line in err.stdout.splitlines() if line.strip()][-1:]
        raise NotInstallable(" ".join(last) or f"{command[0]} failed") from err
    except (OSError, subprocess.TimeoutExpired) as err:
        raise NotInstallable(str(err)) from err
