"""
A receiver that is away for long while very much happens: bounded memory, then each place once, exact.

As a source worker does while nothing can be sent, the source only reads and notes.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fustor_event_model import UpdateEvent

_BOUND = 1_000
LONG = [pytest.mark.chaos, pytest.mark.timeout(3600)]


def note_all(pump: Any) -> None:
    """Read what is queued and note it; nothing goes out."""
    pump.source.wait(0)


def sent_files(pump: Any) -> Counter[bytes]:
    rows = [item.prefix + row.path for item in pump.items if isinstance(item, UpdateEvent) for row in item.rows]
    return Counter(path for path in rows if b"file" in path)


@pytest.mark.parametrize("changes", [20_000, pytest.param(1_000_000, marks=LONG)])
def test_very_many_changes_of_a_thousand_files_are_a_thousand_places(
    inside: Path, start_pump: Any, changes: int
) -> None:
    (inside / "d").mkdir()
    for number in range(1_000):
        (inside / "d" / f"file{number}").touch()
    pump = start_pump(max_pending=_BOUND + 1)
    pump.begin()
    files = [os.open(inside / "d" / f"file{number}", os.O_WRONLY) for number in range(1_000)]
    for number in range(changes):
        os.pwrite(files[number % 1_000], b"x", number)
        if number % 1_000 == 0:
            note_all(pump)
    for file in files:
        os.close(file)
    note_all(pump)
    status = pump.source.get_status()
    assert status.pending + status.dirty <= _BOUND + 1
    pump.sync()
    pump.assert_exact()
    assert set(sent_files(pump).values()) == {1}, "each once"


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=LONG)])
def test_very_many_new_files_are_no_more_than_a_mark_for_each_directory(
    inside: Path, start_pump: Any, count: int
) -> None:
    directories = 50
    for number in range(directories):
        (inside / f"d{number}").mkdir()
    pump = start_pump(max_pending=_BOUND)
    pump.begin()
    for number in range(count):
        os.close(os.open(inside / f"d{number % directories}" / f"file{number}", os.O_CREAT | os.O_WRONLY))
        if number % 1_000 == 0:
            note_all(pump)
    note_all(pump)
    status = pump.source.get_status()
    assert status.pending <= _BOUND
    assert status.dirty <= directories + 1
    pump.sync()
    pump.assert_exact()
    assert sent_files(pump).total() == count, "each once"
