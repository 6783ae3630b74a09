"""The limits that the system sets to watching, compared with what is needed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fustor_source_fs.shards import SHARDS

_LIMITS: Final = Path("/proc/sys/fs/inotify")


def check(root: bytes) -> Sequence[str]:
    """
    Return one line for each privilege or limit that is missing.

    Args:
        root: The directory to be watched.
    """
    missing: list[str] = []
    if not os.access(root, os.R_OK | os.X_OK):
        missing.append(f"{os.fsdecode(root)} cannot be listed by this user; permit reading and searching it")
    try:
        watches = int((_LIMITS / "max_user_watches").read_text())
        instances = int((_LIMITS / "max_user_instances").read_text())
    except FileNotFoundError:
        return [*missing, "this kernel has no inotify, or /proc is not mounted"]
    if watches < 8192:
        missing.append(f"fs.inotify.max_user_watches is {watches}: at most that many directories can be watched")
    if instances < 8:
        missing.append(f"fs.inotify.max_user_instances is {instances}: each pipe takes up to {SHARDS}")
    return missing
