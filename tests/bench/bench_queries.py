"""
Measure how long readers wait for small questions to a large view, over one kept connection.

BENCH_FILES says how many files the view holds (400,000 unless told), 100 in each directory.
"""

import http.client
import queue
import random
import tempfile
import threading
from pathlib import Path

from bench_ingest import PER_DIRECTORY, make_batches, measure_store

from bench import Stopwatch, percentile, print_table, size
from fustor_fusion import FusionConfig, FusionServer
from fustor_fusion.schema import name_database

ASKED = 2_000


def main() -> None:
    """Fill a view, serve it, and ask."""
    files = size("BENCH_FILES", 400_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure_store(folder, list(make_batches(files)), name=name_database(folder, "p").name, epoch=1)
        server = FusionServer(FusionConfig(state_dir=folder, views=("p",), agent_key="a", reader_key="r", port=0))
        ports: queue.Queue[int] = queue.Queue()
        thread = threading.Thread(target=server.run, kwargs={"on_ready": ports.put})
        thread.start()
        try:
            measure(ports.get(), files)
        finally:
            server.stop()
            thread.join()


def measure(port: int, files: int) -> None:
    """Ask for random places and print the table."""
    directories = files // PER_DIRECTORY
    places = [random.randrange(directories) for _ in range(ASKED)]
    tops = [f"/d{place // 100:04d}" for place in places]
    below = [f"/d{place // 100:04d}/e{place % 100:02d}" for place in places]
    leaves = [f"{path}/file-{random.randrange(PER_DIRECTORY):05d}.dat" for path in below]
    questions = {
        "du of the root": ["du"] * ASKED,
        "du of a directory of 10,000 files": [f"du?path={path}" for path in tops],
        "metadata of a file": [f"metadata?path={path}" for path in leaves],
        "a page of 100 of 100 files": [f"tree?path={path}&max_depth=1&limit=100" for path in below],
        "search by ** in 100 files": [f"search?pattern={path}/**/*7.dat" for path in below],
        "du of a file": [f"du?path={path}" for path in leaves],
        "stats": ["stats"] * ASKED,
    }
    rows = []
    for title, paths in questions.items():
        times = ask(port, paths)
        rows.append((title, f"{percentile(times, 50) * 1e3:.2f}", f"{percentile(times, 99) * 1e3:.2f}"))
    print_table(f"{ASKED:,} questions each to a view of {files:,} files", ("question", "p50 ms", "p99 ms"), rows)


def ask(port: int, paths: list[str]) -> list[float]:
    """Return the seconds that each answer took."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times = []
    for path in paths:
        with Stopwatch() as watch:
            connection.request("GET", f"/api/v1/views/p/{path}", headers={"X-API-Key": "r"})
            with connection.getresponse() as response:
                if response.status != 200:
                    raise SystemExit(f"{path}: {response.status} {response.read()!r}")
                response.read()
        times.append(watch.s)
    connection.close()
    return times


if __name__ == "__main__":
    main()
