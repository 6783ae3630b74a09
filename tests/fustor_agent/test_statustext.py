import msgspec

from fustor_agent.reports import AuditReport, SnapshotReport
from fustor_agent.statusmodel import (
    AgentInfo,
    AgentStatus,
    Counters,
    LastExit,
    PipeInfo,
    Totals,
    WorkerInfo,
)
from fustor_agent.statustext import format_status, summarize

AGENT = AgentInfo("1.0.0", 42, "running", "2026-01-01T00:00:00Z", 61.0, None, "http://127.0.0.1:8100")
PIPE = PipeInfo(
    id="watch",
    source_id="watch",
    sender_id="watch",
    state="running",
    phase="snapshot",
    role="leader",
    session_id="3ec0e8a4",
    current=False,
    not_current_because="the snapshot is running, 5 rows so far",
    problem=None,
    counters=Counters(acknowledged=1234),
    lag_s=0.0,
    snapshot=SnapshotReport(state="running", rows=5),
    audit=AuditReport(),
    totals=Totals(files=3, directories=1, bytes=1500),
)
WORKER = WorkerInfo("watch.source", "source", "watch", 43, "running", 0, 60.0, 9_000_000, 1.25)


def test_the_text_shows_agent_pipes_workers_reasons_and_faults() -> None:
    text = format_status(AgentStatus(AGENT, [WORKER], [PIPE]), ["something is wrong"], colour=False)
    assert text.splitlines() == [
        "agent 1.0.0 is running, pid 42, for 1 min 1 s, console http://127.0.0.1:8100/",
        "",
        "PIPE   STATE        PHASE     ROLE    PENDING  ACKNOWLEDGED  LOST  LAG",
        "watch  catching up  snapshot  leader  0        1,234         0     0.0 s",
        "",
        "watch holds 3 files, 1 directories, 1.5 kB",
        "watch is not current: the snapshot is running, 5 rows so far",
        "",
        "WORKER        STATE    PID  RESTARTS  UP         MEMORY  CPU",
        "watch.source  running  43   0         1 min 0 s  9.0 MB  1.2 %",
        "",
        "! something is wrong",
    ]


def test_a_worker_that_is_down_shows_its_last_words_and_one_that_recovered_does_not() -> None:
    last = LastExit("2026-01-01T00:00:00Z", 3, output="\n".join(map(str, range(20))) + "\n\x1b[2Jbang")
    down = msgspec.structs.replace(WORKER, state="backoff", last_exit=last)
    text = format_status(AgentStatus(AGENT, [down], []), [], colour=False)
    expected = ["watch.source wrote last:", *(f"  {number}" for number in range(11, 20)), "   [2Jbang"]
    assert text.splitlines()[-11:] == expected
    recovered = msgspec.structs.replace(WORKER, last_exit=last)
    assert "bang" not in format_status(AgentStatus(AGENT, [recovered], []), [], colour=False)


def test_colours_only_add_to_the_words() -> None:
    status = AgentStatus(AGENT, [WORKER], [PIPE])
    coloured = format_status(status, [], colour=True)
    assert "\x1b[32mrunning" in coloured
    plain = coloured
    for code in ("\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"):
        plain = plain.replace(code, "")
    assert [line.rstrip() for line in plain.splitlines()] == format_status(status, [], colour=False).splitlines()


def test_an_agent_that_starts_shows_just_that() -> None:
    agent = AgentInfo("", 42, "starting", "", 0.0)
    assert format_status(AgentStatus(agent), [], colour=False) == "the agent is starting, pid 42"


def test_the_summary_counts_what_is_current_and_names_what_is_wrong() -> None:
    current = msgspec.structs.replace(PIPE, id="a", current=True)
    off = msgspec.structs.replace(PIPE, id="b", enabled=False)
    broken = msgspec.structs.replace(PIPE, id="c", problem="Fusion does not answer")
    status = AgentStatus(AGENT, [WORKER], [current, off, broken])
    assert summarize(status) == '1 of 2 pipes are current; pipe "c": Fusion does not answer'
