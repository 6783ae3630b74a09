"""Our source with a receiver that discards: says `ready` once it has looked at all, then the path of each change."""

import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from fustor_core.clock import IndexClock
from fustor_core.drivers import Barrier, Item, SourceContext
from fustor_event_model import InsertEvent, SnapshotEnd, UpdateEvent
from fustor_source_fs import FsConfig, FsSource


def main(top: str) -> None:
    """Watch a directory until the process is ended."""
    seed = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    context = SourceContext(pipe_id="p", clock=IndexClock(seed), state_dir=Path(top), max_pending=100_000)
    source = FsSource(FsConfig(uri=top), context)
    messages, snapshot = source.get_message_iterator(), source.get_snapshot_iterator()
    is_ready = False
    while True:
        found = _take(source, islice(messages, 1_000))
        if is_ready:
            sys.stdout.buffer.writelines(
                item.prefix + row.path + b"\n"
                for item in found if isinstance(item, (InsertEvent, UpdateEvent)) for row in item.rows
            )
            sys.stdout.buffer.flush()
        else:
            taken = _take(source, islice(snapshot, 100))
            is_ready = any(isinstance(item, SnapshotEnd) for item in taken)
            if is_ready:
                print("ready", flush=True)
            found += taken
        if not found:
            source.wait(1.0)


def _take(source: FsSource, items: Iterator[Item | Barrier | None]) -> list[Item | Barrier]:
    """Take items until there are none at this moment, and acknowledge them."""
    found: list[Item | Barrier] = []
    for item in items:
        if item is None:
            break
        if not isinstance(item, Barrier) and item.position is not None:
            source.acknowledge(item.position)
        found.append(item)
    return found


if __name__ == "__main__":
    main(sys.argv[1])
