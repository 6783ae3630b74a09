"""Several real processes write to one log, while it is rotated under them."""

import logging
import os
import re
from pathlib import Path

from fustor_core.program.logs import AppendHandler

WRITERS = 4
LINES = 400


def write_lines(handler: AppendHandler, writer: int) -> None:
    for number in range(LINES):
        text = f"writer={writer} line={number} {'x' * (number % 200)} end"
        handler.emit(logging.LogRecord("x", logging.INFO, "", 0, text, (), None))


def test_no_line_is_lost_or_torn_and_a_forked_process_goes_on_with_its_parents_handler(tmp_path: Path) -> None:
    handler = AppendHandler(tmp_path / "agent.log", max_bytes=4000, kept=1000)
    children = []
    for writer in range(WRITERS):
        child = os.fork()
        if child == 0:
            try:
                write_lines(handler, writer)
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    handler.close()
    lines = [line for log in tmp_path.glob("agent.log*") for line in log.read_text().splitlines()]
    seen = [re.fullmatch(r"writer=(\d) line=(\d+) x* end", line) for line in lines]
    assert None not in seen
    expected = {(str(writer), str(number)) for writer in range(WRITERS) for number in range(LINES)}
    assert {one.groups() for one in seen if one} == expected
    assert len(lines) == len(expected)
    assert len(list(tmp_path.glob("agent.log.[0-9]*"))) > 10
