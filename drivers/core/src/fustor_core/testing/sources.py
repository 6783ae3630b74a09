"""What every source must do."""

import abc
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fustor_core.clock import IndexClock
from fustor_core.drivers import AUDIT_KINDS, Barrier, Item, SourceContext, SourceDriver
from fustor_core.errors import Unavailable
from fustor_core.testing.inspection import inspect_source
from fustor_event_model import AuditEnd, AuditStart, MessageSource, SnapshotEnd
from fustor_event_model.models import EventBase

PATIENCE_S = 30.0
"""After this long a source that says nothing has failed; a good one needs milliseconds."""


class SourceRig(abc.ABC):
    """A source that the tests may change; made anew for each test, in a directory of its own."""

    @abc.abstractmethod
    def make(self, context: SourceContext) -> SourceDriver:
        """Make a driver for the source."""

    @abc.abstractmethod
    def change(self) -> None:
        """Make one change that a driver must report."""


def source_contract(rig: Callable[[Path], SourceRig]) -> type:
    """
    Make the tests of the source contract for one driver.

    Args:
        rig: Makes a source with at least one row below a directory that is given.

    Returns:
        A class of tests; assign it to a name that begins with `Test` in a test module.
    """

    class Contract(_SourceContract):
        def rig(self, directory: Path) -> SourceRig:
            return rig(directory)

    return Contract


class _SourceContract:
    """The tests; `tmp_path` is pytest's."""

    def rig(self, directory: Path) -> SourceRig:
        raise NotImplementedError

    @contextlib.contextmanager
    def _running(self, tmp_path: Path) -> Iterator[tuple[SourceRig, SourceDriver]]:
        (tmp_path / "source").mkdir()
        (tmp_path / "state").mkdir(mode=0o700)
        rig = self.rig(tmp_path / "source")
        driver = rig.make(SourceContext(pipe_id="pipe", clock=IndexClock(time.time_ns()), state_dir=tmp_path / "state"))
        try:
            yield rig, driver
        finally:
            driver.close()

    def test_the_class_is_as_the_contract_says(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (_, driver):
            assert inspect_source(type(driver)) == []

    def test_it_can_be_tested_and_describes_itself(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (_, driver):
            type(driver).test_connection(driver.config)
            assert all(isinstance(line, str) for line in type(driver).check_privileges(driver.config))
            assert type(driver).get_available_fields()

    def test_nothing_comes_before_it_is_told_to_watch(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (rig, driver):
            rig.change()
            messages = driver.get_message_iterator()
            assert [next(messages) for _ in range(10)] == [None] * 10

    def test_a_snapshot_ends_complete_and_stays_on_its_lane(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (_, driver):
            items = take_snapshot(driver)
            assert isinstance(items[-1], SnapshotEnd)
            assert items[-1].complete
            assert {item.message_source for item in items} == {MessageSource.SNAPSHOT}
            assert any(isinstance(item, EventBase) and item.rows for item in items)
            assert not any(isinstance(item, SnapshotEnd) for item in items[:-1])

    def test_a_change_after_the_snapshot_is_reported(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (rig, driver):
            newest = max(item.index for item in take_snapshot(driver))
            rig.change()
            event = wait_for(driver, driver.get_message_iterator(), is_event)
            assert isinstance(event, EventBase)
            assert event.index > newest

    def test_a_change_is_reported_to_one_who_only_follows(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (rig, driver):
            messages = driver.get_message_iterator()
            driver.follow()
            settle(driver, messages)
            rig.change()
            assert wait_for(driver, messages, is_event) is not None

    def test_a_barrier_comes_behind_what_happened_before_it(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (rig, driver):
            take_snapshot(driver)
            messages = driver.get_message_iterator()
            settle(driver, messages)
            rig.change()
            ask_for_barrier(driver, "token")
            seen: list[Item | Barrier] = []
            wait_for(driver, messages, lambda item: isinstance(item, Barrier), seen)
            assert seen[-1] == Barrier("token")
            assert any(is_event(item) for item in seen[:-1])

    def test_what_will_never_be_acknowledged_is_reported_again(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (rig, driver):
            acknowledge(driver, take_snapshot(driver))
            messages = driver.get_message_iterator()
            rig.change()
            lost = wait_for(driver, messages, lambda item: is_event(item) and item_position(item) is not None)
            driver.recover(item_position(lost) or b"")
            again = wait_for(driver, messages, is_event)
            assert isinstance(again, EventBase)
            assert isinstance(lost, EventBase)
            assert again.index > lost.index

    def test_a_snapshot_can_be_cut_off_and_taken_again(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (_, driver):
            snapshot = driver.get_snapshot_iterator()
            next(snapshot)
            close = getattr(snapshot, "close", None)
            assert close is not None, "a snapshot must be a generator, so that it can be closed"
            close()
            last = take_snapshot(driver)[-1]
            assert isinstance(last, SnapshotEnd)
            assert last.complete

    def test_an_audit_stands_between_its_signals_on_its_lane_if_there_is_one(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (_, driver):
            acknowledge(driver, take_snapshot(driver))
            settle(driver, driver.get_message_iterator())
            for kind in AUDIT_KINDS:
                with contextlib.suppress(NotImplementedError):
                    first, *between, last = take(driver, driver.get_audit_iterator(kind))
                    assert isinstance(first, AuditStart)
                    assert first.kind == kind
                    assert isinstance(last, AuditEnd)
                    assert last.complete
                    assert not any(isinstance(item, AuditStart | AuditEnd) for item in between)
                    assert {item.message_source for item in (first, *between, last)} == {MessageSource.AUDIT}

    def test_an_audit_that_is_closed_before_its_end_hinders_no_other(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (_, driver):
            acknowledge(driver, take_snapshot(driver))
            with contextlib.suppress(NotImplementedError):
                audit = driver.get_audit_iterator("full")
                next(audit)
                close = getattr(audit, "close", None)
                assert close is not None, "an audit must be a generator, so that it can be closed"
                close()
                settle(driver, driver.get_message_iterator())
                last = take(driver, driver.get_audit_iterator("full"))[-1]
                assert isinstance(last, AuditEnd)
                assert last.complete

    def test_a_sentinel_check_stays_on_its_lane_whatever_is_asked_for(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (rig, driver):
            take_snapshot(driver)
            rig.change()
            items = take(driver, driver.perform_sentinel_check([b"/", b"/no/such", b"/\xff", b""]))
            assert {item.message_source for item in items} <= {MessageSource.SENTINEL}
            settle(driver, driver.get_message_iterator())

    def test_wake_ends_a_wait_from_another_thread(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (_, driver):
            take_snapshot(driver)
            settle(driver, driver.get_message_iterator())
            thread = threading.Thread(target=driver.wake)
            thread.start()
            started_s = time.monotonic()
            driver.wait(PATIENCE_S)
            thread.join()
            assert time.monotonic() - started_s < PATIENCE_S

    def test_its_status_adds_up(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (_, driver):
            items = take_snapshot(driver)
            assert driver.get_status().rows >= sum(len(one.rows) for one in items if isinstance(one, EventBase))

    def test_closing_twice_is_harmless(self, tmp_path: Path) -> None:
        with self._running(tmp_path) as (_, driver):
            driver.close()


def is_event(item: Item | Barrier) -> bool:
    """Tell whether an item carries rows."""
    return isinstance(item, EventBase) and bool(item.rows)


def item_position(item: Item | Barrier) -> bytes | None:
    """Return an item's position; barriers have none."""
    return None if isinstance(item, Barrier) else item.position


def take_snapshot(driver: SourceDriver) -> list[Item]:
    """Take one snapshot to its end."""
    return take(driver, driver.get_snapshot_iterator())


def take(driver: SourceDriver, walk: Iterator[Item | None]) -> list[Item]:
    """Take all that a walk says."""
    items: list[Item] = []
    deadline_s = time.monotonic() + PATIENCE_S
    for item in walk:
        assert time.monotonic() < deadline_s, "the walk does not end"
        if item is not None:
            items.append(item)
        else:
            driver.wait(0.01)
    return items


def acknowledge(driver: SourceDriver, items: list[Item]) -> None:
    """Acknowledge all items that have a position."""
    for item in items:
        if item.position is not None:
            driver.acknowledge(item.position)


def wait_for(
    driver: SourceDriver,
    messages: Iterator[Item | Barrier | None],
    wanted: Callable[[Item | Barrier], bool],
    seen: list[Item | Barrier] | None = None,
) -> Item | Barrier:
    """Take messages until one is wanted; `seen` gets all of them."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        item = next(messages)
        if item is None:
            driver.wait(0.1)
            continue
        if seen is not None:
            seen.append(item)
        if wanted(item):
            return item
    raise AssertionError(f"nothing of the kind came within {PATIENCE_S:g} s")


def settle(driver: SourceDriver, messages: Iterator[Item | Barrier | None]) -> None:
    """Take and acknowledge messages until the source is current and quiet."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        item = next(messages)
        if item is not None:
            if not isinstance(item, Barrier):
                acknowledge(driver, [item])
            continue
        status = driver.get_status()
        if status.not_current_because is None and not status.pending and not status.dirty:
            return
        driver.wait(0.05)
    raise AssertionError(f"the source does not become current: {driver.get_status().not_current_because}")


def ask_for_barrier(driver: SourceDriver, token: str) -> None:
    """Ask for a barrier until the source can promise it."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return driver.barrier(token)
        except Unavailable:
            assert time.monotonic() < deadline_s, "the source never grants a barrier"
            driver.wait(0.05)
