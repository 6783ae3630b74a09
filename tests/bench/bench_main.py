"""
An agent on a small tree, from one run: latency, memory, idle processor time.

BENCH_SECONDS says how long each rate of the latency run lasts (10 unless told).
"""

import http.client
import json
import os
import tempfile
import threading
import time
from pathlib import Path

from agents import measure_idle, measure_memory

from agent import AgentUnderTest
from bench import make_tree, percentile, print_table, size

RATES = (100, 1_000)
IDLE_S = 20


def main() -> None:
    """Measure everything once and print the tables."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        tree = folder / "small"
        make_tree(tree, directories=10, files_each=10)
        with AgentUnderTest(folder / "home", watch=tree) as agent:
            agent.wait_ready()
            idle = measure_idle(agent, for_s=IDLE_S)
            memory = measure_memory(agent)
            rows = [measure_latency(agent, tree, rate) for rate in RATES]
    print_table(
        "Close to queryable (goal: p50 5 ms, p99 25 ms)",
        ("files/s", "files", "p50 ms", "p90 ms", "p99 ms", "worst ms"), rows)
    print_table(
        f"On a small tree (goals: supervisor 15 MB, all 120 MB, all less than 1 % while idle for {IDLE_S} s)",
        ("process", "PSS MB", "% of a core"),
        [(name, f"{memory[name]:.1f}", f"{idle[name]:.2f}") for name in memory])


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


if __name__ == "__main__":
    main()
