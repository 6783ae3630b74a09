"""A walk shows that it moves, also where it finds nothing to send."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fustor_event_model import MessageSource, UpdateEvent

NAMES = 1_600
PER_SIGN = 16


class Signs:
    """Counts the signs of a driver."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, quiet_s: float = 0.0) -> None:
        self.count += 1


@pytest.fixture
def signs() -> Signs:
    return Signs()


@pytest.fixture
def pump(inside: Path, start_pump: Callable[..., Any], signs: Signs) -> Any:
    """A source whose pattern leaves out all files of a large directory."""
    (inside / "large").mkdir()
    for number in range(NAMES):
        (inside / "large" / f"{number}.left-out").touch()
    return start_pump(file_pattern="*.wanted", on_progress=signs)


def snapshot(pump: Any) -> None:
    pump.begin()


def compare(pump: Any) -> None:
    pump.start_snapshot(compares=True)
    pump.finish_snapshot()


def audit(pump: Any) -> None:
    pump.start_audit("full")
    while pump.step():
        pass


def scan(pump: Any) -> None:
    for item in pump.source.scan_path(b"/", recursive=True, job_id="j"):
        pump.take(item)


def follow(pump: Any) -> None:
    pump.source.follow()
    while pump.step():
        pass
    while pump.source.get_status().not_current_because is not None:
        pump.source.wait(1.0)
        pump.step()


def poll(pump: Any) -> None:
    pump.source._polling._digest(b"/large")


def look(pump: Any) -> None:
    pump.begin()
    pump.source.context.on_progress.count = 0
    names = [b"%d.left-out" % number for number in range(NAMES)]
    list(pump.source._look_at(pump.source._tree.root, names, MessageSource.SENTINEL))


@pytest.mark.parametrize("walk", [snapshot, compare, audit, scan, follow, poll, look])
def test_a_directory_of_which_nothing_is_sent_is_walked_with_signs_of_progress(
    pump: Any, signs: Signs, walk: Callable[[Any], None]
) -> None:
    walk(pump)
    assert signs.count >= NAMES // PER_SIGN
    assert not any(len(item.rows) > 2 for item in pump.items if isinstance(item, UpdateEvent))


def test_an_audit_that_passes_over_everything_shows_that_it_moves(
    inside: Path, start_pump: Callable[..., Any], make_blindfold: Callable[[Any], Any], signs: Signs
) -> None:
    for number in range(10 * PER_SIGN):
        (inside / f"d{number}").mkdir()
    pump = start_pump(on_progress=signs)
    pump.trust_all_times()
    pump.begin()
    listings = pump.source.get_status().details["listings"]
    signs.count = 0
    audit_incrementally(pump)
    assert pump.source.get_status().details["listings"] - listings <= 1
    assert signs.count >= 10


def audit_incrementally(pump: Any) -> None:
    pump.start_audit("incremental")
    while pump.step():
        pass
