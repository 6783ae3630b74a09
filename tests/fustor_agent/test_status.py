from typing import Any

import msgspec
import pytest

from fustor_agent.config import Config, FusionConfig, PipeConfig, SenderConfig, SourceConfig
from fustor_agent.reports import FusionReport, PusherReport, SnapshotReport, SourceReport, WorkerReport
from fustor_agent.status import compose
from fustor_agent.statusmodel import PipeInfo, Totals, decode, encode, find_faults
from fustor_supervisor.status import Death, SupervisorStatus, WorkerStatus

DONE = SnapshotReport(state="done", rows=7, finished_at="2026-01-01T00:00:00Z")
SOURCE = SourceReport(phase="realtime", captured=5, pending=1, not_current_because=None, snapshot=DONE, lag_s=0.5)
PUSHER = PusherReport(role="leader", session="3ec0e8a4", pushed=9, acknowledged=8)
VIEWS = FusionReport(views={"p.one": {"files": 3, "directories": 2, "bytes": 100}})

CONFIG = Config(
    fusion=FusionConfig(),
    sources=(SourceConfig(id="s", type="fs", config={"uri": "/data"}),),
    senders=(SenderConfig(id="here", type="fusion", config={"endpoint": "embedded"}),),
    pipes=(PipeConfig(id="p.one", source_id="s", sender_id="here"),),
)


def make_worker(name: str, report: WorkerReport | None, **fields: Any) -> WorkerStatus:
    detail = msgspec.msgpack.encode(report) if report is not None else b""
    return WorkerStatus(name=name, **{"state": "running", "up": True, "pid": 7, "detail": detail, **fields})


def make_supervisor(*workers: WorkerStatus) -> SupervisorStatus:
    started_at = "2026-01-01T00:00:00Z"
    return SupervisorStatus(pid=1, state="running", started_at=started_at, uptime_s=3, workers=list(workers))


def describe(
    source: SourceReport = SOURCE,
    pusher: PusherReport = PUSHER,
    *,
    config: Config = CONFIG,
    source_worker: dict[str, Any] | None = None,
    pusher_worker: dict[str, Any] | None = None,
) -> PipeInfo:
    workers = [
        make_worker("p.one.source", source, **(source_worker or {})),
        make_worker("p.one.pusher", pusher, **(pusher_worker or {})),
        make_worker("fusion", VIEWS),
    ]
    return compose(config, make_supervisor(*workers), version="1.0.0").pipes[0]


def change(report: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(report, **fields)


def test_a_pipe_whose_snapshot_is_accepted_and_whose_session_is_up_is_current() -> None:
    pipe = describe()
    assert (pipe.current, pipe.not_current_because, pipe.problem) == (True, None, None)
    assert (pipe.state, pipe.phase, pipe.role, pipe.session_id) == ("running", "realtime", "leader", "3ec0e8a4")
    assert (pipe.lag_s, pipe.snapshot, pipe.source_uri) == (0.5, DONE, "/data")
    assert pipe.totals == Totals(files=3, directories=2, bytes=100)


@pytest.mark.parametrize(
    ("fields", "because", "is_problem"),
    [
        ({"source_worker": {"state": "backoff", "last_error": "not mounted"}}, "in backoff: not mounted", True),
        ({"source_worker": {"state": "fatal", "last_error": "no access"}}, "in fatal: no access", True),
        ({"source_worker": {"state": "starting"}}, "the source is starting", False),
        ({"pusher_worker": {"state": "abandoned"}}, "the pusher is abandoned", True),
        ({"pusher_worker": {"state": "stopped"}}, "the pusher is stopped", False),
        ({"pusher": change(PUSHER, error="refused connection")}, "refused connection", True),
        ({"pusher": change(PUSHER, session=None, role=None)}, "no session with the receiver", False),
        ({"source": change(SOURCE, snapshot=SnapshotReport())}, "there was no snapshot yet", False),
        ({"source": change(SOURCE, snapshot=SnapshotReport(state="running", rows=1234))}, "1,234 rows so far", False),
        (
            {"source": change(SOURCE, snapshot=SnapshotReport("running", rows=34, compared=1200, progress=0.259))},
            "1,234 rows so far, 25 %",
            False,
        ),
        (
            {"source": change(SOURCE, snapshot=SnapshotReport("running", rows=34, progress=0.9, left_s=75.0))},
            "34 rows so far, 90 %, about 1 min 15 s left",
            False,
        ),
        ({"source": change(SOURCE, snapshot=SnapshotReport(state="failed"))}, "the last snapshot failed", True),
        ({"source": change(SOURCE, not_current_because="no watches left")}, "no watches left", True),
        ({"source": change(SOURCE, dirty=3, not_current_because="3 dirty")}, "3 dirty", False),
        ({"source": change(SOURCE, dirty=3)}, "3 places must be read again", False),
        ({"source": change(SOURCE, refused=2)}, "refused 2 rows for good", True),
    ],
)
def test_a_pipe_that_is_not_current_says_why_and_whether_that_is_a_fault(
    fields: dict[str, Any], because: str, is_problem: bool
) -> None:
    pipe = describe(**fields)
    assert not pipe.current
    assert because in (pipe.not_current_because or "")
    assert (pipe.problem is not None) is is_problem


def test_what_was_refused_before_the_last_snapshot_is_counted_and_no_fault_any_more() -> None:
    pipe = describe(change(SOURCE, refused=0), change(PUSHER, lost=2))
    assert (pipe.current, pipe.problem, pipe.counters.lost) == (True, None, 2)


def test_a_follower_needs_no_snapshot() -> None:
    pipe = describe(change(SOURCE, snapshot=SnapshotReport()), change(PUSHER, role="follower"))
    assert pipe.current


def test_a_pipe_that_is_switched_off_is_neither_current_nor_a_fault() -> None:
    config = change(CONFIG, pipes=(PipeConfig(id="p.one", source_id="s", sender_id="here", enabled=False),))
    supervisor = make_supervisor()
    (pipe,) = compose(config, supervisor, version="1").pipes
    assert (pipe.state, pipe.current, pipe.problem, pipe.enabled) == ("stopped", False, None, False)


def test_counters_are_summed_over_the_workers_lives_where_they_grow_and_taken_as_they_are_where_they_do_not() -> None:
    pipe = describe(
        change(SOURCE, dirty=2, overflows=1),
        source_worker={"totals": {"captured": 105, "overflows": 4, "pending": 77}},
        pusher_worker={"totals": {"pushed": 99, "acknowledged": 98, "lost": 3}},
    )
    assert msgspec.to_builtins(pipe.counters) == {
        "captured": 105,
        "pushed": 99,
        "acknowledged": 98,
        "pending": 1,
        "dirty": 2,
        "overflows": 4,
        "lost": 3,
    }


@pytest.mark.parametrize("detail", [b"", b"\xc1", msgspec.msgpack.encode(PUSHER), msgspec.msgpack.encode({"a": 1})])
def test_a_worker_that_says_nothing_or_nonsense_breaks_nothing(detail: bytes) -> None:
    pipe = describe(source_worker={"detail": detail})
    assert pipe.not_current_because == "there was no snapshot yet"


@pytest.mark.parametrize(("failures", "is_fault"), [(0, False), (1, False), (2, True)])
def test_a_worker_that_starts_again_and_again_is_a_fault_also_while_it_starts(failures: int, is_fault: bool) -> None:
    source = {"state": "starting", "failures": failures, "last_error": "no such device", "pid": 7}
    problem = describe(source_worker=source).problem
    assert (problem is not None and "no such device" in problem) == is_fault


def test_the_password_in_a_uri_is_not_shown() -> None:
    sources = (SourceConfig(id="s", type="pg", config={"uri": "postgres://me:hunter2@db/x"}),)
    assert describe(config=change(CONFIG, sources=sources)).source_uri == "postgres://me:***@db/x"


def test_the_json_has_the_documented_shape() -> None:
    death = Death("2026-01-01T00:00:00Z", code=None, signal="SIGKILL", reason="r", uptime_s=1, generation=1, output="o")
    source_worker = make_worker("p.one.source", SOURCE, restarts=1, last_exit=death, deaths=[death])
    workers = [source_worker, make_worker("console", None)]
    supervisor = make_supervisor(*workers)
    status = msgspec.json.decode(encode(compose(CONFIG, supervisor, version="1.0.0")))
    assert {"version", "pid", "state", "started_at", "uptime_s"} <= set(status["agent"])
    source, console = status["workers"]
    assert {"name", "kind", "pipe", "pid", "state", "restarts", "uptime_s", "rss_bytes", "cpu_percent"} <= set(source)
    assert (source["kind"], source["pipe"], console["kind"], console["pipe"]) == ("source", "p.one", "console", None)
    shown = {"at": "2026-01-01T00:00:00Z", "code": None, "signal": "SIGKILL", "reason": "r", "uptime_s": 1.0}
    assert source["last_exit"] == {**shown, "asked": False, "output": "o"}
    assert source["deaths"] == [{**shown, "asked": False, "output": ""}]
    (pipe,) = status["pipes"]
    documented = "id source_id sender_id state phase role session_id current not_current_because counters lag_s"
    assert {*documented.split(), "snapshot", "audit"} <= set(pipe)
    assert set(pipe["counters"]) == {"captured", "pushed", "acknowledged", "pending", "dirty", "overflows", "lost"}
    assert set(pipe["snapshot"]) == {"state", "rows", "finished_at", "compared", "progress", "left_s"}


def test_what_was_encoded_is_decoded_again() -> None:
    supervisor = make_supervisor(make_worker("fusion", VIEWS))
    status = compose(CONFIG, supervisor, version="1")
    assert decode(encode(status)) == status


def test_faults_name_each_pipe_once_and_workers_of_no_pipe() -> None:
    workers = [
        make_worker("p.one.source", SOURCE, state="backoff", last_error="not mounted"),
        make_worker("p.one.pusher", PUSHER, state="backoff"),
        make_worker("console", None, state="fatal", last_error="port taken"),
    ]
    supervisor = make_supervisor(*workers)
    assert find_faults(compose(CONFIG, supervisor, version="1")) == [
        'pipe "p.one": the source is in backoff: not mounted',
        "console: fatal: port taken",
    ]
