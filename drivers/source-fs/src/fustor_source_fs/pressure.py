"""How much others have to wait for this machine, as the kernel measures it (pressure stall information)."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

_FOLDER: Final = Path("/proc/pressure")
_KINDS: Final = ("cpu", "io")
_READ_EVERY_S: Final = 1.0
_SOME: Final = re.compile(r"some avg10=(\d+(?:\.\d+)?) ")


class Pressure:
    """
    Says how fast work that has time may go on.

    Args:
        limit_percent: Above so much pressure it goes slower; 0 is never.
        now: Monotonic seconds.
        folder: Where the kernel says it; injected in tests.
    """

    def __init__(self, limit_percent: float, now: Callable[[], float], *, folder: Path = _FOLDER) -> None:
        self._limit_percent = limit_percent
        self._now = now
        self._folder = folder
        self._read_at_s = float("-inf")
        self._percent: float | None = None

    def get_percent(self) -> float | None:
        """
        Return in which part of the last ten seconds a process had to wait, for a processor or for a disk.

        The larger of the two, at most a second old; None where the kernel does not say.
        """
        if self._now() - self._read_at_s >= _READ_EVERY_S:
            self._read_at_s = self._now()
            said = [percent for kind in _KINDS if (percent := self._read(kind)) is not None]
            self._percent = max(said, default=None)
        return self._percent

    def get_share(self) -> float:
        """Return which part of its rate is left to work that has time, above 0 to 1: in proportion above the limit."""
        percent = self.get_percent() if self._limit_percent else None
        return 1.0 if percent is None else min(1.0, self._limit_percent / max(percent, self._limit_percent))

    def _read(self, kind: str) -> float | None:
        try:
            said = _SOME.match((self._folder / kind).read_text("utf-8"))
        except (OSError, UnicodeDecodeError):  # an old kernel, one that was started without it, or no /proc
            return None
        return float(said[1]) if said else None
