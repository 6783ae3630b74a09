"""What the measurements share: trees to measure on, a stopwatch, a table."""

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path


def make_tree(root: Path, *, directories: int, files_each: int) -> int:
    """Fill a new directory with empty files; returns how many names there are."""
    root.mkdir()
    for number in range(directories):
        below = root / f"d{number:06d}"
        below.mkdir()
        handle = os.open(below, os.O_RDONLY | os.O_DIRECTORY)
        for name in range(files_each):
            os.close(os.open(f"f{name:06d}", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
        os.close(handle)
    return directories * (files_each + 1)


def plain_walk(root: Path) -> int:
    """Look once at every name, by path, as the shortest program would; returns how many there are."""
    count = 0
    ahead = [os.fspath(root)]
    while ahead:
        with os.scandir(ahead.pop()) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)
                count += 1
                if entry.is_dir(follow_symlinks=False):
                    ahead.append(entry.path)
    return count


class Stopwatch:
    """Measures a `with` block; `s` holds the seconds until now, or until its end."""

    def __enter__(self) -> "Stopwatch":
        self._start = time.perf_counter()
        self._end: float | None = None
        return self

    def __exit__(self, *error: object) -> None:
        self._end = time.perf_counter()

    @property
    def s(self) -> float:
        """Seconds since the start of the block."""
        return (self._end or time.perf_counter()) - self._start


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table as Markdown, columns aligned."""
    lines = [[*map(str, head)], *([*map(str, row)] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    print(f"\n{title}\n")
    for line in lines:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")


def size(variable: str, usual: int) -> int:
    """Return a size that an environment variable may change, for a shorter or a longer run."""
    return int(os.environ.get(variable, usual))
