import contextlib
import io
import os

import msgspec

from fustor_agent.progress import ProgressPrinter, format_progress
from fustor_agent.reports import AuditReport, SnapshotReport
from fustor_agent.statusmodel import AgentInfo, AgentStatus, Counters, PipeInfo, Totals

PIPE = PipeInfo(
    id="watch",
    source_id="watch",
    sender_id="watch",
    state="running",
    phase="snapshot",
    role="leader",
    session_id="3ec0e8a4",
    current=False,
    not_current_because="10 rows so far",
    problem=None,
    counters=Counters(),
    lag_s=0.0,
    snapshot=SnapshotReport(),
    audit=AuditReport(),
    totals=Totals(files=3, directories=1, bytes=1500),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make_status(because: str | None, **fields: object) -> AgentStatus:
    pipe = msgspec.structs.replace(PIPE, current=because is None, not_current_because=because, **fields)
    return AgentStatus(AgentInfo("1", 1, "running", "", 0.0), [], [pipe])


def test_progress_is_one_line_for_all_enabled_pipes() -> None:
    status = make_status("10 rows so far")
    off = msgspec.structs.replace(PIPE, id="off", enabled=False)
    both = msgspec.structs.replace(status, pipes=[*status.pipes, *make_status(None).pipes, off])
    assert format_progress(both) == "watch: 10 rows so far | watch: current, 3 files, 1 directories, 1.5 kB"


def test_a_terminal_gets_one_line_that_refreshes_and_ends_when_all_is_current() -> None:
    terminal = Terminal()
    printer = ProgressPrinter(terminal, clock=lambda: 0.0)
    for because in ("10 rows", "10 rows", "20 rows", None, None):
        printer.show(make_status(because))
    assert terminal.getvalue() == (
        "\r\x1b[Kwatch: 10 rows\r\x1b[Kwatch: 20 rows\r\x1b[Kwatch: current, 3 files, 1 directories, 1.5 kB\n"
    )


def test_a_file_gets_a_line_every_few_seconds_and_the_last_at_once() -> None:
    stream, now = io.StringIO(), [100.0]
    printer = ProgressPrinter(stream, clock=lambda: now[0])
    for because, at_s in (("10 rows", 0.0), ("20 rows", 1.0), ("30 rows", 3.5), (None, 3.6)):
        now[0] = 100.0 + at_s
        printer.show(make_status(because))
    assert stream.getvalue().splitlines() == [
        "watch: 10 rows",
        "watch: 30 rows",
        "watch: current, 3 files, 1 directories, 1.5 kB",
    ]


def test_once_current_only_a_new_gap_is_worth_a_line() -> None:
    stream, now = io.StringIO(), [0.0]
    printer = ProgressPrinter(stream, clock=lambda: now[0])
    printer.show(make_status(None))
    printer.show(make_status(None, totals=Totals(files=4)))
    now[0] = 60.0
    printer.show(make_status("the receiver is away"))
    printer.show(make_status(None))
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "watch: current",
        "watch: the receiver is away",
        "watch: current",
    ]


def test_a_reader_that_went_away_does_not_end_the_agent() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = open(writing, "w")  # noqa: SIM115  # closing it would raise what is tested here
    printer = ProgressPrinter(stream, clock=lambda: 0.0)
    printer.show(make_status("10 rows"))
    printer.show(make_status(None))
    with contextlib.suppress(BrokenPipeError):
        stream.close()
