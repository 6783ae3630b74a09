"""
How long from the end of a change to its appearance in the view, asked for with `sync`.

BENCH_CHANGES says how many changes (200 unless told).
"""

import statistics
import tempfile
from pathlib import Path

from agent import AgentUnderTest
from bench import Stopwatch, make_tree, print_table, size


def main() -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tree = Path(folder) / "tree"
        make_tree(tree, directories=1, files_each=10)
        taken = []
        with AgentUnderTest(Path(folder) / "home", watch=tree) as agent:
            agent.wait_ready()
            for number in range(size("BENCH_CHANGES", 200)):
                (tree / f"new-{number}").write_bytes(b"x")
                with Stopwatch() as watch:
                    view = agent.export()
                if f"/new-{number}".encode() not in view:
                    raise SystemExit(f"new-{number} is not in the view although it was synced")
                taken.append(watch.s * 1000)
    cuts = statistics.quantiles(taken, n=100)
    print_table(
        f"Change to view, {len(taken)} single changes, whole export each",
        ("p50 ms", "p90 ms", "p99 ms", "worst ms"),
        [(f"{cuts[49]:.1f}", f"{cuts[89]:.1f}", f"{cuts[98]:.1f}", f"{max(taken):.1f}")],
    )


if __name__ == "__main__":
    main()
