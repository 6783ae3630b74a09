"""
Debian's faketime: a library that, loaded before all others, gives a process a wall clock of its own.

Taken from the system, or fetched once into the user's cache directory; nothing is installed.
"""

import fcntl
import os
import subprocess
from pathlib import Path
from typing import Final

from released import NotInstallable

_LIBRARY: Final = "usr/lib/*/faketime/libfaketimeMT.so.1"


class StepClock:
    """
    A wall clock that can be stepped while processes go by it; their other clocks go on.

    Args:
        library: As `find_faketime` returns it.
        file: Holds the offset.
    """

    def __init__(self, library: Path, file: Path) -> None:
        self._library = library
        self._file = file
        self.step_to(0)

    def step_to(self, offset_s: int) -> None:
        """Set the clock to so many seconds from the true time."""
        beside = self._file.with_name("next")
        beside.write_text(f"{offset_s:+d}")
        beside.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """What a process is started with that shall go by it."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",  # the times of files are the kernel's
        }


def find_faketime() -> Path:
    """
    Return the library.

    Raises:
        NotInstallable: It is not on this system and cannot be fetched.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fustor-tests"
    place = cache / "faketime"
    place.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want it at the same time
        for root in (Path("/"), place):
            for found in root.glob(_LIBRARY):
                return found
        try:
            _fetch(place)
        except (OSError, subprocess.SubprocessError) as err:
            raise NotInstallable(f"faketime: {err}") from err
        return next(place.glob(_LIBRARY))


def _fetch(place: Path) -> None:
    try:
        _run("apt-get", "download", "libfaketime", place=place)
    except subprocess.CalledProcessError:
        _run("apt-get", "update", place=place)  # its lists may never have been fetched
        _run("apt-get", "download", "libfaketime", place=place)
    (package,) = place.glob("*.deb")
    _run("dpkg-deb", "-x", package.name, ".", place=place)


def _run(*words: str, place: Path) -> None:
    subprocess.run(words, cwd=place, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
