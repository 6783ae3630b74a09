"""
Released packages of 0.8.17, each set of them in an environment of its own.

Their names are those of ours, so they never go into the environment of the tests: they are
installed once into the user's cache directory.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

VERSION: Final = "0.8.17"
INSTALL_TIMEOUT_S: Final = 600.0


class NotInstallable(Exception):
    """The packages cannot be had; the message is what the installer said last."""


def install(name: str, parts: Sequence[str], *others: str) -> Path:
    """
    Install released packages, unless that was done before.

    Args:
        name: Of the environment; another set of packages needs another name.
        parts: Distributions of the release. All that are needed: they require each other
            without versions, and the registry holds newer ones.
        others: Further requirements.

    Returns:
        The environment's `bin` directory.

    Raises:
        NotInstallable: The registry does not give them.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fustor-tests"
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / f"{name}-{VERSION}-py{sys.version_info.major}.{sys.version_info.minor}"
    done = place / "installed"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want it at the same time
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)
            # Not the tests' own interpreter: that one is itself in a virtual environment.
            _run([sys.executable, "-m", "venv", str(place)])
            requirements = [f"{part}=={VERSION}" for part in parts] + list(others)
            _run([str(place / "bin" / "python"), "-m", "pip", "install", "-q", *requirements])
            done.touch()
    return place / "bin"


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
