"""
Warm start: from starting the agent over a tree that its view holds already until the view is current.

WARM_FILES says how many files there are (500,000 unless told), 100 in each directory.
"""

import tempfile
from datetime import datetime
from pathlib import Path

import psutil

from agent import AgentUnderTest
from bench import Stopwatch, make_tree, plain_walk, print_table, size

FILES_EACH = 100
CHANGED_DIRECTORIES = 10


def main() -> None:
    """Start over the same tree again and again, and print what each start took and sent."""
    directories = size("WARM_FILES", 500_000) // FILES_EACH
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tree = Path(folder) / "tree"
        names = make_tree(tree, directories=directories, files_each=FILES_EACH)
        plain_walk(tree)  # fills the caches
        agent = AgentUnderTest(Path(folder) / "home", watch=tree)
        rows = [measure("the first start", agent, tree)]
        for _ in range(3):
            agent.stop()
            rows.append(measure("after a stop", agent, tree))
        agent.crash()
        rows.append(measure("after a kill -9 of all", agent, tree))
        agent.crash()
        for directory in sorted(tree.iterdir())[:CHANGED_DIRECTORIES]:
            next(directory.iterdir()).write_bytes(b"changed")
        rows.append(measure(f"{CHANGED_DIRECTORIES} files in as many directories changed", agent, tree))
        agent.stop()
    print_table(
        f"Start until current, {names:,} names in {directories:,} directories",
        ("what", "s", "scan s", "plain walk s", "x the walk", "rows sent", "rows compared", "CPU s source", "Fusion"),
        rows,
    )


def measure(what: str, agent: AgentUnderTest, tree: Path) -> tuple[object, ...]:
    """Start the agent and wait until its view is current, then walk the tree beside it."""
    with Stopwatch() as watch:
        agent.start()
        agent.wait_ready(within_s=600)
    (pipe,) = agent.status()["pipes"]
    snapshot = pipe["snapshot"]
    scan_s = find_snapshot_seconds(agent)
    used = {name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in agent.worker_pids().items()}
    with Stopwatch() as walk:
        plain_walk(tree)
    return (what, f"{watch.s:.2f}", f"{scan_s:.2f}", f"{walk.s:.2f}", f"{watch.s / walk.s:.2f}",
            f"{snapshot['rows']:,}", f"{snapshot['compared']:,}",
            *(f"{used[name]:.2f}" for name in ("watch.source", "fusion")))


def find_snapshot_seconds(agent: AgentUnderTest) -> float:
    """Return the seconds from the start of the last scan to the commit of its end, as the log says."""
    at = {}
    for line in (agent.home / "logs" / "agent.log").read_text().splitlines():
        for what in ("snapshot started", "snapshot accepted"):
            if what in line:
                at[what] = datetime.fromisoformat(line.split()[0])
    return (at["snapshot accepted"] - at["snapshot started"]).total_seconds()


if __name__ == "__main__":
    main()
