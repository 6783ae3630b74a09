"""Everything that can happen to processes, at random and under load: the views end exact, and nothing has leaked."""

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from agent import AgentUnderTest
from configfile import write_config
from fusion import FusionUnderTest
from oracle import differences, walk
from processes import belonging_to, descendants, describe
from treeops import RandomTree
from waiting import until

_BAD_CONFIG: Final = 5
_RECOVERED_WITHIN_S: Final = 120.0
_GROWTH_BYTES: Final = 8 * 1024 * 1024  # of the supervisor: the allocator's slack, far below a leak per restart


class Chaos:
    """
    An agent with two pipes, one to its embedded Fusion and one to a standalone one, and what befalls them.

    Args:
        tmp_path: For trees, homes and the configuration.
        start: Starts the agent.
        fusion: Runs; serves the view of the second pipe.
        rng: Decides everything.
    """

    def __init__(
        self, tmp_path: Path, start: Callable[..., AgentUnderTest], fusion: FusionUnderTest, rng: random.Random
    ) -> None:
        self.rng = rng
        self.fusion = fusion
        self.log: list[str] = []
        self.trees = {"near": tmp_path / "near", "far": tmp_path / "far"}
        for name, tree in self.trees.items():
            (tree / "some" / "depth").mkdir(parents=True)
            (tmp_path / f"outside-{name}").mkdir()
        self.writers = [
            RandomTree(tree, tmp_path / f"outside-{name}", random.Random(rng.random()))
            for name, tree in self.trees.items()
        ]
        self._config = tmp_path / "agent-config.yaml"
        self._write_config()
        self.agent = start(config=self._config)
        self.agent.wait_ready()
        assert self.agent.process is not None
        self.supervisor = self.agent.process.pid

    # -- what can happen --------------------------------------------------------------------

    def befall(self) -> None:
        """Have one thing happen."""
        what = self.rng.choices(
            (self.kill, self.segfault, self.suspend, self.limit_memory, self.reload, self.reload_badly, self.restart),
            (6, 3, 1, 2, 2, 2, 1),
        )[0]
        self.log.append(f"{time.monotonic():.1f} {what()}")

    def kill(self) -> str:
        return self._signal(signal.SIGKILL)

    def segfault(self) -> str:
        return self._signal(signal.SIGSEGV)

    def suspend(self) -> str:
        return self._signal(signal.SIGSTOP)

    def limit_memory(self) -> str:
        """Let a worker have hardly more memory than it has now."""
        pid = self._choose_worker()
        with suppress(ProcessLookupError, FileNotFoundError, PermissionError):  # gone, or limited to less before
            data_kb = int(_read_status(pid)["VmData"].split()[0])
            resource.prlimit(pid, resource.RLIMIT_DATA, (data_kb * 1024 + self.rng.randrange(2**21),) * 2)
        return f"memory of {pid} limited"

    def reload(self) -> str:
        """Change what one of the two sources is given, or nothing."""
        self._write_config()
        done = self.agent.command("reload", timeout_s=120)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return f"reload: {done.stdout.strip()}"

    def reload_badly(self) -> str:
        good = self._config.read_text()
        self._config.write_text(self.rng.choice((good[: len(good) // 2], good.replace("uri", "url"), "[]", "\0")))
        done = self.agent.command("reload", timeout_s=120)
        self._config.write_text(good)
        assert done.returncode == _BAD_CONFIG, f"{done.stdout}{done.stderr}"
        return "reload of a bad configuration"

    def restart(self) -> str:
        """Restart the standalone Fusion, as an operator or a crash does."""
        end = self.rng.choice((self.fusion.stop, self.fusion.kill))
        end()
        self.fusion.start()
        return f"fusion restarted by {end.__name__}"

    def kill_all(self) -> None:
        """Kill every worker at once, and with them whatever is suspended or short of memory; wait for the next ones."""
        killed = set(list_children(self.supervisor))
        for pid in killed:
            with suppress(ProcessLookupError):  # it died by itself, of what befell it last
                os.kill(pid, signal.SIGKILL)
        until(lambda: not killed & set(self.list_running()), within_s=_RECOVERED_WITHIN_S, what="new workers")
        self.agent.wait_ready(_RECOVERED_WITHIN_S)

    def _signal(self, number: signal.Signals) -> str:
        pid = self._choose_worker()
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        return f"{number.name} {pid}"

    def _choose_worker(self) -> int:
        """Return a worker's pid; the child that checks a configuration is none, and leads no session."""

        def list_workers() -> list[int]:
            return [pid for pid in list_children(self.supervisor) if leads_session(pid)]

        return self.rng.choice(until(list_workers, within_s=60, what="a worker"))

    def _write_config(self) -> None:
        sources = {
            name: ("fs", {"uri": str(tree), "driver_params": {"audit_rows_per_s": self.rng.randrange(1000, 1003)}})
            for name, tree in self.trees.items()
        }
        key = self.fusion.home / "state" / "fusion-agent.key"
        far = {"endpoint": self.fusion.endpoint, "credential": {"file": str(key)}}
        senders = {"embedded": ("fusion", {"endpoint": "embedded"}), "standalone": ("fusion", far)}
        pipes = {"near": ("near", "embedded"), "far": ("far", "standalone")}
        write_config(self._config, sources=sources, senders=senders, pipes=pipes)

    # -- how it stands ----------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Change both trees for the time of a `with` block."""
        with ExitStack() as ends:
            for writer in self.writers:
                ends.enter_context(writer.at_work(pause_s=0.01))
            yield

    def await_changes(self, count: int) -> None:
        """Wait until so many more changes were made."""
        wanted = len(self.writers[0].log) + count
        until(lambda: len(self.writers[0].log) >= wanted, within_s=60, what="changes")

    def list_running(self) -> list[int]:
        """Wait until every worker runs; returns their pids."""

        def look() -> list[int] | None:
            workers = json.loads((self.agent.home / "state" / "status.json").read_text())["workers"]
            pids = [worker["pid"] for worker in workers if worker["state"] == "running"]
            return pids if len(pids) == len(workers) else None

        found = until(look, within_s=_RECOVERED_WITHIN_S, what="all workers to run")
        assert found is not None
        return found

    def measure(self) -> tuple[int, int]:
        """Return how many descriptors the supervisor holds, and its memory in bytes, once every worker runs."""
        self.list_running()
        held = len(os.listdir(f"/proc/{self.supervisor}/fd"))
        return held, int(_read_status(self.supervisor)["RssAnon"].split()[0]) * 1024

    def assert_exact(self) -> None:
        views = {"near": self.agent.export(view="near"), "far": self.fusion.export()}
        for name, tree in self.trees.items():
            found = differences(walk(bytes(tree)), views[name])
            assert not found, f"{name}\n" + "\n".join(found)

    def assert_no_process_too_many(self) -> None:
        workers = set(self.list_running())
        assert set(list_children(self.supervisor)) == workers, "a zombie or a stranger is left"
        belonging = belonging_to(self.agent.home) | descendants(self.supervisor)
        assert belonging == workers | {self.supervisor}, [describe(pid) for pid in belonging]


def list_children(pid: int) -> list[int]:
    """Return all children of a process without threads, zombies too."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def leads_session(pid: int) -> bool:
    with suppress(ProcessLookupError):
        return os.getsid(pid) == pid
    return False


def _read_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize(
    "duration_s", [60, pytest.param(600, marks=[pytest.mark.chaos, pytest.mark.timeout(1800)])]
)
def test_whatever_befalls_its_processes_the_agent_ends_exact_and_leaks_nothing(
    tmp_path: Path, start_agent: Callable[..., AgentUnderTest], duration_s: int
) -> None:
    seed = random.randrange(1 << 30)
    fusion = FusionUnderTest(tmp_path / "fusion", view="far").start()
    try:
        chaos = Chaos(tmp_path, start_agent, fusion, random.Random(seed))
        print(f"seed {seed}")
        try:
            descriptors, memory = chaos.measure()
            end = time.monotonic() + duration_s
            with chaos.writing():
                while time.monotonic() < end:
                    chaos.await_changes(chaos.rng.randrange(100))
                    chaos.befall()
            chaos.kill_all()
            chaos.assert_exact()
            chaos.assert_no_process_too_many()
            after = chaos.measure()
            print(f"{len(chaos.log)} events; descriptors {descriptors} -> {after[0]}, bytes {memory} -> {after[1]}")
            assert after[0] == descriptors
            assert after[1] < memory + _GROWTH_BYTES
        finally:
            print("\n".join(chaos.log))
        chaos.agent.stop()
    finally:
        fusion.stop()
