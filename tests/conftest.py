"""What every test gets: a deadline that ends everything, and the promise that it leaves no process behind."""

import os
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import AgentUnderTest
from desk import Desk
from processes import descendants, describe, kill_all
from watchdog import Watchdog

_WATCHDOG = pytest.StashKey[Watchdog]()

# The last deadline comes after pytest-timeout's, which tells more.
_GRACE_S = 60.0
_THREAD_ENDS_WITHIN_S = 5.0


def pytest_sessionstart(session: pytest.Session) -> None:
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():  # what the watchdog prints must reach the terminal
        session.config.stash[_WATCHDOG] = Watchdog()


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[_WATCHDOG].close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    watchdog = item.config.stash[_WATCHDOG]
    watchdog.arm(item.nodeid, _limit_s(item) + _GRACE_S)
    try:
        return (yield)
    finally:
        watchdog.disarm()


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Kill, and report as a failure, what a test started and did not end."""
    before = descendants(os.getpid())
    yield
    left = descendants(os.getpid()) - before
    if left:
        names = ", ".join(describe(pid) for pid in sorted(left))
        kill_all(left)
        pytest.fail(f"the test left processes behind: {names}")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Report a test that leaves a thread as a failure: a process with threads must not fork, and later tests do."""
    before = set(threading.enumerate())
    yield
    left = {each for each in threading.enumerate() if each not in before}
    for thread in left:
        thread.join(_THREAD_ENDS_WITHIN_S)
    names = ", ".join(sorted(thread.name for thread in left if thread.is_alive()))
    if names:
        pytest.fail(f"the test left threads behind: {names}")


@pytest.fixture
def start_agent(
    tmp_path: Path, request: pytest.FixtureRequest, no_process_is_left: None
) -> Iterator[Callable[..., AgentUnderTest]]:
    """Start agents, each with a home of its own; takes what `AgentUnderTest` takes. They are stopped at the end."""
    agents: list[AgentUnderTest] = []

    def start(**options: Any) -> AgentUnderTest:
        options.setdefault("home", tmp_path / f"home-{len(agents)}")
        agents.append(AgentUnderTest(**options))
        return agents[-1].start()

    yield start
    if agents and getattr(request.node, "has_failed", False):
        print(*(agent.log() for agent in agents), sep="\n")
    faults = []
    for agent in agents:
        try:
            agent.stop()
        except AssertionError as fault:  # the others must be stopped too
            faults.append(str(fault))
    if faults:
        pytest.fail("\n".join(faults))


@pytest.fixture
def desk(tmp_path: Path, request: pytest.FixtureRequest, no_process_is_left: None) -> Iterator[Desk]:
    """Somebody with a home of their own; what they started is stopped at the end."""
    desk = Desk(tmp_path)
    yield desk
    if getattr(request.node, "has_failed", False):
        print(desk.agent.log())
    left = desk.clear()
    assert not left, f"left behind: {left}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.has_failed = True  # type: ignore[attr-defined]  # read by the fixture that prints the agents' logs
    return report


def _limit_s(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        return float(marker.args[0] if marker.args else marker.kwargs["timeout"])
    return float(item.config.getini("timeout") or 0)
