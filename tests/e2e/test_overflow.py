"""More happens than the kernel queues: the part that lost something is listed again, nothing else, and all is exact."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import AgentUnderTest
from oracle import differences, walk
from waiting import until

_CHAOS = [pytest.mark.chaos, pytest.mark.timeout(1800)]
_DIRECTORIES = 200
_QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
_SHARDS = 4
_WITHIN_S = 300.0


@pytest.mark.parametrize("files", [_QUEUE, pytest.param(100_000, marks=_CHAOS)])
def test_a_burst_that_no_queue_holds_has_one_shard_of_four_listed_again(
    tmp_path: Path, start_agent: Callable[..., AgentUnderTest], files: int
) -> None:
    tree = tmp_path / "tree"
    for number in range(_DIRECTORIES):
        (tree / f"d{number}").mkdir(parents=True)
    agent = start_agent(watch=tree)
    agent.wait_ready()
    source = agent.kill("watch.source", signal.SIGSTOP)
    burst = os.open(tree / "d7", os.O_RDONLY)
    for number in range(files):
        os.close(os.open(f"burst{number}", os.O_CREAT | os.O_WRONLY, dir_fd=burst))
    os.close(burst)
    for number in range(_DIRECTORIES):  # those of d7's shard tell nobody any more
        (tree / f"d{number}" / "after").mkdir()
        (tree / f"d{number}" / "after" / "file").touch()
    os.kill(source, signal.SIGCONT)

    def count_overflows() -> int:
        pipe, = agent.status()["pipes"]
        return int(pipe["counters"]["overflows"])

    until(count_overflows, within_s=_WITHIN_S, what="the overflow to be counted")
    view = agent.export(sync=_WITHIN_S)
    assert differences(walk(bytes(tree)), view) == []
    agent.wait_ready(_WITHIN_S)
    pipe, = agent.status()["pipes"]
    details = pipe["details"]
    assert (pipe["counters"]["overflows"], pipe["counters"]["lost"]) == (1, 0)
    assert (details["shards_relisted"], details["shards"]) == (1, _SHARDS)
    assert 1 <= details["relisted"] < (1 + _DIRECTORIES) * 2 / _SHARDS, "of the directories there were then"
