"""
How long until the view equals a tree that the agent has never seen, beside a plain walk.

BENCH_FILES says how many files (100,000 unless told).
"""

import tempfile
from pathlib import Path

import oracle
from agent import AgentUnderTest
from bench import Stopwatch, make_tree, plain_walk, print_table, size

FILES_EACH = 100


def main() -> None:
    """Measure once and print the table."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tree = Path(folder) / "tree"
        names = make_tree(tree, directories=size("BENCH_FILES", 100_000) // FILES_EACH, files_each=FILES_EACH)
        plain_walk(tree)  # fills the caches, so that both measure the same thing
        with Stopwatch() as walk:
            plain_walk(tree)
        with Stopwatch() as ready, AgentUnderTest(Path(folder) / "home", watch=tree) as agent:
            agent.wait_ready(within_s=600)
            ready_s = ready.s
            with Stopwatch() as export:
                view = agent.export()
        found = oracle.differences(oracle.walk(str(tree)), view)
    rows = [
        ("plain walk", f"{walk.s:.2f}", f"{names / walk.s:,.0f}", "1.0"),
        ("agent, start to ready", f"{ready_s:.2f}", f"{names / ready_s:,.0f}", f"{ready_s / walk.s:.1f}"),
        ("export with sync", f"{export.s:.2f}", f"{names / export.s:,.0f}", f"{export.s / walk.s:.1f}"),
    ]
    print_table(f"Snapshot of {names:,} names", ("what", "s", "names/s", "x the walk"), rows)
    if found:
        raise SystemExit("the view is not the tree:\n" + "\n".join(found))


if __name__ == "__main__":
    main()
