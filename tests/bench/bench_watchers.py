"""
Our capture beside inotifywait, Watchman and the public agent 0.8.17, after one another, in one run and one table.

Environment: BENCH_BURST files at once (50,000), BENCH_RATES files per second (1000,5000,10000) for BENCH_SECONDS (30)
each, BENCH_FRESH files each in a fresh directory (2,000), BENCH_CRAWL names to start on (100000,1000000), BENCH_OUT
a file for the figures, from which plot_watchers.py draws. Those who cannot be installed are left out, and it is said.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from agents import read_cpu_s
from contestants import CONTESTANTS, Contestant, Inotifywait, PublicPair, Watchman, install_debian, measure_pss
from public_agent import REQUIREMENTS as PUBLIC_AGENT
from public_fusion import REQUIREMENTS as PUBLIC_FUSION
from released import NotInstallable, install
from writer import PER_DIRECTORY, Writer

from bench import Stopwatch, make_tree, percentile, print_table, size

FILES_EACH = 100
IDLE_S = 10
QUIET_S = 5.0
"""After so long without a further file, what is missing is lost."""
Figures = dict[str, str | float]


def main() -> None:
    """Measure everything once, print the table, and write the figures."""
    rates = read_sizes("BENCH_RATES", "1000,5000,10000")
    crawls = read_sizes("BENCH_CRAWL", "100000,1000000")
    figures: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        for files in crawls:
            make_tree(folder / f"crawl{files}", directories=files // FILES_EACH, files_each=FILES_EACH)
        for number, contestant in enumerate(find_contestants()):
            print(f"measuring {contestant.title}", flush=True)
            home = folder / f"home{number}"
            home.mkdir()
            figures[contestant.title] = measure(contestant, home, rates) | {
                key: value
                for files in crawls
                for key, value in measure_crawl(contestant, folder / f"crawl{files}", home, files).items()
            }
    if out := os.environ.get("BENCH_OUT"):
        Path(out).write_text(json.dumps(figures, indent=1))
    names = list(dict.fromkeys(key for each in figures.values() for key in each))
    print_table(
        f"Side by side (load {os.getloadavg()[0]:.1f})",
        ("what", *figures),
        [(name, *(show(each.get(name, "")) for each in figures.values())) for name in names])


def find_contestants() -> Iterator[type[Contestant]]:
    """Yield those that can be had; say which cannot."""
    has_debian = install_debian("inotify-tools", "watchman")
    try:
        install("public-agent", PUBLIC_AGENT)
        install("public-fusion", PUBLIC_FUSION)
        has_public = True
    except NotInstallable as err:
        print(f"left out: the public agent and Fusion cannot be had: {err}")
        has_public = False
    for contestant in CONTESTANTS:
        if contestant in (Inotifywait, Watchman) and not has_debian:
            print(f"left out: {contestant.title}; install it by `apt-get install inotify-tools watchman` as root")
        elif contestant is not PublicPair or has_public:
            yield contestant


@contextmanager
def started(contestant: type[Contestant], tree: Path, home: Path) -> Iterator[Contestant]:
    """Have one run on a tree for the time of a `with` block."""
    one = contestant(tree, home)
    one.start()
    try:
        yield one
    finally:
        one.stop()


def measure(contestant: type[Contestant], home: Path, rates: Sequence[int]) -> Figures:
    """Measure what one tells of what happens, on a small tree."""
    tree, report = home / "tree", home / "report"
    seconds, burst, fresh = size("BENCH_SECONDS", 30), size("BENCH_BURST", 50_000), size("BENCH_FRESH", 2_000)
    # The directories are there before it starts: what is lost in new ones is measured apart.
    places = {rate: make_places(tree / f"d-rate{rate}", rate * seconds) for rate in rates}
    burst_places, fresh_places = make_places(tree / "d-burst", burst), make_places(tree / "d-fresh", 1)
    figures: Figures = {}
    with started(contestant, tree, home / "small") as one:
        before = sum(map(read_cpu_s, one.pids()))
        time.sleep(IDLE_S)
        figures["idle, % of a core"] = 100 * (sum(map(read_cpu_s, one.pids())) - before) / IDLE_S
        for rate in rates:
            lost, late = follow(one, partial(Writer, places[rate], rate * seconds, rate, report), rate * seconds)
            figures[f"{rate:,}/s: lost, %"] = lost
            for share in (50, 99):
                figures[f"{rate:,}/s: close to told, p{share} ms"] = percentile(late, share) if late else "none"
            figures[f"{rate:,}/s: the last, ms"] = late[-1] if late else "none"
        lost, late = follow(one, partial(Writer, burst_places, burst, 0, report), burst)
        figures[f"burst of {burst:,}: lost, %"] = lost
        figures[f"burst of {burst:,}: last close to last told, s"] = late[-1] / 1000 if late else "none"
        lost, _ = follow(one, partial(Writer, fresh_places, fresh, 0, report, fresh=True), fresh)
        figures[f"{fresh:,} files, each in fresh directories: lost, %"] = lost
        figures["memory after that, MB"] = measure_pss(one.pids())
    return figures


def make_places(top: Path, count: int) -> list[Path]:
    """Make the directories for so many files."""
    places = [top / f"d{number}" for number in range(-(-count // PER_DIRECTORY))]
    for each in places:
        each.mkdir(parents=True)
    return places


def follow(one: Contestant, write: Callable[[], Writer], count: int) -> tuple[float, list[float]]:
    """
    Have files written and see when one tells of them.

    Returns:
        Percent of the files that it never told of, and how late it told of each other, milliseconds: of the
        number n of those that it told of after the number n of those that were closed.
    """
    base = one.count()
    writer = write()
    told: list[float] = []
    changed = time.monotonic()
    while len(told) < count and (writer.runs() or time.monotonic() - changed < QUIET_S):
        visible = one.count() - base
        if visible > len(told):
            changed = time.monotonic()
            told += [changed] * (visible - len(told))
        time.sleep(0.001)
    closed = writer.finish()
    late = [max(0.0, seen - at) * 1000 for seen, at in zip(told, closed, strict=False)]
    return 100 * (count - min(count, len(told))) / count, late


def measure_crawl(contestant: type[Contestant], tree: Path, home: Path, files: int) -> Figures:
    """Start one on a large tree that is in the caches."""
    subprocess.run(["find", tree, "-size", "+1"], stdout=subprocess.DEVNULL, check=True)
    with Stopwatch() as watch, started(contestant, tree, home / f"crawl{files}") as one:
        took = watch.s
        return {
            f"start on {files:,} files, s": took,
            f"start on {files:,} files, processor s": sum(map(read_cpu_s, one.pids())),
            f"memory with {files:,} files, MB": measure_pss(one.pids()),
        }


def read_sizes(variable: str, usual: str) -> list[int]:
    """Return the sizes that an environment variable lists, if it does."""
    return [int(each) for each in os.environ.get(variable, usual).split(",") if each]


def show(value: str | float) -> str:
    """Return a figure with three digits at least."""
    return value if isinstance(value, str) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
