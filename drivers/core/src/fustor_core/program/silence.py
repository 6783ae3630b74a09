"""A running program whose published status is not renewed: it hangs, or its disk takes nothing."""

import os
import time
from pathlib import Path
from typing import Final

# A program publishes at least every few seconds.
STALE_S: Final = 20.0


def explain_silence(name: str, published_s: float | None, status: Path, log: Path) -> str | None:
    """
    Say that a status is old, and why if its disk tells.

    Args:
        name: What the program is called, `the agent`.
        published_s: When the status was rendered, in seconds of `time.monotonic`, which all processes
            of a machine share; None if it does not say.
        status: The status file.
        log: The log, for the remedy.

    Returns:
        One line; None while the status is fresh.
    """
    age_s = 0.0 if published_s is None else time.monotonic() - published_s
    if age_s <= STALE_S:
        return None
    return f"{name} has not published its status for {age_s:.0f} s; {find_obstacle(status.parent) or f'see {log}'}"


def find_obstacle(directory: Path) -> str | None:
    """Say why nothing can be written to a directory, with the remedy; None if its file system shows no reason."""
    found = os.statvfs(directory)
    if found.f_flag & os.ST_RDONLY:
        return f'"{directory}" is on a read-only file system; make it writable'
    if found.f_bavail == 0 or (found.f_files and found.f_favail == 0):
        return f'"{directory}" is on a full disk; free space on it'
    return None
