"""Create files of one byte in a process of its own, and note when each was closed."""

import array
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PER_DIRECTORY = 1_000


class Writer:
    """
    Begins to write at once.

    Args:
        below: Directories that are there; they are filled in turn, a thousand files each.
        count: How many files.
        rate: In a second; 0 is as fast as they come.
        report: A file for what it noted.
        fresh: Each file gets three new directories of its own, made right before it.
    """

    def __init__(self, below: Sequence[Path], count: int, rate: float, report: Path, *, fresh: bool = False) -> None:
        self._report = report
        words = [str(count), str(rate), str(report), str(int(fresh)), *map(str, below)]
        self._process = subprocess.Popen([sys.executable, __file__, *words])

    def runs(self) -> bool:
        """Tell whether it is not done yet."""
        return self._process.poll() is None

    def finish(self) -> Sequence[float]:
        """Wait for its end; returns when each file was closed, seconds of `time.monotonic`."""
        if self._process.wait() != 0:
            raise SystemExit("the writer failed")
        return array.array("d", self._report.read_bytes())


def main(count: int, rate: float, report: Path, fresh: bool, below: Sequence[str]) -> None:
    """Write; see `Writer`."""
    closed = array.array("d")
    begun = time.monotonic()
    for number in range(count):
        ahead = begun + number / rate - time.monotonic() if rate else 0
        if ahead > 0:
            time.sleep(ahead)
        place = below[number // PER_DIRECTORY % len(below)]
        if fresh:
            place = f"{place}/d{number}/d/d"
            os.makedirs(place)
        descriptor = os.open(f"{place}/f{number:07d}", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"x")
        os.close(descriptor)
        closed.append(time.monotonic())
    report.write_bytes(closed.tobytes())


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "1", sys.argv[5:])
