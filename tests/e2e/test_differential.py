"""
Several processes change a tree at random while faults are injected; after each round the view is the tree.

Whatever a round finds is printed with its seed, its fault and what each writer did last. A fault that this
machine does not permit, or for which a library cannot be had, is left out.
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
from faketime import StepClock, find_faketime
from released import NotInstallable

from agent import AgentFailed, AgentUnderTest
from configfile import write_config
from namespaces import limit_inotify, unshare_limits, wrap_agent
from oracle import Entry, differences, misplaced, walk
from treeops import RandomTree, show_links
from waiting import until

_WRITERS = 3
_STEPS = 60
_WORKERS = ("watch.source", "watch.pusher", "fusion")
_process = multiprocessing.get_context("fork").Process
_QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
_PLENTY = 1_000_000
_STEPS_OF_THE_CLOCK_S = (-86_400, -3_600, -1, 0, 1, 3_600, 86_400)


class Differential:
    """
    An agent on a random tree.

    Args:
        agent: Watches the top.
        top: Holds `random`, the writers', and `burst`, which they cannot reach.
        outside: A directory to move things from and to.
        seed: Decides what the writers do, and whom the faults hit.
        clock: What the agent goes by; None if it is the machine's.
        has_limits: The agent's limits of inotify are its own.
    """

    def __init__(
        self, agent: AgentUnderTest, top: Path, outside: Path, seed: int, *, clock: StepClock | None, has_limits: bool
    ) -> None:
        self._agent = agent
        self._top = top
        self._outside = outside
        self._seed = seed
        self._clock = clock
        self._rng = random.Random(seed)
        self._owed_overflows: tuple[int, int] | None = None
        self._linked: set[int] = set()
        self._writers: list[multiprocessing.process.BaseProcess] = []
        self.faults: dict[str, Callable[[], None]] = {
            "nothing": lambda: None,
            "kill": self._kill,
            "stop and go on": self._stop_and_go_on,
            "overflow": self._overflow,
            "Fusion away": self._stop_fusion,
            "an audit": lambda: self._ask_for("audit"),
            "a snapshot": lambda: self._ask_for("snapshot"),
        }
        if clock is not None:
            self.faults["clock stepped"] = self._step_clock
        if has_limits:
            self.faults["watches exhausted"] = self._exhaust_watches

    def run(self, number: int, fault: str) -> None:
        """Let the writers write, inject the fault meanwhile, and compare."""
        reports = [self._outside.parent / f"writer{each}" for each in range(_WRITERS)]
        self._writers = [
            _process(target=_write, args=(self._top / "random", self._outside, f"{self._seed}-{number}-{each}", report))
            for each, report in enumerate(reports)
        ]
        for writer in self._writers:
            writer.start()
        self.faults[fault]()
        self._let_finish()
        context = f"seed {self._seed}, round {number}, {fault}"
        assert [writer.exitcode for writer in self._writers] == [0] * _WRITERS, context
        written = [json.loads(report.read_text()) for report in reports]
        self._linked.update(*(each["linked"] for each in written))
        show_links(bytes(self._top), self._linked)
        found = self._compare(context)
        assert not found, "\n".join([context, *found, *(line for each in written for line in each["log"])])
        until(self._has_counted_overflow, within_s=60, what="the overflow to be counted")
        assert self._count("lost") == 0, context

    def _let_finish(self) -> None:
        for writer in self._writers:
            writer.join()

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

    def _has_counted_overflow(self) -> bool:
        """Tell whether the last overflow was counted; who was stopped for too long was replaced instead."""
        if self._owed_overflows is None or self._count("overflows") >= self._owed_overflows[1]:
            return True
        return self._find_pid("watch.source") != self._owed_overflows[0]

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
        self._owed_overflows = (pid, before + 1)

    def _stop_fusion(self) -> None:
        """All that is written waits at the agent; now and then for so long that another Fusion is started."""
        with self._stopped("fusion") as pid:
            self._let_finish()
            if self._rng.random() < 0.2:
                until(lambda: self._find_pid("fusion") not in (None, pid), within_s=120, what="another Fusion")

    def _ask_for(self, action: str) -> None:
        """Have one run while the writers write."""
        done = self._agent.command("pipe", action, "watch")
        assert done.returncode == 0, done.stderr

    def _step_clock(self) -> None:
        assert self._clock is not None
        self._clock.step_to(self._rng.choice(_STEPS_OF_THE_CLOCK_S))
        if self._rng.random() < 0.5:
            self._kill()

    def _exhaust_watches(self) -> None:
        """New directories get no watch; nor do the others, where another source has to begin with these limits."""
        assert self._agent.process is not None
        limits = {"watches": self._rng.randrange(3), "instances": self._rng.choice((0, 1, 2, 128))}
        limit_inotify(self._agent.process.pid, **limits)
        if self._rng.random() < 0.5:
            self._signal("watch.source", signal.SIGKILL)
        self._let_finish()
        limit_inotify(self._agent.process.pid, watches=_PLENTY, instances=_PLENTY)

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

    def _find_pid(self, worker: str) -> int | None:
        return self._agent.worker_pids().get(worker)

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
    config = write_config(
        tmp_path / "agent-config.yaml",
        sources={"tree": ("fs", {"uri": str(top), "driver_params": {"poll_interval_s": 0.2}})},
        senders={"fusion": ("fusion", {"endpoint": "embedded"})},
        pipes={"watch": ("tree", "fusion")},
    )
    clock, words = None, []
    with contextlib.suppress(NotInstallable):
        clock = StepClock(find_faketime(), tmp_path / "offset")
    with contextlib.suppress(pytest.skip.Exception):
        words = unshare_limits()
    program = wrap_agent(tmp_path / "agent", words)
    agent = start_agent(config=config, program=program, env={} if clock is None else clock.environment)
    agent.wait_ready()
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 30))
    return Differential(agent, top, outside, seed, clock=clock, has_limits=bool(words))


def test_a_few_rounds_with_every_fault_find_no_difference(differential: Differential) -> None:
    for number, fault in enumerate(differential.faults):
        differential.run(number, fault)


@pytest.mark.chaos
@pytest.mark.timeout(4 * 3600)
def test_five_hundred_rounds_find_no_difference(differential: Differential) -> None:
    """CHAOS_ROUNDS says how many rounds (500 unless told), CHAOS_SEED which ones."""
    faults = list(differential.faults)
    for number in range(int(os.environ.get("CHAOS_ROUNDS", "500"))):
        differential.run(number, faults[number % len(faults)])
