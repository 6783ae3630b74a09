"""Fusion's own clock, by which whatever agents saw is put in order."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")  # man 5 proc


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _read_boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


class ArrivalClock:
    """
    Nanoseconds since the epoch as they were when Fusion started in this boot of the machine, and from there on as
    time passes.

    It begins with the wall clock, or with what came before where that is later, and never looks at it again: whatever
    came later has the higher time, and steps of the wall clock, to and fro, change nothing. A process that takes over
    in the same boot goes on with it, so that what was found by it stays true.

    Args:
        newest: The highest time of anything that came before.
        kept: The `state` of the clock by which that was; empty without one.
        boot_id: Names this boot of the machine, empty when nobody can tell; None looks it up.
        wall: Nanoseconds since the epoch.
        boottime: Nanoseconds since any time, those in which the machine slept counted.

    Attributes:
        state: What to keep of it; the same for a process that goes on with it, and for no other clock.
    """

    def __init__(
        self, newest: int, kept: str = "", *, boot_id: str | None = None, wall: Callable[[], int] = time.time_ns,
        boottime: Callable[[], int] = _boottime_ns,
    ) -> None:
        boot_id = _read_boot_id() if boot_id is None else boot_id
        kept_id, _, offset = kept.partition(" ")
        self._boottime = boottime
        goes_on = bool(boot_id) and kept_id == boot_id and int(offset) + boottime() >= newest
        self._offset = int(offset) if goes_on else max(wall(), newest) - boottime()
        self.state = f"{boot_id} {self._offset}"
        self._last = newest

    def read(self) -> int:
        """Return what the time is; any thread."""
        return self._offset + self._boottime()

    def stamp(self) -> int:
        """Return a time higher than all before; the writing thread only."""
        self._last = max(self._last + 1, self.read())
        return self._last
