"""What the kernel says of a process; None where there is no /proc or no permission."""

from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_STATES: Final = {
    "R": "it is busy",
    "S": "it is waiting",
    "T": "a signal has stopped it",
    "t": "a debugger has stopped it",
    "D": "it is in uninterruptible sleep, as on a mount that hangs",
}  # man 5 proc


def describe_process(pid: int) -> str | None:
    """Say what a process is doing: its first thread in uninterruptible sleep, or else its main thread."""
    tasks = _PROC / str(pid) / "task"
    try:
        states = {int(each.name): _read_state(each) for each in tasks.iterdir()}
    except (OSError, ValueError):
        return None
    thread = next((number for number, state in states.items() if state == "D"), pid)
    said = _STATES.get(states.get(thread, ""))
    if said is None:
        return None
    function = _read(tasks / str(thread) / "wchan")
    return f"{said} ({function})" if function and function != "0" else said


def measure_memory(pid: int) -> int | None:
    """Return how many bytes of memory a process has to itself or shares with its parent, files apart."""
    try:
        fields = dict(line.split(":", 1) for line in _read(_PROC / str(pid) / "status").splitlines())
        return int(fields["RssAnon"].split()[0]) * 1024  # in kB, man 5 proc
    except (OSError, KeyError, ValueError):
        return None


def _read_state(task: Path) -> str:
    # the name of the program, in parentheses, may hold anything
    return _read(task / "stat").rpartition(")")[2].split()[0]


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()
