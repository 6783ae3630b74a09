"""The agent under those who start programs: a service manager that listens, and nobody at all, as in a container."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from agent import AgentUnderTest
from namespaces import unshare
from processes import is_alive
from servicemanager import ServiceManager
from standalone import PROGRAM, StandaloneFusion
from waiting import until


def make_tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("content")
    return tree


def test_a_service_manager_is_told_start_reload_life_state_and_end(
    tmp_path: Path, start_agent: Callable[..., AgentUnderTest]
) -> None:
    with ServiceManager(tmp_path / "notify") as manager:
        environment = manager.environment | {"WATCHDOG_USEC": "1000000"}
        agent = start_agent(watch=make_tree(tmp_path), env=environment)
        assert agent.process is not None
        manager.wait_for("READY")
        agent.wait_ready()
        until(lambda: {"STATUS": "1 of 1 pipes are current"} in manager.listen(), within_s=60, what="the status")
        agent.process.send_signal(signal.SIGHUP)
        manager.wait_for("READY", "RELOADING", "READY")
        beats = manager.count("WATCHDOG")
        until(lambda: manager.count("WATCHDOG") > beats + 2, within_s=60, what="signs of life")
        assert agent.stop() == 0
        assert manager.states() == ["READY", "RELOADING", "READY", "STOPPING"]


def test_a_fusion_of_its_own_tells_its_start_and_its_end(tmp_path: Path) -> None:
    fusion = StandaloneFusion(tmp_path / "fusion")
    command = [PROGRAM, "start", "--view", "main", "--port", "0"]
    with ServiceManager(tmp_path / "notify") as manager:
        process = subprocess.Popen(command, env=fusion.environment | manager.environment, stdout=subprocess.DEVNULL)
        try:
            manager.wait_for("READY")
            process.terminate()
            assert process.wait(60) == 0
            assert manager.states() == ["READY", "STOPPING"]
        finally:
            process.kill()
            process.wait()


def test_as_the_first_process_of_a_container_the_agent_works_and_stops(
    tmp_path: Path, start_agent: Callable[..., AgentUnderTest]
) -> None:
    program = tmp_path / "contained"
    command = Path(sys.executable).parent / "fustor-agent"
    words = " ".join(unshare("--pid", "--fork", "--kill-child", "--mount-proc"))
    program.write_text(f'#!/bin/sh\nexec {words} {command} "$@"\n')
    program.chmod(0o755)
    agent = start_agent(watch=make_tree(tmp_path), program=program)
    agent.wait_ready()
    assert agent.status()["agent"]["pid"] == 1
    assert agent.process is not None
    init = int(Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text())
    workers = [int(pid) for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split()]
    assert len(workers) == 4
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    until(lambda: not any(map(is_alive, workers)), within_s=30, what="the workers to be replaced")
    agent.wait_ready()
    os.kill(init, signal.SIGTERM)
    assert agent.process.wait(60) == 0
