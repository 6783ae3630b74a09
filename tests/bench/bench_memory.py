"""
Memory of the source: on an empty tree, with many directories, and with many files in them.

MEMORY_FILES says how many files there are (1,000,000 unless told), 20 in each directory.
"""

import tempfile
from pathlib import Path
from typing import NamedTuple

from agents import MB, measure_memory

from agent import AgentUnderTest
from bench import make_tree, print_table, size
from processes import read_number

FILES_EACH = 20
MILLION = 1_000_000
GOAL_MB = 80


class Measured(NamedTuple):
    """The source's memory in bytes: PSS when the view was current, and the most that was resident until then."""

    pss: float
    peak: int


def main() -> None:
    """Start an agent on each tree, the next one larger, and print what its source took."""
    files = size("MEMORY_FILES", MILLION)
    directories = files // FILES_EACH
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        make_tree(folder / "empty", directories=0, files_each=0)
        make_tree(folder / "bare", directories=directories, files_each=0)
        make_tree(folder / "full", directories=directories, files_each=FILES_EACH)
        empty, bare, full = (measure(folder / tree, folder / f"{tree}-home") for tree in ("empty", "bare", "full"))
    print_table(
        f"Memory of the source, {files:,} files in {directories:,} directories",
        ("what", "measured", "goal"),
        [
            ("PSS, MB", f"{full.pss / MB:.1f}", f"<= {GOAL_MB}"),
            ("the most that was resident, shared pages counted whole, MB", f"{full.peak / MB:.1f}", ""),
            ("PSS on an empty tree, MB", f"{empty.pss / MB:.1f}", ""),
            ("PSS with the directories and no files, MB", f"{bare.pss / MB:.1f}", ""),
            ("PSS per watched directory, of both, bytes", f"{(bare.pss - empty.pss) / directories:,.0f}", ""),
        ],
    )


def measure(tree: Path, home: Path) -> Measured:
    """Start an agent on a tree, and say what its source takes when the view is current."""
    with AgentUnderTest(home, watch=tree) as agent:
        agent.wait_ready(within_s=600)
        peak_kb = read_number(agent.worker_pids()["watch.source"], "status", "VmHWM")
        return Measured(measure_memory(agent)["watch.source"] * MB, peak_kb * 1024)


if __name__ == "__main__":
    main()
