"""The whole agent on a tree in which a mount hangs: the process that looks into it cannot even be killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import AgentUnderTest
from configfile import write_config
from oracle import differences, walk
from waiting import until

LIB = Path(__file__).parents[1] / "lib"
# Only `start` gets the mount, in a namespace of its own; the server's pid is left behind for the test.
PROGRAM = """#!/bin/sh
if [ "$1" != start ]; then exec {program} "$@"; fi
exec unshare -m sh -c '{python} -c "{mount}" {lib} {target} {pid} && exec {program} "$@"' sh "$@"
"""
MOUNT = (
    "import sys; from pathlib import Path; sys.path.append(sys.argv[1]); from hangingmount import HangingMount; "
    "Path(sys.argv[3]).write_text(str(HangingMount(Path(sys.argv[2])).pid))"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """Return where the pid of the mount's server will stand; it is killed at the end."""
    (tmp_path / "probe").mkdir()
    words = ["unshare", "-m", sys.executable, "-c", MOUNT, str(LIB), str(tmp_path / "probe"), str(tmp_path / "pid")]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting FUSE in a namespace of its own (unshare -m, /dev/fuse) is not permitted to this user")
    kill(tmp_path / "pid")
    yield tmp_path / "pid"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        kill(tmp_path / "pid")


def kill(pid_file: Path) -> None:
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    pid_file.unlink()


def test_a_mount_that_hangs_takes_its_own_source_and_nothing_else(
    tmp_path: Path, server: Path, start_agent: Callable[..., AgentUnderTest]
) -> None:
    hung, well = tmp_path / "hung", tmp_path / "well"
    (hung / "below").mkdir(parents=True)
    well.mkdir()
    config = write_config(
        tmp_path / "config.yaml",
        sources={tree.name: ("fs", {"uri": str(tree)}) for tree in (hung, well)},
        senders={"fusion": ("fusion", {"endpoint": "embedded"})},
        pipes={tree.name: (tree.name, "fusion") for tree in (hung, well)},
    )
    config.write_text(json.dumps(json.loads(config.read_text()) | {"workers": {"source": {"stuck_after_s": 2.0}}}))
    program = tmp_path / "fustor-agent"
    places = {"python": sys.executable, "lib": LIB, "target": hung / "below", "pid": server}
    program.write_text(
        PROGRAM.format(program=Path(sys.executable).parent / "fustor-agent", mount=MOUNT, **places)
    )
    program.chmod(0o755)
    agent = start_agent(config=config, program=program, view="well")

    def find(name: str) -> dict[str, Any]:
        return next((worker for worker in agent.status()["workers"] if worker["name"] == name), {})

    until(lambda: agent.readyz()[0], within_s=60, what="the console")
    until(lambda: find("hung.source").get("state") == "abandoned", within_s=60, what="the source to be given up")
    error = find("hung.source")["last_error"]
    assert error.startswith("SIGKILL does not end it; it is in uninterruptible sleep, as on a mount that hangs")
    (well / "file").write_text("the other pipe does not notice")
    assert not differences(walk(bytes(well)), agent.export(sync=30))
    others = {worker["name"]: worker["restarts"] for worker in agent.status()["workers"]}
    assert set(others.values()) == {0}
    assert any("hung" in line and "uninterruptible" in line for line in agent.command("status").stdout.splitlines())
    kill(server)
    until(lambda: find("hung.source").get("generation") == 2, within_s=60, what="another source in its place")
    until(lambda: find("hung.source")["state"] == "running", within_s=60, what="the new source to run")
