"""
Measure supervision beside supervisord and circus: restart, detection, orphans, memory, wake-ups, many workers.

Run: PYTHONPATH=tests/lib:tests/peers python tests/bench/bench_supervision.py
"""

import os
import re
import select
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from supervisors import Circus, Ours, Supervised, Supervisord

from bench import Stopwatch, print_table, size
from processes import descendants, is_alive, kill_all

FEW: Final = 5
MANY: Final = size("BENCH_WORKERS", 1_000)
IDLE_S: Final = float(size("BENCH_IDLE_S", 30))
NOTICED_WITHIN_S: Final = float(size("BENCH_NOTICED_WITHIN_S", 60))
ALL: Final[tuple[type[Supervised], ...]] = (Ours, Supervisord, Circus)


class Running:
    """A supervisor whose workers are ready; everything is killed at the end."""

    def __init__(self, kind: type[Supervised], count: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="supervision-")
        with Stopwatch() as watch:
            self.supervised = kind(Path(self._folder.name), count)
            self._seen: set[int] = set()
            self.workers = [self.supervised.take_ready() for _ in range(count)]
        self.start_s = watch.s

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *error: object) -> None:
        kill_all(descendants(self.supervised.process.pid) | set(self.workers))
        self.supervised.close()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self.supervised.process.pid

    def wait_ready(self, within_s: float) -> int | None:
        """Return the pid of the next worker that becomes ready; None if none does."""
        if not select.select([self.supervised], [], [], within_s)[0]:
            return None
        self.workers.append(pid := self.supervised.take_ready())
        return pid


def measure_restart(kind: type[Supervised]) -> str:
    """Kill each worker once, after all have run for long enough to count as started."""
    with Running(kind, FEW) as running:
        time.sleep(3)
        times = []
        for pid in running.workers[:FEW]:
            with Stopwatch() as watch:
                os.kill(pid, signal.SIGKILL)
                if running.wait_ready(NOTICED_WITHIN_S) is None:
                    return "never"
            times.append(watch.s)
        return f"{statistics.median(times):.3f} s (longest {max(times):.3f})"


def measure_detection(kind: type[Supervised], number: signal.Signals) -> str:
    """Have one worker do nothing of use any more; until another is ready in its place."""
    with Running(kind, FEW) as running, Stopwatch() as watch:
        os.kill(running.workers[0], number)
        return f"{watch.s:.1f} s" if running.wait_ready(NOTICED_WITHIN_S) else f"not within {NOTICED_WITHIN_S:.0f} s"


def count_orphans(kind: type[Supervised]) -> str:
    """Kill the supervisor and look who lives a second later."""
    with Running(kind, FEW) as running:
        os.kill(running.pid, signal.SIGKILL)
        running.supervised.process.wait()
        time.sleep(1)
        return f"{sum(is_alive(pid) for pid in running.workers)} of {FEW}"


def measure_idle(kind: type[Supervised]) -> tuple[str, str, str]:
    """Return proportional and private memory of the supervisor, and how often it wakes up."""
    with Running(kind, FEW) as running:
        time.sleep(5)
        before = count_wakeups(running.pid)
        time.sleep(IDLE_S)
        wakeups = (count_wakeups(running.pid) - before) / IDLE_S
        rollup = Path(f"/proc/{running.pid}/smaps_rollup").read_text()
        sizes = {name: int(kib) for name, kib in re.findall(r"^(\w+): +(\d+) kB$", rollup, re.MULTILINE)}
        private = sizes["Private_Clean"] + sizes["Private_Dirty"]
        return f"{sizes['Pss'] / 1024:.1f} MiB", f"{private / 1024:.1f} MiB", f"{wakeups:.2f}"


def count_wakeups(pid: int) -> int:
    """Return how often the threads of a process have gone to sleep until now."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", (task / "status").read_text(), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total


def measure_many(kind: type[Supervised]) -> str:
    """Start many workers; until the last is ready."""
    with Running(kind, MANY) as running:
        return f"{running.start_s:.1f} s"


def main() -> None:
    """Measure all, one after the other, and print the table."""
    columns = []
    for kind in ALL:
        pss, private, wakeups = measure_idle(kind)
        columns.append(
            [
                measure_restart(kind),
                measure_detection(kind, signal.SIGSTOP),
                measure_detection(kind, signal.SIGUSR1),
                count_orphans(kind),
                pss,
                private,
                wakeups,
                measure_many(kind),
            ]
        )
    rows = (
        "SIGKILL until the replacement is ready, median",
        "SIGSTOP until the replacement is ready",
        "endless loop until the replacement is ready",
        "workers alive 1 s after SIGKILL of the supervisor",
        "memory of the supervisor, proportional (PSS)",
        "memory of the supervisor, private",
        "wake-ups of the idle supervisor per second",
        f"start until {MANY:,} workers are ready",
    )
    head = (f"{FEW} workers", *(kind.name for kind in ALL))
    print_table("Supervision", head, list(zip(rows, *columns, strict=True)))


if __name__ == "__main__":
    main()
