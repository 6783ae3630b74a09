"""Counters and reasons say what was done to an agent, fault by fault, and nothing else."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agent import AgentFailed, AgentUnderTest
from fusion import FusionUnderTest
from namespaces import limit_inotify, unshare_limits, wrap_agent
from oracle import differences, walk
from waiting import until

_WITHIN_S = 60.0
_DIRECTORIES = 20
_QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
_PLENTY = 1_000_000
_GROWING = ("captured", "pushed", "acknowledged", "overflows", "lost")


class Observed:
    """
    An agent whose status is looked at all the time.

    Args:
        agent: Watches the tree, with one pipe, as a user whom permissions bind, with limits of inotify of its own.
        tree: Holds `d0`, `d1`, and so on.
        fusion: Where it pushes to.
    """

    def __init__(self, agent: AgentUnderTest, tree: Path, fusion: FusionUnderTest) -> None:
        self.agent = agent
        self.tree = tree
        self.fusion = fusion
        self._counters = dict.fromkeys(_GROWING, 0)

    def look(self) -> dict[str, Any]:
        """Return the pipe's status, which must make sense at any moment."""
        pipe, = self.agent.status()["pipes"]
        counters = pipe["counters"]
        assert pipe["current"] == (pipe["not_current_because"] is None)
        assert all(count >= 0 for count in counters.values()), counters
        assert counters["acknowledged"] <= counters["pushed"]
        for name in _GROWING:
            assert counters[name] >= self._counters[name], f"{name} has gone back, from {self._counters[name]}"
            self._counters[name] = counters[name]
        assert isinstance(pipe, dict)
        return pipe

    def await_(self, what: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the status is so; returns it."""
        seen: dict[str, Any] = {}

        def find() -> bool:
            seen.clear()
            seen.update(self.look())
            return is_so(seen)

        until(find, within_s=_WITHIN_S, what=what)
        return seen

    def await_reason(self, *parts: str) -> dict[str, Any]:
        """Wait until a reason that holds all these parts is given; returns the pipe's status."""
        return self.await_(" ... ".join(parts), lambda pipe: all(part in f" {pipe['not_current_because']}"
                                                                 for part in parts))

    def rest(self) -> dict[str, Any]:
        """Wait until the pipe is current and exact; nothing may be owed or lost then. Returns its status."""
        self.agent.wait_ready()
        try:
            view = self.fusion.export(sync_s=_WITHIN_S)
        except AssertionError as err:
            raise AgentFailed(f"{err}\n{self.agent.log()}") from None
        assert differences(walk(bytes(self.tree)), view) == []
        directories = len([path for path in self.tree.rglob("*") if path.is_dir()]) + 1

        def rests(pipe: dict[str, Any]) -> bool:
            counters, details = pipe["counters"], pipe["details"]
            owed = (counters["pending"], counters["dirty"], counters["lost"], pipe["lag_s"], len(pipe["skipped"]))
            covered = tuple(details.get(name) for name in ("watches", "unwatched", "directories"))
            return (
                not any(owed)
                and covered == (directories, 0, directories)
                and counters["acknowledged"] == counters["pushed"]
            )

        return self.await_("nothing to be owed", rests)

    @contextmanager
    def stopped(self, worker: str) -> Iterator[None]:
        """Stop a worker for the time of a `with` block, in which it may be killed."""
        pid = self.agent.kill(worker, signal.SIGSTOP)
        yield
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def observed(
    tmp_path: Path, start_agent: Callable[..., AgentUnderTest], no_process_is_left: None
) -> Iterator[Observed]:
    words = unshare_limits()
    if os.getuid() == 0:
        assert shutil.which("setpriv"), "install util-linux: root may read everything"
        words += ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    tree = tmp_path / "tree"
    for number in range(_DIRECTORIES):
        (tree / f"d{number}").mkdir(parents=True)
        (tree / f"d{number}" / "file").write_text("there from the beginning")
    fusion = FusionUnderTest(tmp_path / "fusion").start()
    config = fusion.write_agent_config(
        tmp_path / "agent-config.yaml", tree, poll_interval_s=0.2, retry_unreadable_s=0.2
    )
    try:
        yield Observed(start_agent(config=config, program=wrap_agent(tmp_path / "agent", words)), tree, fusion)
    finally:
        fusion.kill()


def make_watches_run_out(observed: Observed) -> None:
    assert observed.agent.process is not None
    before = observed.look()["details"]["watches"]
    limit_inotify(observed.agent.process.pid, watches=before)
    for number in range(7):
        (observed.tree / f"d{number}" / "new").mkdir()
    pipe = observed.await_reason(" 7 directories are not watched", "raise fs.inotify.max_user_watches")
    assert (pipe["details"]["unwatched"], pipe["details"]["watches"]) == (7, before)
    limit_inotify(observed.agent.process.pid, watches=_PLENTY)


def make_the_queue_overflow(observed: Observed) -> None:
    before = observed.look()
    with observed.stopped("p.source"):
        for _ in range(_QUEUE // 2 + 1):
            os.close(os.open(observed.tree / "d3" / "burst", os.O_CREAT | os.O_WRONLY))
            os.unlink(observed.tree / "d3" / "burst")
    counted = before["counters"]["overflows"] + 1
    observed.await_("the overflow to be counted", lambda pipe: pipe["counters"]["overflows"] >= counted)
    after = observed.rest()
    assert after["counters"]["overflows"] == counted
    relisted = after["details"]["relisted"] - before["details"]["relisted"]
    assert 1 <= relisted < after["details"]["watches"], "only those of one shard"


def make_a_directory_unreadable(observed: Observed) -> None:
    closed = observed.tree / "d5"
    closed.chmod(0)
    assert observed.agent.command("pipe", "audit", "p").returncode == 0
    pipe = observed.await_("the end of the audit", lambda pipe: pipe["audit"]["state"] not in ("none", "running"))
    assert (pipe["audit"]["state"], pipe["audit"]["directories_unreadable"]) == ("incomplete", 1)
    pipe = observed.await_("what is skipped", lambda pipe: pipe["skipped"] != {})
    assert pipe["skipped"] == {"/d5": "Permission denied"}
    assert b"/d5/file" in observed.fusion.export(sync_s=None), "what cannot be looked at is not gone"
    closed.chmod(0o755)


def take_fusion_away(observed: Observed) -> None:
    before = observed.rest()["counters"]
    observed.fusion.stop()
    for number in range(10):
        (observed.tree / "d7" / f"waits{number}").write_text("for Fusion")
    observed.await_reason(observed.fusion.endpoint, "cannot connect")
    captured = before["captured"] + 10
    pipe = observed.await_("them to be seen", lambda pipe: pipe["counters"]["captured"] >= captured)
    assert pipe["counters"]["acknowledged"] == before["acknowledged"]
    observed.fusion.start()
    acknowledged = before["acknowledged"] + 10
    observed.await_("all that waited", lambda pipe: pipe["counters"]["acknowledged"] >= acknowledged)


def kill_workers(observed: Observed) -> None:
    for worker in ("p.source", "p.pusher"):
        before = {each["name"]: each for each in observed.agent.status()["workers"]}[worker]["restarts"]
        counters = observed.look()["counters"]
        observed.agent.kill(worker)
        (observed.tree / "d9" / worker).write_text("written while nobody looks")
        observed.rest()
        after = {each["name"]: each for each in observed.agent.status()["workers"]}[worker]
        assert (after["restarts"], after["last_exit"]["signal"]) == (before + 1, "SIGKILL")
        assert observed.look()["counters"]["captured"] >= counters["captured"], "summed over all workers of the pipe"


def hold_a_snapshot_up(observed: Observed) -> None:
    with observed.stopped("p.pusher"):
        assert observed.agent.command("pipe", "snapshot", "p").returncode == 0
        pipe = observed.await_reason("the snapshot is running")
        assert (pipe["phase"], pipe["snapshot"]["state"]) == ("snapshot", "running")
    pipe = observed.rest()
    assert (pipe["phase"], pipe["snapshot"]["state"]) == ("realtime", "done")


def cut_an_audit_off(observed: Observed) -> None:
    with observed.stopped("p.pusher"):
        assert observed.agent.command("pipe", "audit", "p").returncode == 0
        pipe = observed.await_("the audit", lambda pipe: pipe["audit"]["state"] == "running")
        assert pipe["not_current_because"] is None, "an audit is no reason to distrust the view"
        observed.agent.kill("p.pusher")
        pipe = observed.await_("its end", lambda pipe: pipe["audit"]["state"] != "running")
        assert pipe["audit"]["state"] == "incomplete"


def test_counters_and_reasons_are_those_of_the_faults_that_were_injected(observed: Observed) -> None:
    pipe = observed.rest()
    assert pipe["counters"]["overflows"] == 0
    for inject in (
        make_watches_run_out, make_a_directory_unreadable, make_the_queue_overflow, take_fusion_away,
        hold_a_snapshot_up, cut_an_audit_off, kill_workers,
    ):
        inject(observed)
        observed.rest()
