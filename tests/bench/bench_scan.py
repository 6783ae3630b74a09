"""
The source alone: a whole snapshot into a receiver that discards, and one that is only compared, beside a plain walk.

SCAN_FILES says how many files there are (300,000 unless told), 100 in each directory. What counts is the
processor time of this process, the least of a few rounds: of all measures it minds other work on the machine least.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import make_tree, plain_walk, print_table, size
from fustor_agent.outgoing import Outgoing
from fustor_core.clock import IndexClock
from fustor_core.drivers import SourceContext
from fustor_event_model import encode_items
from fustor_source_fs import FsConfig, FsSource

FILES_EACH = 100
ROUNDS = 5
BATCH_ROWS = 4_000
MILLION = 1_000_000


def main() -> None:
    """Scan the same tree again and again, each way in turn, and print what a name took."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tree = Path(folder) / "tree"
        directories = size("SCAN_FILES", 300_000) // FILES_EACH
        names = make_tree(tree, directories=directories, files_each=FILES_EACH)
        ways: dict[str, Callable[[], object]] = {
            "plain walk, os.scandir + lstat by path": lambda: plain_walk(tree),
            "snapshot, everything sent": lambda: scan(tree, compares=False),
            "snapshot, everything compared": lambda: scan(tree, compares=True),
        }
        rounds = [{what: measure(way) for what, way in ways.items()} for _ in range(ROUNDS)]
    took = {what: min(each[what] for each in rounds) for what in ways}
    walk = min(took.values())
    print_table(
        f"The source alone, {names:,} names in {directories:,} directories",
        ("what", "processor s per million names", "x the walk"),
        [(what, f"{s * MILLION / names:.2f}", f"{s / walk:.2f}") for what, s in took.items()],
    )


def measure(way: Callable[[], object]) -> float:
    """Return the processor time of this process for one way, seconds."""
    begun = time.process_time()
    way()
    return time.process_time() - begun


def scan(tree: Path, *, compares: bool) -> None:
    """Take a snapshot as a source worker does, for a receiver that takes everything and holds what it is asked for."""
    seed = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    context = SourceContext(pipe_id="p", clock=IndexClock(seed), state_dir=tree, max_pending=100_000)
    source = FsSource(FsConfig(uri=str(tree)), context)
    snapshot = source.get_comparing_iterator() if compares else source.get_snapshot_iterator()
    batch = Outgoing()
    for item in snapshot:
        if item is not None:
            batch.add(item)
        if item is None or batch.is_full(BATCH_ROWS):
            deliver(source, batch)
            batch = Outgoing()
    deliver(source, batch)
    source.close()


def deliver(source: FsSource, batch: Outgoing) -> None:
    """Encode a batch, as for the link, and have all of it acknowledged."""
    encode_items(batch.items)
    for position in batch.positions:
        source.acknowledge(position)


if __name__ == "__main__":
    main()
