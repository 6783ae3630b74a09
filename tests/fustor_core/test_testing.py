"""The conformance kit must find drivers wanting, not only pass good ones."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from fustor_core.clock import IndexClock
from fustor_core.drivers import (
    Barrier,
    Batch,
    Heartbeat,
    Item,
    PusherContext,
    PusherDriver,
    RefusedRow,
    Role,
    Session,
    SourceContext,
    SourceDriver,
    SourceStatus,
)
from fustor_core.testing import SourceRig, inspect_pusher, inspect_source, pusher_contract, source_contract
from fustor_event_model import AuditEnd, AuditStart, InsertEvent, MessageSource, SnapshotEnd, UpdateEvent


class Nothing(msgspec.Struct):
    """A configuration with nothing in it."""


class GoodPusher(PusherDriver):
    Config = Nothing

    def open_session(self) -> Session:
        return Session(id="s", role=Role.LEADER, timeout_s=1.0)

    def heartbeat(self, session: Session, *, can_realtime: bool) -> Heartbeat:
        return Heartbeat(role=Role.LEADER)

    def close_session(self, session: Session) -> None: ...

    def push(self, session: Session, batch: Batch) -> Sequence[RefusedRow]:
        return []

    def test_connection(self) -> None: ...

    def close(self) -> None: ...


class RefusingPusher(GoodPusher):
    def push(self, session: Session, batch: Batch) -> Sequence[RefusedRow]:
        return [RefusedRow(b"/x", "never")]


class ForgetfulPusher(GoodPusher):
    """Takes nothing any more once an audit was over."""

    over = False

    def end_audit(self, session: Session, *, complete: bool) -> None:
        self.over = True

    def push(self, session: Session, batch: Batch) -> Sequence[RefusedRow]:
        return [RefusedRow(b"/x", "an audit is over")] if self.over else []

    def get_sentinel_tasks(self, session: Session) -> Sequence[bytes]:
        return [b"/../etc/passwd"]


class UnfinishedPusher(GoodPusher):
    Config = dict  # type: ignore[assignment]

    def heartbeat(self, session: Session) -> Heartbeat:  # type: ignore[override]
        return Heartbeat(role=Role.LEADER)


class ListSource(SourceDriver):
    """A source whose rows are a list of numbers in memory."""

    Config = Nothing
    schema = "numbers"
    repeats: ClassVar[bool] = True

    def __init__(self, config: Any, context: SourceContext) -> None:
        super().__init__(config, context)
        self.numbers = [1]
        self.queue: list[Item | Barrier] = []
        self.watching = False
        self.rows = 0

    def event(self, number: int, lane: MessageSource) -> Item:
        self.rows += 1
        return UpdateEvent(
            index=self.context.clock.stamp(),
            message_source=lane,
            event_schema="numbers",
            table="t",
            rows=[msgspec.Raw(msgspec.msgpack.encode([number]))],
            position=b"%d" % number,
        )

    def add(self, number: int) -> None:
        self.numbers.append(number)
        if self.watching:
            self.queue.append(self.event(number, MessageSource.REALTIME))

    def get_message_iterator(self) -> Iterator[Item | Barrier | None]:
        while True:
            yield self.queue.pop(0) if self.queue else None

    def get_snapshot_iterator(self) -> Iterator[Item | None]:
        self.watching = True
        for number in self.numbers:
            yield self.event(number, MessageSource.SNAPSHOT)
        yield SnapshotEnd(
            index=self.context.clock.stamp(), message_source=MessageSource.SNAPSHOT, complete=True, position=b"e"
        )

    audit_lane: ClassVar[MessageSource] = MessageSource.AUDIT

    def get_audit_iterator(self, kind: str) -> Iterator[Item | None]:
        stamp, lane = self.context.clock.stamp, MessageSource.AUDIT
        yield AuditStart(index=stamp(), message_source=lane, kind=kind)
        for number in self.numbers:
            yield self.event(number, self.audit_lane)
        yield AuditEnd(index=stamp(), message_source=lane, complete=True)

    def follow(self) -> None:
        self.watching = True

    def scan_path(self, path: bytes, *, recursive: bool, job_id: str) -> Iterator[Item | None]:
        yield None

    def rescan(self, path: bytes, *, recursive: bool = True) -> None: ...

    def barrier(self, token: str) -> None:
        self.queue.append(Barrier(token))

    def acknowledge(self, position: bytes) -> None: ...

    def recover(self, position: bytes) -> None:
        if self.repeats:
            self.queue.append(self.event(int(position), MessageSource.REALTIME))

    def wait(self, timeout_s: float) -> None: ...

    def wake(self) -> None: ...

    def get_status(self) -> SourceStatus:
        return SourceStatus(rows=self.rows)

    def close(self) -> None: ...

    @classmethod
    def test_connection(cls, config: Any) -> None: ...

    @classmethod
    def check_privileges(cls, config: Any) -> Sequence[str]:
        return []

    @classmethod
    def get_available_fields(cls) -> frozenset[str]:
        return frozenset({"number"})


class ListRig(SourceRig):
    def __init__(self, directory: Path) -> None:
        self.driver: ListSource | None = None

    def make(self, context: SourceContext) -> SourceDriver:
        self.driver = ListSource(Nothing(), context)
        return self.driver

    def change(self) -> None:
        assert self.driver is not None
        self.driver.add(2)


class TestGoodPusher(pusher_contract(lambda context: GoodPusher(Nothing(), context))):  # type: ignore[misc]
    pass


class TestGoodSource(source_contract(ListRig)):  # type: ignore[misc]
    pass


def test_a_pusher_that_refuses_rows_fails(tmp_path: Path) -> None:
    tests = pusher_contract(lambda context: RefusingPusher(Nothing(), context))()
    with pytest.raises(AssertionError):
        tests.test_every_lane_is_accepted(tmp_path)


def test_a_pusher_that_is_confused_by_an_audit_or_has_looks_outside_the_root_fails(tmp_path: Path) -> None:
    tests = pusher_contract(lambda context: ForgetfulPusher(Nothing(), context))()
    with pytest.raises(AssertionError):
        tests.test_an_audit_is_taken_between_its_beginning_and_its_end(tmp_path)
    with pytest.raises(AssertionError):
        tests.test_sentinel_tasks_are_absolute_paths_and_what_is_found_is_taken(tmp_path)


def test_a_source_whose_audit_leaves_its_lane_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ListSource, "audit_lane", MessageSource.REALTIME)
    with pytest.raises(AssertionError):
        source_contract(ListRig)().test_an_audit_stands_between_its_signals_on_its_lane_if_there_is_one(tmp_path)


def test_a_source_that_forgets_what_is_to_be_recovered_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ListSource, "repeats", False)
    monkeypatch.setattr("fustor_core.testing.sources.PATIENCE_S", 0.05)
    with pytest.raises(AssertionError, match="nothing of the kind"):
        source_contract(ListRig)().test_what_will_never_be_acknowledged_is_reported_again(tmp_path)


def test_inspection_says_what_a_class_lacks() -> None:
    assert inspect_pusher(GoodPusher) == []
    assert inspect_source(ListSource) == []
    problems = "\n".join(inspect_pusher(UnfinishedPusher))
    assert "Config is not a msgspec.Struct" in problems
    assert "heartbeat does not take can_realtime" in problems
    assert "is not a subclass" in inspect_pusher(str)[0]
    abstract = inspect_source(type("Empty", (SourceDriver,), {"Config": Nothing}))
    assert any("wait is not implemented" in line for line in abstract)
    nameless = type("Nameless", (ListSource,), {"schema": ""})
    assert "schema is not a name" in inspect_source(nameless)[0]


def test_the_clock_of_the_tests_is_an_index_clock(tmp_path: Path) -> None:
    source = ListSource(
        Nothing(), SourceContext(pipe_id="p", clock=IndexClock(0, clock_ns=lambda: 1), state_dir=tmp_path)
    )
    source.follow()
    source.add(5)
    item = next(source.get_message_iterator())
    assert isinstance(item, UpdateEvent | InsertEvent)
    assert item.index == 1


def test_a_context_is_what_a_pusher_gets(tmp_path: Path) -> None:
    context = PusherContext(pipe_id="p", schema="fs", agent_id="a", state_dir=tmp_path)
    assert GoodPusher(Nothing(), context).context is context
