import datetime
import errno
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fustor_agent.backgroundcheck import BackgroundCheck
from fustor_agent.config import Config, Draft, SourceConfig, read
from fustor_agent.reload import Change, ReloadOutcome, read_outcome, write_outcome
from fustor_agent.reloading import Reloading
from fustor_core.program.errors import ProgramError
from fustor_core.program.problems import Problem
from fustor_supervisor.messages import Request
from fustor_supervisor.notifier import Notifier
from fustor_supervisor.requests import RequestResult
from fustor_supervisor.testing import is_process_gone
from servicemanager import ServiceManager
from waiting import until

InstallDriver = Callable[[str, str, str], None]

TAKEN = ReloadOutcome(id=0, ok=True, differences=("pipes[a] is new",), changes=(Change("start", "a.source"),))

SLOW = """
import os, time, msgspec
from fustor_core.drivers import PusherDriver
class Driver(PusherDriver):
    class Config(msgspec.Struct):
        marks: str
        def __post_init__(self):
            open(self.marks + "/" + str(os.getpid()), "w").close()
            if os.path.exists(self.marks + "/hang"): time.sleep(600)
    def open_session(self): ...
    def heartbeat(self, session, *, can_realtime): ...
    def close_session(self, session): ...
    def push(self, session, batch): ...
    def test_connection(self): ...
    def close(self): ...
"""


class FakeDesk:
    """Stands in for the supervisor: one watched descriptor, and the answers."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}
        self.answers: list[tuple[int, bool, str]] = []

    def watch(self, descriptor: int, on_readable: Callable[[], None]) -> None:
        self.watched[descriptor] = on_readable

    def unwatch(self, descriptor: int) -> None:
        self.watched.pop(descriptor, None)

    def answer(self, request: Request, result: RequestResult) -> None:
        self.answers.append((request.id, result.ok, result.result))

    def turn_until_idle(self) -> None:
        while self.watched:
            for descriptor in select.select(list(self.watched), [], [], 60)[0]:
                self.watched[descriptor]()


class Bench:
    """A reload and what surrounds it."""

    def __init__(self, path: Path, manager: ServiceManager) -> None:
        self.path = path
        self.desk = FakeDesk()
        self.draft = Draft(config=Config())
        self.read_error: Exception | None = None
        self.apply_error: Exception | None = None
        self.taken: list[Config] = []
        self.manager = manager
        self.reloading = Reloading(
            path, self.desk, Notifier(manager.environment), read=self._read, take_over=self._take_over
        )

    def reload(self) -> ReloadOutcome | None:
        self.reloading.begin()
        self.desk.turn_until_idle()
        return read_outcome(self.path)

    def _read(self) -> Draft:
        if self.read_error is not None:
            raise self.read_error
        return self.draft

    def _take_over(self, config: Config) -> ReloadOutcome:
        if self.apply_error is not None:
            raise self.apply_error
        self.taken.append(config)
        return TAKEN


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ServiceManager(tmp_path / "notify") as manager:
        yield Bench(tmp_path / "reload.json", manager)


def ask(number: int) -> Request:
    return Request(generation=1, id=number, action="reload", target="")


def test_a_right_configuration_is_taken_over_and_its_changes_are_told(bench: Bench) -> None:
    assert bench.reload() == ReloadOutcome(id=1, ok=True, differences=TAKEN.differences, changes=TAKEN.changes)
    assert bench.manager.states() == ["RELOADING", "READY"]
    assert bench.reload() == ReloadOutcome(id=2, ok=True, differences=TAKEN.differences, changes=TAKEN.changes)
    assert bench.taken == [bench.draft.config] * 2


def test_what_is_wrong_is_told_and_nothing_is_taken_over(bench: Bench) -> None:
    bench.draft = Draft(problems=(Problem("f", 1, "a", "", "it is wrong", ""),))
    assert bench.reload() == ReloadOutcome(id=1, ok=False, problems=("f:1: a: it is wrong",), code=5)
    assert bench.taken == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProgramError("the port is taken"), "the port is taken"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), '"/x": No space left on device'),
        (RuntimeError("unforeseen"), "RuntimeError: unforeseen; see the log"),
    ],
)
@pytest.mark.parametrize("when", ["read_error", "apply_error"])
def test_whatever_goes_wrong_is_the_outcome(bench: Bench, when: str, error: Exception, expected: str) -> None:
    setattr(bench, when, error)
    assert bench.reload() == ReloadOutcome(id=1, ok=False, problems=(expected,), code=1)
    assert bench.taken == []


def test_a_configuration_that_takes_for_ever_to_read_holds_nothing_up_and_is_given_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    check = BackgroundCheck(lambda: read(tmp_path / "config.yaml", {}), limit_s=0.1)
    while not check.take():
        pass
    with pytest.raises(ProgramError, match=r"was ended \(it took more than 0.1 s\)"):
        check.finish()


def test_a_configuration_arrives_whatever_it_holds(bench: Bench) -> None:
    odd = {"day": datetime.date(2026, 1, 2), "number": 1 << 70, "bytes": b"\xff", "text": "\udcff", 3: None}
    bench.draft = Draft(config=Config(sources=(SourceConfig("a", "strange", odd),), lines={("sources", 0): 7}))
    bench.reload()
    assert bench.taken == [bench.draft.config]


def test_an_outcome_that_cannot_be_written_is_told_to_whoever_asked(bench: Bench, tmp_path: Path) -> None:
    bench = Bench(tmp_path / "missing" / "reload.json", bench.manager)
    bench.reloading.begin(ask(7))
    bench.desk.turn_until_idle()
    assert bench.desk.answers == [(7, True, "pipes[a] is new\nstart a.source")]


def test_on_a_full_disk_the_old_outcome_gives_its_place_to_the_new_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def fail_while_full(descriptor: int) -> None:
        if bench.path.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    write_outcome(bench.path, ReloadOutcome(id=4, ok=True))
    monkeypatch.setattr(os, "fsync", fail_while_full)
    assert bench.reload() == ReloadOutcome(id=5, ok=True, differences=TAKEN.differences, changes=TAKEN.changes)


def test_a_driver_that_hangs_holds_nothing_up_and_the_next_reload_begins_anew(
    bench: Bench, tmp_path: Path, install_driver: InstallDriver
) -> None:
    install_driver("pusher", "slow", SLOW)
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "hang").touch()
    file = tmp_path / "c.yaml"
    file.write_text(f"senders: [{{id: a, type: slow, config: {{marks: {marks}}}}}]\n")
    bench.draft = read(file, {})
    bench.reloading.begin(ask(1))
    hanging = until(lambda: [int(mark.name) for mark in marks.glob("[0-9]*")], within_s=60, what="the check to hang")
    assert bench.desk.answers == []
    (marks / "hang").unlink()
    bench.reloading.begin(ask(2))
    until(lambda: is_process_gone(hanging[0]), within_s=60, what="the check that hung to be gone")
    bench.desk.turn_until_idle()
    answer = "pipes[a] is new\nstart a.source"
    assert bench.desk.answers == [(1, True, answer), (2, True, answer)]
    assert len(bench.taken) == 1


def test_a_reload_that_is_broken_off_leaves_no_child_and_no_descriptor(bench: Bench) -> None:
    before = os.listdir("/proc/self/fd")
    bench.reloading.begin()
    bench.reloading.close()
    assert bench.desk.watched == {}
    assert os.listdir("/proc/self/fd") == before
