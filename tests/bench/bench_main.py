"""
The main figures, from one run: snapshot beside a plain walk, latency, memory, idle processor time.

BENCH_FILES says how many files the large tree has (1,000,000 unless told), 100 in each
directory; BENCH_SECONDS how long each rate of the latency run lasts (10 unless told).
"""

import http.client
import json
import os
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import psutil

from agent import AgentUnderTest
from bench import Stopwatch, make_tree, percentile, plain_walk, print_table, size

FILES_EACH = 100
RATES = (100, 1_000)
IDLE_S = 20


def main() -> None:
    """Measure everything once and print the tables."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        measure_small(Path(folder))
        measure_large(Path(folder))


def measure_large(folder: Path) -> None:
    """Snapshot of a large tree end to end, and what memory it leaves."""
    tree = folder / "large"
    directories = size("BENCH_FILES", 1_000_000) // FILES_EACH
    names = make_tree(tree, directories=directories, files_each=FILES_EACH)
    plain_walk(tree)  # fills the caches, so that both measure the same thing
    walks = []
    for _ in range(3):
        with Stopwatch() as watch:
            plain_walk(tree)
        walks.append(watch.s)
    with AgentUnderTest(folder / "home-large", watch=tree) as agent:
        agent.wait_ready(within_s=600)
        taken = find_snapshot_seconds(agent)
        with agent.query("stats") as answer:
            stats = json.load(answer)
        found = stats["files"] + stats["directories"]
        if found != names:
            raise SystemExit(f"the view holds {found:,} names, the tree {names:,}")
        memory = measure_memory(agent)
        database = sum(path.stat().st_size for path in (agent.home / "state").glob("fusion-*.db*"))
    walk = sorted(walks)[1]
    print_table(
        f"Snapshot of {names:,} names in {directories:,} directories",
        ("what", "s", "names/s", "x the walk"),
        [
            ("os.scandir + lstat, one thread (median of 3)", f"{walk:.2f}", f"{names / walk:,.0f}", "1.00"),
            ("start of scan to last row queryable", f"{taken:.2f}", f"{names / taken:,.0f}", f"{taken / walk:.2f}"),
        ],
    )
    print_table("Memory afterwards", ("process", "PSS MB"), memory)
    print(f"\ndatabase on disk: {database / 1e6:.0f} MB")


def measure_small(folder: Path) -> None:
    """Latency, memory and idle processor time of an agent on a small tree."""
    tree = folder / "small"
    make_tree(tree, directories=10, files_each=10)
    with AgentUnderTest(folder / "home-small", watch=tree) as agent:
        agent.wait_ready()
        idle = measure_idle(agent)
        memory = measure_memory(agent)
        rows = [measure_latency(agent, tree, rate) for rate in RATES]
    print_table("Close to queryable", ("files/s", "files", "p50 ms", "p90 ms", "p99 ms", "worst ms"), rows)
    print_table("Memory on a small tree", ("process", "PSS MB"), memory)
    print_table(f"Processor time while idle, {IDLE_S} s", ("process", "% of a core"), idle)


def find_snapshot_seconds(agent: AgentUnderTest) -> float:
    """Return the seconds from the start of the scan to the commit of the last row, as the log says."""
    at = {}
    for line in (agent.home / "logs" / "agent.log").read_text().splitlines():
        for what in ("snapshot started", "snapshot accepted"):
            if what in line:
                at.setdefault(what, datetime.fromisoformat(line.split()[0]))
    return (at["snapshot accepted"] - at["snapshot started"]).total_seconds()


def measure_latency(agent: AgentUnderTest, tree: Path, rate: int) -> tuple[object, ...]:
    """Write files of one byte at a rate and note for each when the view's total first held its byte."""
    count = rate * size("BENCH_SECONDS", 10)
    below = tree / f"rate{rate}"
    below.mkdir()
    with agent.query("stats", sync=30) as answer:
        base = json.load(answer)["bytes"]
    closed: list[float] = []
    writer = threading.Thread(target=write_files, args=(below, rate, count, closed))
    seen: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", agent.fusion_port, timeout=30)
    key = agent.reader_key()
    writer.start()
    while len(seen) < count:
        connection.request("GET", f"/api/v1/views/{agent.view}/stats", headers={"X-API-Key": key})
        visible = json.loads(connection.getresponse().read())["bytes"] - base
        now = time.perf_counter()
        seen += [now] * (visible - len(seen))
        time.sleep(0.0005)
    writer.join()
    connection.close()
    taken = [(late - early) * 1000 for late, early in zip(seen, closed, strict=True)]
    cuts = [percentile(taken, share) for share in (50, 90, 99)]
    return (f"{rate:,}", f"{count:,}", *(f"{cut:.1f}" for cut in cuts), f"{max(taken):.1f}")


def write_files(below: Path, rate: int, count: int, closed: list[float]) -> None:
    """Create files at an even pace and note when each was closed."""
    begun = time.perf_counter()
    for number in range(count):
        ahead = begun + number / rate - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        descriptor = os.open(below / f"f{number:06d}", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"x")
        os.close(descriptor)
        closed.append(time.perf_counter())


def measure_memory(agent: AgentUnderTest) -> list[tuple[object, ...]]:
    """Return the PSS of each process, and their sum."""
    found = [(name, psutil.Process(pid).memory_full_info().pss) for name, pid in find_processes(agent).items()]
    return [*((name, f"{pss / 1e6:.1f}") for name, pss in found), ("all", f"{sum(pss for _, pss in found) / 1e6:.1f}")]


def measure_idle(agent: AgentUnderTest) -> list[tuple[object, ...]]:
    """Return the processor time that each process uses while nothing happens."""
    time.sleep(5)  # what starting left to do is over by then
    pids = find_processes(agent)
    before = {name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in pids.items()}
    time.sleep(IDLE_S)
    used = {name: sum(psutil.Process(pid).cpu_times()[:2]) - before[name] for name, pid in pids.items()}
    shares = [(name, 100 * seconds / IDLE_S) for name, seconds in used.items()]
    return [*((name, f"{share:.2f}") for name, share in shares), ("all", f"{sum(share for _, share in shares):.2f}")]


def find_processes(agent: AgentUnderTest) -> dict[str, int]:
    """Return the pids of the supervisor and its workers."""
    assert agent.process is not None
    return {"supervisor": agent.process.pid, **agent.worker_pids()}


if __name__ == "__main__":
    main()
