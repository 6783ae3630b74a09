"""
An agent on a large tree, from one run: snapshot beside a plain walk, memory, questions, a rename, a restart.

BENCH_FILES says how many files the tree has (1,000,000 unless told), 100 in each directory. Beside
them are one directory of 1,000 files, and one to be renamed, with a tenth as many files in 100 directories.
"""

import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from agents import MB, ask, measure_memory, read_cpu_s, wait_until

from agent import AgentFailed, AgentUnderTest
from bench import Stopwatch, make_tree, percentile, plain_walk, print_table, size

FILES_EACH = 100
WIDE = 1_000
ASKED = 300
RENAMES = 5
MILLION = 1_000_000

Row = tuple[object, ...]


def main() -> None:
    """Measure everything once and print the tables."""
    files = size("BENCH_FILES", MILLION)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        tree = folder / "tree"
        tree.mkdir()
        names = make_tree(tree / "many", directories=files // FILES_EACH, files_each=FILES_EACH) + 3
        names += make_tree(tree / "wide", directories=1, files_each=WIDE)
        names += make_tree(tree / "moved", directories=100, files_each=files // 1_000)
        agent = AgentUnderTest(folder / "home", watch=tree)
        with agent:
            rows = measure_snapshot(agent, tree, names)
            rows += measure_size(agent, names)
            rows += measure_questions(agent, files)
            rows.append(measure_rename(agent, tree))
        with agent:
            rows.append(measure_restart(agent))
    print_table(f"A tree of {names:,} names", ("what", "measured", "goal"), rows)


def measure_snapshot(agent: AgentUnderTest, tree: Path, names: int) -> list[Row]:
    """From the start of the scan to the commit of the last row, beside walks before and after it."""
    agent.wait_ready(within_s=600)
    with agent.query("stats", sync=60) as answer:
        stats = json.load(answer)
    if (found := stats["files"] + stats["directories"]) != names:
        raise SystemExit(f"the view holds {found:,} names, the tree {names:,}")
    used = {name: read_cpu_s(pid) for name, pid in agent.worker_pids().items()}
    begun = time.process_time()
    plain_walk(tree)
    of_walk = time.process_time() - begun
    walks, snapshots = [time_walk(tree)], [find_snapshots(agent)[0]]
    for number in (2, 3):
        walks.append(time_walk(tree))
        take_snapshot(agent, number)
        snapshots.append(find_snapshots(agent)[-1])
    walk, snapshot = sorted(walks)[1], snapshots[0]
    return [
        ("plain walk, os.scandir + lstat by path, names/s (median of 3)", f"{names / walk:,.0f}", ""),
        ("snapshot into an empty view, names/s", f"{names / snapshot:,.0f}", ">= 170,000"),
        ("the same in walks", f"{snapshot / walk:.2f}", "<= 1.5"),
        ("processor seconds of a walk per million names", f"{of_walk * MILLION / names:.1f}", ""),
        *((f"the same of {name} for its start and the snapshot", f"{seconds * MILLION / names:.1f}", "")
          for name, seconds in used.items() if name != "console"),
        ("snapshot of what the view holds already, names/s (of 2)", f"{names / min(snapshots[1:]):,.0f}", ""),
    ]


def time_walk(tree: Path) -> float:
    """Walk the tree once; returns the seconds."""
    with Stopwatch() as watch:
        plain_walk(tree)
    return watch.s


def take_snapshot(agent: AgentUnderTest, number: int) -> None:
    """Have a snapshot taken, which is the so-and-so-many-th, and wait for its end."""
    if agent.command("pipe", "snapshot", agent.view).returncode:
        raise SystemExit("the snapshot was not started")
    wait_until(lambda: len(find_snapshots(agent)) >= number, within_s=600)


def find_snapshots(agent: AgentUnderTest) -> list[float]:
    """Return the seconds of each finished snapshot, as the log says."""
    begun, taken = datetime.min, []
    for line in (agent.home / "logs" / "agent.log").read_text().splitlines():
        if "snapshot started" in line:
            begun = datetime.fromisoformat(line.split()[0])
        elif "snapshot accepted" in line:
            taken.append((datetime.fromisoformat(line.split()[0]) - begun).total_seconds())
    return taken


def measure_size(agent: AgentUnderTest, names: int) -> list[Row]:
    """Memory and disk afterwards, as for a million names."""
    memory = measure_memory(agent)
    disk = sum(path.stat().st_size for path in (agent.home / "state").glob("fusion-*.db*")) / MB
    share = MILLION / names
    return [
        ("PSS of all processes per million names, MB", f"{memory['all'] * share:.0f}", "<= 150"),
        *((f"PSS of {name}, MB", f"{pss:.1f}", "<= 40" if name.endswith(".source") else "")
          for name, pss in memory.items()),
        ("disk per million names, MB", f"{disk * share:.0f}", "<= 100"),
    ]


def measure_questions(agent: AgentUnderTest, files: int) -> list[Row]:
    """Ask small questions while a snapshot is taken, and large ones after it."""
    directories = files // FILES_EACH
    rows: list[Row] = []
    for title, goal_ms, question in (
        (f"tree of {WIDE:,} names while a snapshot is taken", 20, lambda: "tree?path=/wide/d000000&max_depth=1"),
        ("du of a subtree while a snapshot is taken", 5,
         lambda: random.choice(("du", "du?path=/many", f"du?path=/many/d{random.randrange(directories):06d}"))),
    ):
        times = ask_meanwhile(agent, question)
        rows.append((f"{title}, p50 / p99 ms ({len(times)} asked)",
                     f"{percentile(times, 50) * 1e3:.1f} / {percentile(times, 99) * 1e3:.1f}", f"p99 <= {goal_ms}"))
    for pattern in (f"*/d{directories // 2:06d}/f00009*", "f000042", "/many/**/*42"):
        took, body = min(ask(agent, f"search?pattern={pattern}") for _ in range(3))
        rows.append((f"search {pattern} ({len(json.loads(body)):,} found), s", f"{took:.2f}", "<= 0.5"))
    return rows


def ask_meanwhile(agent: AgentUnderTest, question: Callable[[], str]) -> list[float]:
    """Ask one question after the other while snapshots are taken; returns the seconds of each answer."""
    times: list[float] = []
    while len(times) < ASKED:
        snapshot = threading.Thread(target=take_snapshot, args=(agent, len(find_snapshots(agent)) + 1))
        snapshot.start()
        while snapshot.is_alive():
            times.append(ask(agent, question())[0])
        snapshot.join()
    return times


def measure_rename(agent: AgentUnderTest, tree: Path) -> Row:
    """Rename a large directory a few times; until the view has it at its new place only."""
    count = json.loads(ask(agent, "du?path=/moved")[1])["files"]
    pushed = count_pushed(agent)
    times = []
    for number in range(RENAMES):
        before, after = ("moved", "again") if number % 2 == 0 else ("again", "moved")
        with Stopwatch() as watch:
            os.rename(tree / before, tree / after)
            wait_until(lambda name=after: count_files(agent, f"/{name}") == count, within_s=120)  # type: ignore[misc]
            wait_until(lambda name=before: count_files(agent, f"/{name}") is None, within_s=120)  # type: ignore[misc]
        times.append(watch.s)
        with agent.query("stats", sync=120):
            pass
    rows = (count_pushed(agent) - pushed) / RENAMES
    what = f"rename of a directory of {count:,} files, s (median of {RENAMES}; {rows:,.0f} rows pushed for each)"
    return (what, f"{sorted(times)[RENAMES // 2]:.3f}", "<= 1")


def count_files(agent: AgentUnderTest, path: str) -> int | None:
    """Return how many files the view has below a path; None when it has no such path."""
    try:
        files: int = json.loads(ask(agent, f"du?path={path}")[1])["files"]
    except AgentFailed:
        return None
    return files


def count_pushed(agent: AgentUnderTest) -> int:
    """Return how many rows were pushed since the start."""
    return int(agent.status()["pipes"][0]["counters"]["pushed"])


def measure_restart(agent: AgentUnderTest) -> Row:
    """From the start of the program to the first answer about a file of the view; `agent` was just started."""

    def answers() -> bool:
        try:
            ask(agent, "metadata?path=/many/d000000/f000000")
        except (AgentFailed, OSError):
            return False
        return True

    return ("start of the program to the first answer, s", f"{wait_until(answers, within_s=60):.2f}", "<= 1")


if __name__ == "__main__":
    main()
