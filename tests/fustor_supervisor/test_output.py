import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fustor_supervisor.output import KEPT_BYTES, ErrorOutput, show


@contextmanager
def open_output() -> Iterator[tuple[ErrorOutput, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    output = ErrorOutput(reader)
    try:
        yield output, writer
    finally:
        output.close()
        os.close(writer)


def test_whole_lines_are_shown_as_they_come_and_the_rest_with_its_end(capfd: pytest.CaptureFixture[str]) -> None:
    with open_output() as (output, writer):
        assert not output.pump()
        os.write(writer, b"one\ntw")
        assert output.pump()
        assert capfd.readouterr().err == "one\n"
        os.write(writer, b"o\nthr")
        assert output.drain() == "one\ntwo\nthr"
        assert capfd.readouterr().err == "two\nthr"


def test_only_the_last_whole_lines_are_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with open_output() as (output, writer):
        lines = [b"line %d\n" % number for number in range(5_000)]
        for line in lines:
            os.write(writer, line)
            output.pump()
        kept = output.drain()
        assert kept.encode() + b"\n" == b"".join(lines[-kept.count("\n") - 1 :])
        assert KEPT_BYTES - 20 < len(kept) < KEPT_BYTES
        assert capfd.readouterr().err.encode() == b"".join(lines)


def test_bytes_that_are_no_text_and_lines_without_end_are_kept_too() -> None:
    with open_output() as (output, writer):
        for _ in range(20):
            os.write(writer, b"\xff" * 10_000)
            output.pump()
        assert output.drain() == "\ufffd" * KEPT_BYTES


def test_a_standard_error_that_nobody_reads_holds_nobody_up() -> None:
    script = "from fustor_supervisor.output import show; show(b'x' * 1_000_000); print('done', flush=True)"
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        process.communicate()


def test_a_standard_error_that_is_closed_is_nothing_to_worry_about() -> None:
    saved = os.dup(2)
    try:
        os.close(2)
        show(b"lost")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
