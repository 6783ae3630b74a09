"""The whole agent with far fewer watches than directories: it says so, and misses nothing for longer than a round."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import AgentUnderTest
from configfile import write_config
from namespaces import limit_inotify, unshare_limits, wrap_agent
from oracle import differences, walk
from waiting import until

_CHAOS = [pytest.mark.chaos, pytest.mark.timeout(1800)]
_OLD_S = 1_000_000_000
_PLENTY = 1_000_000
_WITHIN_S = 300.0


@pytest.mark.parametrize(("watches", "directories"), [(100, 1_000), pytest.param(2_000, 20_000, marks=_CHAOS)])
def test_with_a_tenth_of_the_watches_it_covers_all_and_says_how(
    tmp_path: Path, start_agent: Callable[..., AgentUnderTest], watches: int, directories: int
) -> None:
    tree = tmp_path / "tree"
    made = [tree / f"{number // 100}" / f"{number}" for number in range(directories)]
    for path in made:
        path.mkdir(parents=True)
        (path / "file").touch()
        for each in (path / "file", path):
            os.utime(each, (_OLD_S, _OLD_S))
    count = 1 + directories // 100 + directories
    config = write_config(
        tmp_path / "agent-config.yaml",
        sources={"tree": ("fs", {"uri": str(tree), "driver_params": {"poll_interval_s": 1.0, "audit_rows_per_s": 0}})},
        senders={"fusion": ("fusion", {"endpoint": "embedded"})},
        pipes={"watch": ("tree", "fusion")},
    )
    limit = f"echo {watches} > /proc/sys/user/max_inotify_watches"
    words = [*unshare_limits(), "sh", "-c", f"'{limit} && exec \"$@\"'", "sh"]
    agent = start_agent(config=config, program=wrap_agent(tmp_path / "agent", words))

    def look() -> dict[str, Any] | None:
        pipe, = agent.status()["pipes"]
        return pipe if pipe["snapshot"]["state"] == "done" and pipe["counters"]["dirty"] == 0 else None

    until(lambda: agent.readyz()[0] == 503 and look() is not None, within_s=_WITHIN_S, what="the snapshot")
    pipe = until(look, within_s=_WITHIN_S, what="what is covered")
    assert pipe is not None
    said = {name: pipe["details"][name] for name in ("directories", "watches", "unwatched")}
    assert said == {"directories": count, "watches": watches, "unwatched": count - watches}
    assert f"{count - watches} directories are not watched but looked at every 1 s" in pipe["not_current_because"]

    def is_exact() -> bool:
        return not differences(walk(bytes(tree)), agent.export(sync=None))

    for path in random.sample(made, watches // 2):
        (path / "file").write_text("activity moves")
        (path / "new" / "deep").mkdir(parents=True)
    until(is_exact, within_s=_WITHIN_S, what="the view to be the tree")
    assert agent.process is not None
    limit_inotify(agent.process.pid, watches=_PLENTY)
    agent.wait_ready(_WITHIN_S)
    assert differences(walk(bytes(tree)), agent.export()) == []
