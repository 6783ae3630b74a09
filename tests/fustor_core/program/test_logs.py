import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fustor_core.program.logs import AppendHandler, configure, name_process, split_record


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.captureWarnings(False)


def make_record(text: str) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "", 0, text, (), None)


@given(st.binary(min_size=1, max_size=20_000))
def test_pieces_are_short_and_nothing_but_the_end_of_long_lines_is_lost(data: bytes) -> None:
    data += b"\n"
    pieces = split_record(data)
    assert all(len(piece) <= 4096 and piece.endswith((b"\n", b"\r")) for piece in pieces)
    if all(len(line) <= 4096 for line in data.splitlines(keepends=True)):
        assert b"".join(pieces) == data


def test_a_line_that_is_too_long_is_cut_and_says_so() -> None:
    (piece, rest) = split_record(b"x" * 10_000 + b"\nnext\n")
    assert piece.endswith("x…\n".encode())
    assert len(piece) == 4096
    assert rest == b"next\n"


def test_a_full_log_is_rotated_and_the_oldest_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    handler = AppendHandler(path, max_bytes=10, kept=2)
    for number in range(5):
        handler.emit(make_record(f"line number {number}"))
    handler.close()
    logs = {name: (tmp_path / name).read_text() for name in ("agent.log", "agent.log.1", "agent.log.2")}
    assert logs == {"agent.log": "line number 4\n", "agent.log.1": "line number 3\n", "agent.log.2": "line number 2\n"}
    assert not (tmp_path / "agent.log.3").exists()


def test_a_log_that_someone_else_moved_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    handler = AppendHandler(path)
    handler.emit(make_record("before"))
    path.rename(tmp_path / "moved")
    handler.emit(make_record("after"))
    handler.close()
    assert (path.read_text(), (tmp_path / "moved").read_text()) == ("after\n", "before\n")


def test_rotating_keeps_no_descriptor(tmp_path: Path) -> None:
    handler = AppendHandler(tmp_path / "agent.log", max_bytes=10)
    handler.emit(make_record("first"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        handler.emit(make_record("a line that fills the file"))
    assert len(os.listdir("/proc/self/fd")) == before
    handler.close()


def test_names_that_are_not_text_can_be_logged(tmp_path: Path) -> None:
    handler = AppendHandler(tmp_path / "agent.log")
    handler.emit(make_record(f"file {os.fsdecode(bytes([0xFF]))}"))
    handler.close()
    assert (tmp_path / "agent.log").read_text() == "file \\udcff\n"


def test_lines_name_time_level_process_and_logger(tmp_path: Path) -> None:
    configure(tmp_path / "agent.log", process="agent")
    logging.getLogger("some.module").warning("it happened count=%d", 3)
    name_process("100%.source")
    logging.getLogger("some.module").info("again")
    first, second = (tmp_path / "agent.log").read_text().splitlines()
    assert first.endswith(f"Z WARNING agent[{os.getpid()}] some.module: it happened count=3")
    assert f"INFO    100%.source[{os.getpid()}] some.module: again" in second


def test_configuring_twice_does_not_write_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        configure(tmp_path / "agent.log", process="agent", stderr_level=logging.WARNING)
    logging.getLogger("x").info("to the file only")
    logging.getLogger("x").warning("to both")
    assert len((tmp_path / "agent.log").read_text().splitlines()) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1
    assert shown[0].endswith("to both")


def test_a_disk_that_is_full_is_told_once_and_tears_no_later_line(tmp_path: Path) -> None:
    script = """
import logging, resource, sys
from pathlib import Path
from fustor_core.program import logs

path = Path(sys.argv[1])
logs.configure(path, process="p")
logging.info("first")
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))
for number in range(5):
    logging.info("lost %d", number)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
logging.info("last")
"""
    path = tmp_path / "p.log"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stderr == f'"{path}" cannot be written: File too large\n'
    first, torn, last = path.read_text().splitlines()
    assert first.endswith(" root: first")
    assert len(torn) == 20
    assert last.endswith(" root: last")
