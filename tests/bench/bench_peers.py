"""
Our agent and Fusion beside the public agent and Fusion 0.8.17, on one tree, after one another.

From the start of both programs until every file can be queried. BENCH_PEER_FILES says how many
files the tree has (100,000 unless told: the public ones need minutes for a million), 100 in each directory.
"""

import json
import tempfile
from pathlib import Path

from agents import wait_until
from public_agent import PublicAgent
from public_fusion import PublicFusion
from released import NotInstallable

from agent import AgentUnderTest
from bench import Stopwatch, make_tree, plain_walk, print_table, size

WITHIN_S = 1_800


def main() -> None:
    """Measure both and print the table."""
    files = size("BENCH_PEER_FILES", 100_000)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        make_tree(folder / "tree", directories=files // 100, files_each=100)
        plain_walk(folder / "tree")  # fills the caches, so that both read from them
        try:
            public = measure_public(folder, files)
        except NotInstallable as err:
            print(f"\nThe public agent and Fusion cannot be had: {err}")
            return
        ours = measure_ours(folder, files)
    print_table(
        f"Start of the programs to {files:,} files queryable",
        ("what", "s", "files/s", "times the public ones (goal: 6)"),
        [
            ("public agent + Fusion 0.8.17", f"{public:.2f}", f"{files / public:,.0f}", "1.0"),
            ("this agent with its Fusion", f"{ours:.2f}", f"{files / ours:,.0f}", f"{public / ours:.1f}"),
        ])


def measure_public(folder: Path, files: int) -> float:
    """Return the seconds that the public ones take."""
    with Stopwatch() as watch:
        fusion = PublicFusion(folder / "public-fusion").start()
        agent = PublicAgent(folder / "public-agent", tree=folder / "tree", endpoint=fusion.endpoint,
                            key=fusion.push_key, audit_interval_s=86_400)
        try:
            agent.start()
            wait_until(lambda: (fusion.query("stats") or {}).get("total_files") == files, within_s=WITHIN_S)
            return watch.s
        finally:
            agent.stop()
            fusion.stop()


def measure_ours(folder: Path, files: int) -> float:
    """Return the seconds that ours take."""
    with Stopwatch() as watch, AgentUnderTest(folder / "home", watch=folder / "tree") as agent:
        agent.wait_ready(within_s=WITHIN_S)
        with agent.query("stats") as answer:
            if json.load(answer)["files"] != files:
                raise SystemExit("the view does not hold the tree")
        return watch.s


if __name__ == "__main__":
    main()
