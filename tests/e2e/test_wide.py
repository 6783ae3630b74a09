"""One directory of very many names: bounded memory, and no more work for each name than elsewhere."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import AgentUnderTest
from oracle import differences, walk
from processes import read_number

_CHAOS = [pytest.mark.chaos, pytest.mark.timeout(3600)]
_SOURCE_KB = 64_000
_WRITTEN_BYTES_EACH = 2_500
"""Of Fusion, for each name; 8,900 when the names of 100,000 come in no order."""


@pytest.mark.parametrize("count", [60_000, pytest.param(1_000_000, marks=_CHAOS)])
def test_a_directory_of_very_many_names_is_seen_in_bounded_memory(
    tmp_path: Path, start_agent: Callable[..., AgentUnderTest], count: int
) -> None:
    wide = tmp_path / "tree" / "wide"
    wide.mkdir(parents=True)
    directory = os.open(wide, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(count):
        os.close(os.open(f"file {number}", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)
    agent = start_agent(watch=tmp_path / "tree")
    agent.wait_ready(within_s=1_800)
    (wide / "file 7").unlink()
    (wide / "one more").touch()
    assert differences(walk(bytes(wide.parent)), agent.export(sync=300)) == []
    pids = agent.worker_pids()
    assert read_number(pids["watch.source"], "status", "VmHWM") < _SOURCE_KB
    assert read_number(pids["fusion"], "io", "wchar") / count < _WRITTEN_BYTES_EACH
