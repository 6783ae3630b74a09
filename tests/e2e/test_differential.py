"""
Several processes change a tree at random while faults are injected; after each round the view is the tree.

Whatever a round finds is printed with its seed, its fault and what each writer did last.
"""

import contextlib
import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import AgentFailed, AgentUnderTest
from oracle import Entry, differences, misplaced, walk
from treeops import RandomTree, show_links
from waiting import until

_WRITERS = 3
_STEPS = 60
_WORKERS = ("watch.source", "watch.pusher", "fusion")
_process = multiprocessing.get_context("fork").Process
_QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


class Differential:
    """
    An agent on a random tree.

    Args:
        agent: Watches the top.
        top: Holds `random`, the writers', and `burst`, which they cannot reach.
        outside: A directory to move things from and to.
        seed: Decides what the writers do, and whom the faults hit.
    """

    def __init__(self, agent: AgentUnderTest, top: Path, outside: Path, seed: int) -> None:
        self._agent = agent
        self._top = top
        self._outside = outside
        self._seed = seed
        self._rng = random.Random(seed)
        self._overflows = 0
        self._linked: set[int] = set()
        self.faults: dict[str, Callable[[], None]] = {
            "nothing": lambda: None,
            "kill": self._kill,
            "stop and go on": self._stop_and_go_on,
            "overflow": self._overflow,
        }

    def run(self, number: int, fault: str) -> None:
        """Let the writers write, inject the fault meanwhile, and compare."""
        reports = [self._outside.parent / f"writer{each}" for each in range(_WRITERS)]
        writers = [
            _process(target=_write, args=(self._top / "random", self._outside, f"{self._seed}-{number}-{each}", report))
            for each, report in enumerate(reports)
        ]
        for writer in writers:
            writer.start()
        self.faults[fault]()
        for writer in writers:
            writer.join()
        context = f"seed {self._seed}, round {number}, {fault}"
        assert [writer.exitcode for writer in writers] == [0] * _WRITERS, context
        written = [json.loads(report.read_text()) for report in reports]
        self._linked.update(*(each["linked"] for each in written))
        show_links(bytes(self._top), self._linked)
        found = self._compare(context)
        assert not found, "\n".join([context, *found, *(line for each in written for line in each["log"])])
        until(lambda: self._count("overflows") >= self._overflows, within_s=60, what="the overflow to be counted")
        assert self._count("lost") == 0, context

    def _compare(self, context: str) -> list[str]:
        view = until(self._export, within_s=120, what=f"an answer; {context}")
        assert view is not None
        self._agent.wait_ready(120)
        assert not misplaced(view), context
        return differences(walk(bytes(self._top)), view)

    def _export(self) -> dict[bytes, Entry] | None:
        try:
            return self._agent.export(sync=60)
        except (OSError, AgentFailed):
            return None  # whoever was killed may not be replaced yet, and what it covered not be covered again

    def _count(self, counter: str) -> int:
        return int(self._agent.status()["pipes"][0]["counters"][counter])

    def _kill(self) -> None:
        self._signal(self._rng.choice(_WORKERS), signal.SIGKILL)

    def _stop_and_go_on(self) -> None:
        """Whoever is stopped goes on before it counts as stuck; what happens meanwhile waits."""
        with self._stopped(self._rng.choice(_WORKERS)):
            self._agent.readyz()

    def _overflow(self) -> None:
        """Make more records in one directory than the kernel queues while the source cannot read them."""
        before = self._count("overflows")
        with self._stopped("watch.source") as pid:
            for number in range(_QUEUE // 2 + 1):
                os.close(os.open(self._top / "burst" / f"{number % 7}", os.O_CREAT | os.O_WRONLY))
                os.unlink(self._top / "burst" / f"{number % 7}")
        if self._agent.worker_pids().get("watch.source") == pid:
            self._overflows = before + 1

    @contextlib.contextmanager
    def _stopped(self, worker: str) -> Iterator[int]:
        pid = self._signal(worker, signal.SIGSTOP)
        try:
            yield pid
        finally:
            with contextlib.suppress(ProcessLookupError):  # on a busy machine it may have counted as stuck
                os.kill(pid, signal.SIGCONT)

    def _signal(self, worker: str, which: int) -> int:
        return until(lambda: self._try_to_signal(worker, which), within_s=60, what=f"{worker} to run") or 0

    def _try_to_signal(self, worker: str, which: int) -> int | None:
        try:
            return self._agent.kill(worker, which)
        except (KeyError, ProcessLookupError, OSError, AgentFailed):
            return None  # it is being replaced, after the fault before


def _write(inside: Path, outside: Path, seed: str, report: Path) -> None:
    tree = RandomTree(inside, outside, random.Random(seed))
    for _ in range(_STEPS):
        tree.step()
    report.write_text(json.dumps({"log": tree.log[-20:], "linked": list(tree.linked)}))


@pytest.fixture
def differential(tmp_path: Path, start_agent: Callable[..., AgentUnderTest]) -> Differential:
    top, outside = tmp_path / "in", tmp_path / "out"
    for each in (top / "random", top / "burst", outside):
        each.mkdir(parents=True)
    agent = start_agent(watch=top)
    agent.wait_ready()
    return Differential(agent, top, outside, random.randrange(1 << 30))


def test_a_few_rounds_with_every_fault_find_no_difference(differential: Differential) -> None:
    for number, fault in enumerate(differential.faults):
        differential.run(number, fault)


@pytest.mark.chaos
@pytest.mark.timeout(4 * 3600)
def test_five_hundred_rounds_find_no_difference(differential: Differential) -> None:
    """CHAOS_ROUNDS says how many rounds (500 unless told)."""
    faults = list(differential.faults)
    for number in range(int(os.environ.get("CHAOS_ROUNDS", "500"))):
        differential.run(number, faults[number % len(faults)])
