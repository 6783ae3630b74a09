"""What every pusher must do."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from fustor_core.drivers import Batch, NotTaken, PusherContext, PusherDriver, Role, Session
from fustor_core.errors import FustorError, SessionLost
from fustor_core.testing.inspection import inspect_pusher
from fustor_event_model import (
    AuditEnd,
    AuditStart,
    DeleteEvent,
    FsItem,
    FsPath,
    FsRow,
    JobDone,
    Listed,
    MessageSource,
    SnapshotEnd,
    UpdateEvent,
    encode_items,
)

MakePusher = Callable[[PusherContext], PusherDriver]


AUDIT, SENTINEL = MessageSource.AUDIT, MessageSource.SENTINEL


def pusher_contract(make: MakePusher) -> type:
    """
    Make the tests of the pusher contract for one driver.

    Args:
        make: Gives a driver that talks to a receiver which is there and accepts `fs` rows.

    Returns:
        A class of tests; assign it to a name that begins with `Test` in a test module.
    """

    class Contract(_PusherContract):
        def make(self, context: PusherContext) -> PusherDriver:
            return make(context)

    return Contract


class _PusherContract:
    """The tests; `tmp_path` is pytest's."""

    def make(self, context: PusherContext) -> PusherDriver:
        raise NotImplementedError

    @contextlib.contextmanager
    def _driver(self, tmp_path: Path) -> Iterator[PusherDriver]:
        context = PusherContext(pipe_id="pipe", schema="fs", agent_id="agent", state_dir=tmp_path)
        driver = self.make(context)
        try:
            yield driver
        finally:
            driver.close()

    def test_the_class_is_as_the_contract_says(self, tmp_path: Path) -> None:
        with self._driver(tmp_path) as driver:
            assert inspect_pusher(type(driver)) == []

    def test_the_receiver_can_be_tested_without_a_session(self, tmp_path: Path) -> None:
        with self._driver(tmp_path) as driver:
            driver.test_connection()

    def test_a_session_has_an_id_a_role_and_a_time_out(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (_, session):
            assert session.id
            assert session.role in Role
            assert session.timeout_s > 0

    def test_a_heartbeat_tells_the_role(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session):
            assert driver.heartbeat(session, can_realtime=False).role in Role
            assert driver.heartbeat(session, can_realtime=True).role in Role

    def test_every_lane_is_accepted(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session):
            for lane in MessageSource:
                assert_accepted(driver.push(session, make_batch(_phase(lane), lane=lane)))

    def test_a_batch_of_nothing_is_accepted(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session):
            assert_accepted(driver.push(session, make_batch([])))

    def test_names_are_any_bytes(self, tmp_path: Path) -> None:
        names = (b"caf\xe9", b"new\nline", b"\x01\x7f\xff", "ü€😀".encode(), b"a\\b", b"?*[", b" ")
        rows = [make_row(name) for name in names]
        with self._session(tmp_path) as (driver, session):
            event = UpdateEvent(
                index=1,
                message_source=MessageSource.REALTIME,
                event_schema="fs",
                table="files",
                rows=rows,
                prefix=b"/d\xe9/",
            )
            assert_accepted(driver.push(session, make_batch([event])))

    def test_a_batch_may_be_pushed_again_where_the_session_commits(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session):
            if session.commits:
                batch = make_batch(_phase(MessageSource.REALTIME))
                assert_accepted(driver.push(session, batch))
                assert_accepted(driver.push(session, batch))

    def test_a_session_is_resumed_under_its_id_or_lost(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session), contextlib.suppress(SessionLost):
            assert driver.resume_session(session).id == session.id

    def test_heartbeats_and_pushes_run_in_threads_of_their_own(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session):
            failures: list[FustorError] = []

            def beat() -> None:
                try:
                    for _ in range(20):
                        driver.heartbeat(session, can_realtime=True)
                except FustorError as err:
                    failures.append(err)

            thread = threading.Thread(target=beat)
            thread.start()
            for seq in range(1, 21):
                driver.push(session, make_batch(_phase(MessageSource.REALTIME), seq=seq))
            thread.join()
            assert failures == []

    def test_commands_are_polled_where_the_session_has_them(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session):
            if session.has_commands:
                assert len(driver.poll_commands(session, wait_s=0.01)) == 0

    def test_optional_calls_are_harmless(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session):
            driver.report_barrier(session, "token", error=None)
            assert isinstance(driver.get_needed_fields(), frozenset)

    def test_an_audit_is_taken_between_its_beginning_and_its_end(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session):
            for seq, complete in enumerate((True, False), 1):
                driver.begin_audit(session)
                assert_accepted(driver.push(session, make_batch(_phase(AUDIT), lane=AUDIT, seq=seq)))
                driver.end_audit(session, complete=complete)
            assert_accepted(driver.push(session, make_batch(_phase(MessageSource.REALTIME))))

    def test_the_end_of_an_audit_that_began_in_a_predecessor_is_taken(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session):
            driver.end_audit(session, complete=False)

    def test_sentinel_tasks_are_absolute_paths_and_what_is_found_is_taken(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session):
            for path in driver.get_sentinel_tasks(session):
                assert path.startswith(b"/")
                assert b".." not in path.split(b"/")
            assert_accepted(driver.push(session, make_batch(_phase(SENTINEL), lane=SENTINEL)))

    def test_closing_twice_is_harmless(self, tmp_path: Path) -> None:
        with self._session(tmp_path) as (driver, session):
            driver.close_session(session)
            driver.close_session(session)
            driver.close()

    @contextlib.contextmanager
    def _session(self, tmp_path: Path) -> Iterator[tuple[PusherDriver, Session]]:
        with self._driver(tmp_path) as driver:
            session = driver.open_session()
            try:
                yield driver, session
            finally:
                driver.close_session(session)


def assert_accepted(not_taken: Sequence[NotTaken]) -> None:
    """Check that a push left nothing out."""
    assert list(not_taken) == []


def make_row(path: bytes, *, mode: int = 0o100644, size: int = 1, mtime_ns: int = 1_700_000_000_000_000_000) -> FsRow:
    """Make an `fs` row with what does not matter filled in."""
    return FsRow(
        path=path,
        size=size,
        mtime_ns=mtime_ns,
        ctime_ns=mtime_ns,
        mode=mode,
        uid=0,
        gid=0,
        device=1,
        inode=2,
        nlink=1,
    )


def make_batch(
    items: Sequence[FsItem], *, lane: MessageSource = MessageSource.REALTIME, seq: int = 1, epoch: int = 1
) -> Batch:
    """Make a batch of items."""
    rows = sum(len(getattr(item, "rows", ())) for item in items)
    return Batch(epoch=epoch, lane=lane, seq=seq, items=msgspec.Raw(encode_items(items)), rows=rows)


def _phase(lane: MessageSource) -> list[FsItem]:
    """Make what a source sends on a lane, with all its signals."""
    update: FsItem = UpdateEvent(
        index=10,
        message_source=lane,
        event_schema="fs",
        table="files",
        rows=[make_row(b"dir", mode=0o040755), make_row(b"file")],
        prefix=b"/",
    )
    gone: FsItem = DeleteEvent(
        index=11, message_source=lane, event_schema="fs", table="files", rows=[FsPath(b"gone")], prefix=b"/"
    )
    listed: FsItem = Listed(index=9, message_source=lane, path=b"/")
    if lane is MessageSource.SNAPSHOT:
        return [update, listed, SnapshotEnd(index=12, message_source=lane, complete=True)]
    if lane is MessageSource.AUDIT:
        start: FsItem = AuditStart(index=8, message_source=lane, kind="full")
        return [start, update, gone, listed, AuditEnd(index=12, message_source=lane, complete=True)]
    if lane is MessageSource.ON_DEMAND:
        return [update, gone, JobDone(index=12, message_source=lane, job_id="0a1b2c3d", path=b"/")]
    return [update, gone, listed]
