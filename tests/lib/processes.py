"""Which processes run, whose they are, and how they end; read from /proc (man 5 proc)."""

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from waiting import until


def describe(pid: int) -> str:
    """Return pid and command line of a process, for a message."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"{pid} (gone)"
    return f"{pid} {b' '.join(words).decode(errors='replace').strip()}"


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def is_stopped(pid: int) -> bool:
    """Tell whether every thread of a process has been stopped by a signal."""
    return all(_stat(f"{pid}/task/{thread}")[:1] == ["T"] for thread in os.listdir(f"/proc/{pid}/task"))


def read_number(pid: int, file: str, field: str) -> int:
    """Return a number that the kernel has of a process, in a file of `field: number` lines like `status` or `io`."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/{file}").read_text().splitlines())
    return int(lines[field].split()[0])


def list_watched(pid: int) -> set[int]:
    """Return the inode numbers that a process watches by inotify, as the kernel has them."""
    found: set[int] = set()
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            lines = Path(f"/proc/{pid}/fdinfo/{name}").read_text().splitlines()
            watches = [dict(part.split(":", 1) for part in line.split()[1:]) for line in lines if "inotify " in line]
            found.update(int(watch["ino"], 16) for watch in watches)
    return found


def descendants(pid: int) -> set[int]:
    """Return the living processes below one; those whose parent is gone are not among them."""
    children: dict[int, list[int]] = {}
    for other in _all():
        fields = _stat(other)
        if fields:
            children.setdefault(int(fields[1]), []).append(other)
    found: set[int] = set()
    ahead = [pid]
    while ahead:
        below = children.get(ahead.pop(), [])
        ahead += below
        found.update(below)
    return {other for other in found if is_alive(other)}


def belonging_to(home: Path, sessions: Iterable[int] = ()) -> set[int]:
    """
    Return the living processes that work for one FUSTOR_HOME, whoever their parent is now.

    A process gives itself away by its environment, by a file that it holds open below the
    folder, or by its session: a process that changes its title may lose the first, one that
    makes a session of its own the last.

    Args:
        home: The folder.
        sessions: Ids of sessions that belong to it.
    """
    variable = b"FUSTOR_HOME=" + os.fsencode(home)
    wanted = {str(session) for session in sessions}
    found = set()
    for pid in _all():
        fields = _stat(pid)
        if pid == os.getpid() or not fields or not is_alive(pid):
            continue
        if fields[3] in wanted or variable in _environment(pid) or _holds_open(pid, home):
            found.add(pid)
    return found


def kill_all(pids: Iterable[int]) -> None:
    """Kill processes and wait until none of them runs."""
    killed = set(pids)
    for pid in killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(is_alive, killed)), within_s=10, what="killed processes to be gone")


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int | str) -> list[str]:
    """Return state, parent, group, session and so on; nothing if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []
    return text.rpartition(b")")[2].decode().split()  # the name before it may hold anything


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _holds_open(pid: int, home: Path) -> bool:
    below = f"{home}{os.sep}"
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                if os.readlink(descriptor.path).startswith(below):
                    return True
    return False
