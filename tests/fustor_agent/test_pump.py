"""
The pump on a real link, with a driver that yields what a test gives it.

The test is a generator that runs in the pump's own thread: whenever the pump has nothing
to do and calls the driver's `wait`, the test goes on until its next `yield`. So every
`yield` means "until the pump is idle", and nothing depends on time.
"""

import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from fake_runtime import FakeRuntime, Reported, make_channels
from fake_source import FakeSource, make_end, make_gone, make_unchanged

from fustor_agent import link
from fustor_agent.audits import Audits
from fustor_agent.lane import WINDOW_BATCHES
from fustor_agent.pump import SourceWorker
from fustor_agent.reports import AuditReport
from fustor_agent.sourcelink import FromLink
from fustor_core.drivers import (
    AuditCoverage,
    Barrier,
    Command,
    Differing,
    Item,
    Look,
    Role,
    Scan,
    SourceStatus,
    StartAudit,
    StartSnapshot,
    Sync,
    Verify,
)
from fustor_event_model import AuditEnd, Listed, MessageSource, decode_fs_items
from fustor_supervisor.channel import Channel, FrameDecoder
from fustor_supervisor.messages import Command as Order
from waiting import until

REALTIME, ON_DEMAND, SNAPSHOT, AUDIT = (
    MessageSource.REALTIME,
    MessageSource.ON_DEMAND,
    MessageSource.SNAPSHOT,
    MessageSource.AUDIT,
)
DEADLINE_S = 20.0
LARGE = 1_000
"""Rows of a batch behind which another is sent before it is acknowledged, as far as the window goes."""
_decoder = msgspec.msgpack.Decoder(link.FromSource)

Steps = Iterator[None]


class OtherEnd:
    """The pusher's end of one link."""

    def __init__(self, epoch: int, sock: socket.socket) -> None:
        self.epoch = epoch
        self._sock = sock
        self._channel = Channel(sock)
        self._frames = FrameDecoder()

    def hear(self) -> list[link.FromSource]:
        """Return what the source has sent since the last call."""
        heard: list[link.FromSource] = []
        while select.select([self._sock], [], [], 0)[0]:
            data = self._sock.recv(1 << 16)
            if not data:
                break
            heard += map(_decoder.decode, self._frames.feed(data))
        return heard

    def hear_batches(self) -> list[link.BatchMessage]:
        return [message for message in self.hear() if isinstance(message, link.BatchMessage)]

    def send(self, message: link.FromPusher) -> None:
        self._channel.send(link.encode(message))

    def close(self) -> None:
        self._channel.close()


class Pump:
    """A source worker, and the script that is played whenever it is idle."""

    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.driver = FakeSource(self._go_on)
        self.worker = SourceWorker(self.runtime, self.driver, Audits())  # type: ignore[arg-type]
        self.ends: list[OtherEnd] = []
        self._steps: Steps = iter(())

    def play(self, steps: Steps) -> None:
        """Run the pump until the script is over, then let it stop."""
        self._steps = steps
        self.worker.run()

    def attach(self, epoch: int) -> OtherEnd:
        """Give the worker a new link; returns the other end."""
        ours, theirs = socket.socketpair()
        end = OtherEnd(epoch, theirs)
        self.ends.append(end)
        self.worker.attach("p", epoch, Channel(ours))
        return end

    def lead(self, epoch: int = 1, session: str = "s") -> OtherEnd:
        """Attach, and tell of a session that leads; no snapshot is expected to be of interest."""
        end = self.attach(epoch)
        return self.tell(end, link.SessionNews(session, Role.LEADER))

    def tell(self, end: OtherEnd, *messages: link.FromPusher) -> OtherEnd:
        """Send, and wait until the worker has it in its inbox."""
        if self.worker._link.epoch != end.epoch:
            self.worker._turn()  # the link's reader starts when the pump takes the link
        while self.driver.woken.acquire(blocking=False):
            pass
        for message in messages:
            end.send(message)
            assert self.driver.woken.acquire(timeout=DEADLINE_S)
        return end

    def command(self, end: OtherEnd, command: Command) -> None:
        self.tell(end, link.Do(command))

    def _go_on(self) -> None:
        try:
            next(self._steps)
        except StopIteration:
            self.runtime.grace_s = 0.0  # the script is over: nothing more will be answered
            self.runtime.stop()


@pytest.fixture
def pump() -> Iterator[Pump]:
    pump = Pump()
    yield pump
    pump.runtime.release()
    for end in pump.ends:
        end.close()


def positions(driver: FakeSource, kind: str) -> list[Any]:
    return driver.get_told(kind)


def fill(pump: Pump, count: int, *, first: int = 0) -> None:
    """Let the driver yield batches of their own: a large item, then nothing at the moment."""
    for number in range(first, first + count):
        pump.driver.messages.append(make_gone(b"r%d" % number, rows=LARGE))
        pump.driver.messages.append(None)


# -- links and sessions ---------------------------------------------------------------------


def test_nothing_but_a_hello_is_sent_before_there_is_a_session(pump: Pump) -> None:
    def steps() -> Steps:
        fill(pump, 1)
        end = pump.attach(7)
        yield
        assert end.hear() == [link.SourceHello(7, "fs")]
        pump.tell(end, link.PusherHello(7))
        yield
        assert end.hear() == []
        pump.tell(end, link.SessionNews("s", Role.FOLLOWER))
        yield
        assert [batch.lane for batch in end.hear_batches()] == [REALTIME]

    pump.play(steps())


def test_a_leader_sends_exactly_one_snapshot_for_one_session(pump: Pump) -> None:
    def steps() -> Steps:
        first = pump.lead(1, "s")
        yield
        pump.tell(first, link.SessionNews("s", Role.LEADER))
        yield
        assert pump.driver.told == [("snapshot",)]
        second = pump.lead(2, "s")
        yield
        assert pump.driver.told == [("snapshot",)], "the same session knows the snapshot that was begun for it"
        pump.tell(second, link.SessionNews("another", Role.LEADER))
        yield
        assert pump.driver.told == [("snapshot",)] * 2

    pump.play(steps())


def test_a_follower_follows_once_and_sends_a_snapshot_when_it_is_promoted(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.attach(1)
        for _ in range(2):
            pump.tell(end, link.SessionNews("s", Role.FOLLOWER))
            yield
        assert pump.driver.told == [("follow",)]
        pump.tell(end, link.SessionNews("s", Role.LEADER))
        yield
        assert pump.driver.told == [("follow",), ("snapshot",)]
        pump.tell(end, link.SessionNews("s", Role.FOLLOWER))
        yield
        assert pump.driver.told[-1] == ("follow",)

    pump.play(steps())


def test_the_driver_knows_whether_the_receiver_of_each_session_takes_moves(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.attach(1)
        pump.tell(end, link.SessionNews("s", Role.LEADER, takes_moves=True))
        yield
        assert pump.driver.takes_moves
        pump.tell(end, link.SessionNews("another", Role.LEADER))
        yield
        assert not pump.driver.takes_moves

    pump.play(steps())


def test_a_demotion_stops_snapshot_and_audit_and_the_next_promotion_begins_a_new_one(pump: Pump) -> None:
    pump.driver.snapshot = [make_gone(b"s%d" % number, rows=4_000, lane=SNAPSHOT) for number in range(20)]
    pump.driver.audit = [make_gone(b"a%d" % number, rows=4_000, lane=AUDIT) for number in range(20)]

    def steps() -> Steps:
        end = pump.lead()
        pump.command(end, StartAudit("full"))
        yield
        assert len(end.hear_batches()) == 2 * WINDOW_BATCHES
        pump.tell(end, link.SessionNews("s", Role.FOLLOWER))
        yield
        assert ("snapshot cut off",) in pump.driver.told
        for lane in (SNAPSHOT, AUDIT):
            pump.tell(end, link.Ack(1, lane, WINDOW_BATCHES))
        yield
        assert end.hear_batches() == []
        pump.tell(end, link.SessionNews("s", Role.LEADER))
        yield
        assert {batch.lane for batch in end.hear_batches()} == {SNAPSHOT}
        assert pump.driver.told.count(("snapshot",)) == 2

    pump.play(steps())


def test_a_new_session_begins_the_snapshot_anew_although_one_was_running(pump: Pump) -> None:
    pump.driver.snapshot = [make_gone(b"s%d" % number, rows=4_000, lane=SNAPSHOT) for number in range(20)]

    def steps() -> Steps:
        end = pump.lead()
        yield
        pump.tell(end, link.SessionNews("another", Role.LEADER))
        yield
        assert pump.driver.told == [("snapshot",), ("snapshot",), ("snapshot cut off",)]

    pump.play(steps())


# -- receivers that compare -----------------------------------------------------------------


def test_a_receiver_that_compares_gets_a_comparing_snapshot(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.attach(1)
        pump.tell(end, link.SessionNews("s", Role.LEADER, compares=True))
        yield
        assert pump.driver.told == [("comparing",)]
        pump.tell(end, link.SessionNews("another", Role.LEADER))
        yield
        assert pump.driver.told[1:] == [("snapshot",)]

    pump.play(steps())


def test_what_is_compared_fills_batches_and_window_as_rows_do_but_is_no_row(pump: Pump) -> None:
    pump.driver.snapshot = [make_unchanged(b"u%d" % number, count=1_000) for number in range(20)]

    def steps() -> Steps:
        end = pump.attach(1)
        pump.tell(end, link.SessionNews("s", Role.LEADER, compares=True))
        yield
        batches = end.hear_batches()
        assert [(batch.rows, len(decode_fs_items(batch.items))) for batch in batches] == [(0, 4)] * WINDOW_BATCHES

    pump.play(steps())
    report = pump.worker._snapshots.report
    assert (report.rows, report.compared) == (0, 4_000 * WINDOW_BATCHES)


def test_the_driver_hears_what_differs_and_that_the_rest_is_accepted(pump: Pump) -> None:
    pump.driver.snapshot = [make_unchanged(b"%d" % number, count=1) for number in range(4)]

    def steps() -> Steps:
        end = pump.attach(1)
        pump.tell(end, link.SessionNews("s", Role.LEADER, compares=True))
        yield
        differing = (Differing(b"3", known=False), Differing(b"1", known=True))
        pump.tell(end, link.Ack(1, SNAPSHOT, 1, differing=differing))
        yield
        assert pump.driver.told[1:] == [
            ("acknowledge", b"0"), ("differs", b"1", True), ("acknowledge", b"2"), ("differs", b"3", False)]

    pump.play(steps())


# -- windows and priority -------------------------------------------------------------------


def test_each_lane_has_a_window_and_a_full_snapshot_lane_never_blocks_realtime(pump: Pump) -> None:
    pump.driver.snapshot = [make_gone(b"s%d" % number, rows=4_000, lane=SNAPSHOT) for number in range(20)]

    def steps() -> Steps:
        end = pump.lead()
        yield
        assert [(batch.lane, batch.seq) for batch in end.hear_batches()] == [
            (SNAPSHOT, seq + 1) for seq in range(WINDOW_BATCHES)
        ]
        fill(pump, WINDOW_BATCHES + 3)
        yield
        assert [(batch.lane, batch.seq) for batch in end.hear_batches()] == [
            (REALTIME, seq + 1) for seq in range(WINDOW_BATCHES)
        ]
        pump.tell(end, link.Ack(1, REALTIME, 1))
        yield
        assert [(batch.lane, batch.seq) for batch in end.hear_batches()] == [(REALTIME, WINDOW_BATCHES + 1)]

    pump.play(steps())


def test_realtime_goes_first_then_scans_then_the_snapshot_then_the_audit(pump: Pump) -> None:
    pump.driver.snapshot = [make_gone(b"s", lane=SNAPSHOT)]
    pump.driver.scan = [make_gone(b"d", lane=ON_DEMAND)]
    pump.driver.audit = [make_gone(b"a", lane=AUDIT)]

    def steps() -> Steps:
        end = pump.attach(1)
        yield
        fill(pump, 1)
        pump.tell(
            end,
            link.SessionNews("s", Role.LEADER),
            link.Do(StartAudit("full")),
            link.Do(Scan(b"/x", "job")),
        )
        yield
        assert [batch.lane for batch in end.hear_batches()] == [REALTIME, ON_DEMAND, SNAPSHOT, AUDIT]

    pump.play(steps())


def make_listed(lane: MessageSource) -> Listed:
    return Listed(index=1, message_source=lane, path=bytes(3_000))


def test_a_batch_of_long_paths_ends_before_it_has_so_many_rows(pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fustor_agent.outgoing.BATCH_BYTES", 10_000)
    pump.driver.snapshot = [make_listed(SNAPSHOT) for _ in range(9)]

    def steps() -> Steps:
        end = pump.attach(1)
        pump.driver.messages.extend(make_listed(REALTIME) for _ in range(9))
        pump.tell(end, link.SessionNews("s", Role.LEADER))
        yield
        heard = [(batch.lane, len(decode_fs_items(batch.items))) for batch in end.hear_batches()]
        assert heard == [(REALTIME, 4), (SNAPSHOT, 4)]

    pump.play(steps())


def test_a_batch_ends_at_four_thousand_rows_and_at_two_thousand_beside_realtime(pump: Pump) -> None:
    pump.driver.snapshot = [make_gone(b"s", rows=500, lane=SNAPSHOT) for _ in range(20)]

    def steps() -> Steps:
        end = pump.attach(1)
        yield
        fill(pump, 1)
        pump.tell(end, link.SessionNews("s", Role.LEADER))
        yield
        batches = end.hear_batches()
        assert [(batch.lane, batch.rows) for batch in batches] == [
            (REALTIME, LARGE),
            (SNAPSHOT, 2_000),
            (SNAPSHOT, 4_000),
        ]
        assert [len(decode_fs_items(batch.items)) for batch in batches] == [1, 4, 8]
        pump.driver.messages.extend(make_gone(b"r", rows=1_500) for _ in range(4))
        pump.tell(end, link.Ack(1, REALTIME, 1))
        yield
        assert [batch.rows for batch in end.hear_batches()] == [4_500, 1_500]

    pump.play(steps())


def test_a_walk_that_has_nothing_at_this_moment_is_asked_again_after_a_wait(pump: Pump) -> None:
    pump.driver.scan = [make_gone(b"d", rows=4_000, lane=ON_DEMAND), None, make_gone(b"e", lane=ON_DEMAND)]

    def steps() -> Steps:
        end = pump.attach(1)
        yield
        pump.tell(end, link.SessionNews("s", Role.FOLLOWER), link.Do(Scan(b"/x", "job", recursive=False)))
        yield
        assert [batch.rows for batch in end.hear_batches()] == [4_000]
        yield
        assert [batch.rows for batch in end.hear_batches()] == [1]
        assert ("scan", b"/x", False, "job") in pump.driver.told

    pump.play(steps())


def test_scans_are_made_one_after_the_other_and_wait_for_their_own_window(pump: Pump) -> None:
    pump.driver.scan = [make_gone(b"d%d" % number, rows=4_000, lane=ON_DEMAND) for number in range(WINDOW_BATCHES)]

    def steps() -> Steps:
        end = pump.lead()
        pump.command(end, Scan(b"/x", "first"))
        pump.command(end, Scan(b"/y", "second"))
        fill(pump, 1)
        yield
        assert sorted(batch.lane.value for batch in end.hear_batches()) == ["on_demand_job"] * WINDOW_BATCHES + [
            "realtime"
        ]
        pump.tell(end, link.Ack(1, ON_DEMAND, WINDOW_BATCHES))
        yield
        following = range(WINDOW_BATCHES + 1, 2 * WINDOW_BATCHES + 1)
        assert [batch.seq for batch in end.hear_batches()] == [*following]

    pump.play(steps())


# -- acknowledgements, recovery -------------------------------------------------------------


def test_acknowledgements_settle_positions_in_order(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.lead()
        pump.driver.messages.extend([make_gone(b"0"), make_gone(b"1", rows=LARGE), None, make_gone(b"2"), None])
        yield
        assert [batch.seq for batch in end.hear_batches()] == [1, 2]
        pump.tell(end, link.Ack(1, REALTIME, 1))
        yield
        assert positions(pump.driver, "acknowledge") == [b"0", b"1"]
        pump.driver.messages.extend([make_gone(b"3")])
        pump.tell(end, link.Ack(1, REALTIME, 2))
        yield
        assert positions(pump.driver, "acknowledge") == [b"0", b"1", b"2"]
        assert positions(pump.driver, "recover") == []

    pump.play(steps())


def test_an_acknowledgement_settles_all_before_it_too(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.lead()
        fill(pump, 2)
        yield
        pump.tell(end, link.Ack(1, REALTIME, 2))
        yield
        assert positions(pump.driver, "acknowledge") == [b"r0", b"r1"]

    pump.play(steps())


def test_look_again_recovers_exactly_that_batch(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.lead()
        fill(pump, 2)
        yield
        pump.tell(end, link.LookAgain(1, REALTIME, 1), link.Ack(1, REALTIME, 2))
        yield
        assert positions(pump.driver, "recover") == [b"r0"]
        assert positions(pump.driver, "acknowledge") == [b"r1"]

    pump.play(steps())


def test_a_new_epoch_recovers_all_that_was_under_way_and_older_answers_mean_nothing(pump: Pump) -> None:
    pump.driver.snapshot = [make_gone(b"s", lane=SNAPSHOT)]

    def steps() -> Steps:
        first = pump.lead(1)
        fill(pump, 2)
        yield
        pump.tell(first, link.Ack(1, REALTIME, 1))
        yield
        second = pump.lead(2)
        assert positions(pump.driver, "recover") == [b"r1", b"s"]
        fill(pump, 1, first=9)
        yield
        assert [(batch.lane, batch.seq) for batch in second.hear_batches()] == [(REALTIME, 1)]
        pump.tell(second, link.Ack(1, REALTIME, 1), link.LookAgain(1, REALTIME, 1))
        yield
        assert positions(pump.driver, "acknowledge") == [b"r0"]
        assert positions(pump.driver, "recover") == [b"r1", b"s"]
        pump.tell(second, link.Ack(2, REALTIME, 1))
        yield
        assert positions(pump.driver, "acknowledge") == [b"r0", b"r9"]

    pump.play(steps())


def test_what_an_old_link_said_last_is_not_heard_once_there_is_a_new_one(pump: Pump) -> None:
    def steps() -> Steps:
        pump.lead(1)
        pump.lead(2)
        yield
        for message in (link.SessionNews("ghost", Role.FOLLOWER), link.Do(Scan(b"/x", "job"))):
            pump.worker._take(FromLink(1, message))
        yield
        assert pump.driver.told == [("snapshot",)]

    pump.play(steps())


def test_what_is_sent_on_a_dead_link_is_recovered_when_the_next_one_comes(pump: Pump) -> None:
    def steps() -> Steps:
        pump.lead(1).close()
        fill(pump, 1)
        yield
        assert pump.worker._why_not_current(None) == "the pusher is not attached"
        pump.lead(2)
        yield
        assert positions(pump.driver, "recover") == [b"r0"]

    pump.play(steps())


def test_an_attach_wakes_a_send_that_is_blocked(pump: Pump) -> None:
    pump.driver._on_wait = None
    first_ours, first_theirs = make_channels()
    second_ours, second_theirs = make_channels()
    thread = threading.Thread(target=pump.worker.run)
    thread.start()
    try:
        pump.worker.attach("p", 1, first_ours)
        first_theirs.send(link.encode(link.SessionNews("s", Role.FOLLOWER)))
        assert first_theirs.recv() is not None
        pump.driver.messages.append(make_gone(b"r" * 8_000_000))  # more than a socket holds
        pump.driver.wake()
        assert select.select([first_theirs.fileno()], [], [], DEADLINE_S)[0]
        pump.worker.attach("p", 2, second_ours)
        assert select.select([second_theirs.fileno()], [], [], DEADLINE_S)[0], "the pump still hangs in the old link"
        assert link.decode_from_source(second_theirs.recv() or b"") == link.SourceHello(2, "fs")
        assert len(positions(pump.driver, "recover")) == 1
    finally:
        for channel in (first_theirs, second_theirs):
            channel.shutdown()
        pump.runtime.stop()
        pump.driver.wake()
        thread.join(DEADLINE_S)
        first_theirs.close()
        second_theirs.close()
    assert not thread.is_alive()


def test_a_message_that_cannot_be_read_ends_the_worker(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.lead()
        end._channel.send(b"\xff")
        until(lambda: pump.runtime.failures, within_s=DEADLINE_S, what="the worker to fail")
        yield

    pump.play(steps())


def test_a_batch_says_for_which_session_it_was_made(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.lead(1, "first")
        fill(pump, 1)
        yield
        pump.tell(end, link.SessionNews("second", Role.LEADER), link.Ack(1, REALTIME, 1))
        fill(pump, 1)
        yield
        assert [batch.session for batch in end.hear_batches()] == ["first", "second"]

    pump.play(steps())


# -- barriers -------------------------------------------------------------------------------


def test_a_barrier_goes_out_behind_what_was_yielded_before_it(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.lead()
        yield
        end.hear()
        pump.driver.messages.extend([make_gone(b"1"), make_gone(b"2", rows=LARGE), Barrier("t"), make_gone(b"3")])
        yield
        heard = end.hear()
        assert [type(message) for message in heard] == [link.BatchMessage, link.BarrierReached, link.BatchMessage]
        assert heard[0].rows == 1 + LARGE
        assert heard[1] == link.BarrierReached("t")

    pump.play(steps())


def test_a_barrier_waits_for_a_full_window(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.lead()
        yield
        end.hear()
        fill(pump, WINDOW_BATCHES)
        pump.driver.messages.extend([make_gone(b"last"), Barrier("t")])
        yield
        assert len(end.hear()) == WINDOW_BATCHES
        pump.tell(end, link.Ack(1, REALTIME, 1))
        yield
        assert [type(message) for message in end.hear()] == [link.BatchMessage, link.BarrierReached]

    pump.play(steps())


def test_a_barrier_that_cannot_be_promised_is_answered_with_the_reason(pump: Pump) -> None:
    pump.driver.refuses_barriers = "3 directories are not watched"

    def steps() -> Steps:
        end = pump.lead()
        yield
        end.hear()
        pump.command(end, Sync("t"))
        yield
        assert end.hear() == [link.BarrierReached("t", "3 directories are not watched")]
        pump.driver.refuses_barriers = None
        pump.command(end, Sync("u"))
        yield
        assert end.hear() == [link.BarrierReached("u")]

    pump.play(steps())


# -- commands and orders --------------------------------------------------------------------


def test_a_snapshot_command_is_for_leaders_only(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.attach(1)
        pump.tell(end, link.SessionNews("s", Role.FOLLOWER))
        yield
        pump.command(end, StartSnapshot())
        pump.command(end, StartAudit("full"))
        yield
        assert pump.driver.told == [("follow",)]
        pump.tell(end, link.SessionNews("s", Role.LEADER))
        yield
        pump.command(end, StartSnapshot())
        yield
        assert pump.driver.told.count(("snapshot",)) == 2

    pump.play(steps())


@pytest.mark.parametrize(
    ("role", "order", "answer", "told"),
    [
        (Role.LEADER, ("snapshot", ""), ("snapshot started", True), ("snapshot",)),
        (Role.LEADER, ("audit", ""), ("audit started", True), ("audit", "full")),
        (Role.LEADER, ("audit", "incremental"), ("audit started", True), ("audit", "incremental")),
        (Role.LEADER, ("audit", "wild"), ('there is no audit of kind "wild"; use one of: ', False), None),
        (Role.LEADER, ("rescan", "j1/a/%FF"), ("rescan started", True), ("scan", b"/a/\xff", True, "j1")),
        (Role.FOLLOWER, ("rescan", "j1/"), ("rescan started", True), ("scan", b"/", True, "j1")),
        (Role.FOLLOWER, ("snapshot", ""), ("only a leader sends snapshots", False), None),
        (Role.FOLLOWER, ("audit", ""), ("only a leader audits", False), None),
        (Role.FOLLOWER, ("record", ""), ("recorded into /state/r", True), ("record",)),
        (Role.LEADER, ("dance", ""), ('a source does not know the action "dance"', False), None),
    ],
)
def test_every_order_is_replied_to(
    pump: Pump, role: Role, order: tuple[str, str], answer: tuple[str, bool], told: tuple[Any, ...] | None
) -> None:
    pump.driver.audit = [make_gone(b"a", lane=AUDIT)]
    pump.driver.recording = Path("/state/r")

    def steps() -> Steps:
        end = pump.attach(1)
        pump.tell(end, link.SessionNews("s", role))
        yield
        pump.driver.told.clear()
        pump.worker.order(Order(id=5, action=order[0], target=order[1]))
        yield
        assert [reply[0] for reply in pump.runtime.replies] == [5]
        assert pump.runtime.replies[0][1].startswith(answer[0])
        assert pump.runtime.replies[0][2] is answer[1]
        assert pump.driver.told[:1] == ([told] if told else [])

    pump.play(steps())


def test_a_driver_that_records_nothing_says_so(pump: Pump) -> None:
    def steps() -> Steps:
        pump.worker.order(Order(id=5, action="record"))
        yield
        assert pump.runtime.replies == [(5, "FakeSource records nothing", False)]

    pump.play(steps())


def test_orders_are_replied_to_even_when_there_is_no_link(pump: Pump) -> None:
    def steps() -> Steps:
        pump.worker.order(Order(id=1, action="snapshot"))
        pump.worker.order(Order(id=2, action="rescan", target="j/"))
        yield
        assert [(reply[0], reply[2]) for reply in pump.runtime.replies] == [(1, False), (2, True)]

    pump.play(steps())


def test_a_driver_without_an_audit_says_so(pump: Pump) -> None:
    def steps() -> Steps:
        pump.lead()
        yield
        pump.worker.order(Order(id=1, action="audit"))
        yield
        assert pump.runtime.replies == [(1, "FakeSource has no audit", False)]

    pump.play(steps())


def test_a_sentinel_check_goes_on_its_own_lane(pump: Pump) -> None:
    pump.driver.check = [make_gone(b"c", lane=MessageSource.SENTINEL)]

    def steps() -> Steps:
        end = pump.lead()
        yield
        pump.command(end, Verify((b"/hot", b"/\xff")))
        yield
        assert [batch.lane for batch in end.hear_batches()] == [MessageSource.SENTINEL]
        assert ("check", (b"/hot", b"/\xff")) in pump.driver.told

    pump.play(steps())


def test_names_that_the_receiver_wants_to_have_looked_at_come_as_changes(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.lead()
        yield
        pump.command(end, Look((b"/a", b"/b/\xff")))
        yield
        assert pump.driver.told[-2:] == [("rescan", b"/a", False), ("rescan", b"/b/\xff", False)]

    pump.play(steps())


# -- audits ---------------------------------------------------------------------------------


class Timed:
    """A pump with a clock of its own, whose driver has an audit of three batches."""

    def __init__(self, pump: Pump) -> None:
        self.pump = pump
        self.now_s = 0.0
        audits = Audits(incremental_s=600.0, full_s=3600.0)
        pump.worker = SourceWorker(pump.runtime, pump.driver, audits, now=lambda: self.now_s)  # type: ignore[arg-type]
        pump.driver.snapshot = [make_end(b"s")]
        pump.driver.audit = [make_gone(b"a", lane=AUDIT), make_audit_end(complete=True)]

    def accept(self, end: OtherEnd) -> None:
        """Acknowledge all that was sent."""
        for batch in end.hear_batches():
            self.pump.tell(end, link.Ack(end.epoch, batch.lane, batch.seq))

    def get_report(self) -> AuditReport:
        return self.pump.worker._audits.describe(AuditCoverage(listed=7))

    def get_told(self) -> list[str]:
        return self.pump.driver.get_told("audit")


@pytest.fixture
def timed(pump: Pump) -> Timed:
    return Timed(pump)


def make_audit_end(*, complete: bool) -> AuditEnd:
    return AuditEnd(index=1, message_source=AUDIT, complete=complete)


def test_a_leader_audits_by_itself_from_the_snapshot_on_and_a_day_holds_a_full_one(timed: Timed) -> None:
    def steps() -> Steps:
        end = timed.pump.lead()
        yield
        timed.now_s += 5_000.0
        yield
        assert timed.get_told() == [], "the snapshot is not accepted yet"
        timed.accept(end)
        yield
        timed.now_s += 599.0
        yield
        assert timed.get_told() == []
        assert timed.pump.driver.waits[-1] == pytest.approx(1.0), "it wakes up when the next audit is due"
        for number in range(1, 7):
            timed.now_s += 1.0 if number == 1 else 600.0
            yield
            assert len(timed.get_told()) == number
            assert timed.get_report().state == "running"
            timed.accept(end)
            yield
            assert timed.get_report().state == "done"
        assert timed.get_told() == ["incremental"] * 5 + ["full"]

    timed.pump.play(steps())


@pytest.mark.parametrize(
    ("wish", "told"), [(None, ["incremental"]), (0.0, []), (10.0, ["incremental"]), (601.0, [])]
)
def test_what_the_receiver_asks_for_goes_before_the_configuration(
    timed: Timed, wish: float | None, told: list[str]
) -> None:
    def steps() -> Steps:
        end = timed.pump.attach(1)
        timed.pump.tell(end, link.SessionNews("s", Role.LEADER, wish))
        yield
        timed.accept(end)
        yield
        timed.now_s += 600.0
        yield
        assert timed.get_told() == told

    timed.pump.play(steps())


@pytest.mark.parametrize(
    "news", [link.SessionNews("s", Role.FOLLOWER), link.SessionNews("another", Role.LEADER)], ids=["demotion", "new"]
)
def test_another_session_or_role_ends_the_audit_and_its_timer(timed: Timed, news: link.SessionNews) -> None:
    def steps() -> Steps:
        end = timed.pump.lead()
        yield
        timed.accept(end)
        yield
        timed.now_s += 600.0
        yield
        assert timed.get_report().state == "running"
        timed.pump.tell(end, news)
        yield
        assert timed.get_report().state == "incomplete"
        timed.now_s += 50_000.0
        yield
        assert timed.get_told() == ["incremental"], "no snapshot has been accepted since"

    timed.pump.play(steps())


def test_only_one_audit_runs_at_a_time(timed: Timed) -> None:
    def steps() -> Steps:
        end = timed.pump.lead()
        yield
        timed.accept(end)
        for number in (1, 2):
            timed.pump.worker.order(Order(id=number, action="audit", target="full"))
        timed.pump.command(end, StartAudit("incremental"))
        yield
        assert timed.get_told() == ["full"]
        assert [reply[2] for reply in timed.pump.runtime.replies] == [True, False]
        assert "running already" in timed.pump.runtime.replies[1][1]
        timed.accept(end)
        yield
        timed.pump.command(end, StartAudit("incremental"))
        yield
        assert timed.get_told() == ["full", "incremental"]

    timed.pump.play(steps())


def test_the_pusher_learns_of_an_audit_before_its_batches_and_of_its_end_when_all_is_accepted(timed: Timed) -> None:
    def steps() -> Steps:
        end = timed.pump.lead()
        yield
        timed.accept(end)
        timed.pump.command(end, StartAudit("full"))
        yield
        told = [type(message) for message in end.hear()]
        assert told == [link.AuditBegins, link.BatchMessage], "nothing is accepted yet"
        timed.pump.tell(end, link.Ack(1, AUDIT, 1))
        yield
        assert end.hear() == [link.AuditEnds("s", complete=True)]

    timed.pump.play(steps())


@pytest.mark.parametrize(
    "news", [link.SessionNews("s", Role.FOLLOWER), link.SessionNews("another", Role.LEADER)], ids=["demotion", "new"]
)
def test_the_pusher_learns_that_an_audit_was_cut_off_under_its_own_session(
    timed: Timed, news: link.SessionNews
) -> None:
    def steps() -> Steps:
        end = timed.pump.lead()
        yield
        timed.accept(end)
        timed.pump.command(end, StartAudit("full"))
        yield
        timed.pump.tell(end, news)
        yield
        ended = [message for message in end.hear() if isinstance(message, link.AuditEnds)]
        assert ended == [link.AuditEnds("s", complete=False)]

    timed.pump.play(steps())


@pytest.mark.parametrize("how", ["refused end", "lost link", "incomplete", "no end"])
def test_an_audit_whose_end_is_not_accepted_or_says_so_is_incomplete(timed: Timed, how: str) -> None:
    if how == "incomplete":
        timed.pump.driver.audit = [make_audit_end(complete=False)]
    elif how == "no end":
        timed.pump.driver.audit = [make_gone(b"a", lane=AUDIT)]

    def steps() -> Steps:
        end = timed.pump.lead()
        yield
        timed.accept(end)
        timed.pump.command(end, StartAudit("full"))
        yield
        assert timed.get_report().state == "running"
        if how == "refused end":
            timed.pump.tell(end, link.LookAgain(1, AUDIT, 1))
        elif how == "lost link":
            timed.pump.lead(2)
        else:
            timed.accept(end)
        yield
        report = timed.get_report()
        assert (report.state, report.kind, report.directories_listed) == ("incomplete", "full", 7)
        assert report.finished_at is not None

    timed.pump.play(steps())


def test_an_audit_that_rests_leaves_the_pump_idle(timed: Timed) -> None:
    timed.pump.driver.audit = [make_gone(b"a", lane=AUDIT), None, make_audit_end(complete=True)]

    def steps() -> Steps:
        end = timed.pump.lead()
        yield
        timed.accept(end)
        timed.pump.command(end, StartAudit("full"))
        yield
        timed.accept(end)
        assert timed.pump.worker._walks[MessageSource.AUDIT]
        yield
        assert not timed.pump.worker._walks[MessageSource.AUDIT]

    timed.pump.play(steps())


def test_a_driver_that_cannot_audit_is_not_asked_again_and_again(timed: Timed) -> None:
    timed.pump.driver.audit = None

    def steps() -> Steps:
        end = timed.pump.lead()
        yield
        timed.accept(end)
        yield
        timed.now_s += 600.0
        yield
        assert timed.pump.worker._audits.get_due_s() is None

    timed.pump.play(steps())


# -- reports --------------------------------------------------------------------------------


def test_a_snapshot_is_done_when_the_receiver_has_accepted_its_end(pump: Pump) -> None:
    pump.driver.snapshot = [make_gone(b"s", rows=3, lane=SNAPSHOT), make_end(b"e")]

    def steps() -> Steps:
        end = pump.lead()
        yield
        assert pump.worker._snapshots.report.state == "running"
        pump.tell(end, link.Ack(1, SNAPSHOT, 1))
        yield
        report = pump.worker._snapshots.report
        assert (report.state, report.rows) == ("done", 3)
        assert report.finished_at is not None

    pump.play(steps())


def test_what_was_refused_is_settled_by_a_snapshot_that_began_later_and_was_accepted(pump: Pump) -> None:
    pump.driver.snapshot = [make_end(b"one")]

    def steps() -> Steps:
        end = pump.lead()
        yield
        pump.tell(end, link.Ack(1, SNAPSHOT, 1, refused=2))
        yield
        assert pump.worker._snapshots.refused == 2, "the snapshot itself was refused in part"
        pump.driver.snapshot = [make_end(b"two", complete=False)]
        pump.command(end, StartSnapshot())
        yield
        pump.tell(end, link.Ack(1, SNAPSHOT, 2))
        yield
        assert pump.worker._snapshots.refused == 2, "it did not look everywhere"
        pump.driver.snapshot = [make_gone(b"s", rows=3, lane=SNAPSHOT), make_end(b"three")]
        pump.command(end, StartSnapshot())
        yield
        pump.tell(end, link.Ack(1, REALTIME, 1, refused=1))
        yield
        assert pump.worker._snapshots.refused == 3
        pump.tell(end, link.Ack(1, SNAPSHOT, 3))
        yield
        assert pump.worker._snapshots.refused == 1, "what was refused while it ran may be what it did not see"

    pump.play(steps())


def test_the_end_of_an_earlier_snapshot_does_not_finish_the_one_that_runs(pump: Pump) -> None:
    pump.driver.snapshot = [make_end(b"old")]

    def steps() -> Steps:
        end = pump.lead()
        yield
        pump.driver.snapshot = [make_gone(b"s%d" % number, rows=4_000, lane=SNAPSHOT) for number in range(30)]
        pump.tell(end, link.SessionNews("another", Role.LEADER))
        yield
        pump.tell(end, link.Ack(1, SNAPSHOT, 1))
        yield
        assert pump.worker._snapshots.report.state == "running"

    pump.play(steps())


def test_a_snapshot_that_could_not_be_completed_has_failed(pump: Pump) -> None:
    pump.driver.snapshot = [make_end(b"e", complete=False)]

    def steps() -> Steps:
        pump.tell(pump.lead(), link.Ack(1, SNAPSHOT, 1))
        yield
        pump.tell(pump.ends[0], link.Ack(1, SNAPSHOT, 1))
        yield
        assert pump.worker._snapshots.report.state == "failed"

    pump.play(steps())


def test_the_report_says_why_the_source_is_not_current(pump: Pump) -> None:
    pump.driver.status = SourceStatus(pending=2, captured=5, not_current_because="it is young")

    def steps() -> Steps:
        assert pump.worker._why_not_current(None) == "the pusher is not attached"
        end = pump.attach(1)
        yield
        assert pump.worker._why_not_current(None) == "there is no session with the receiver yet"
        pump.tell(end, link.SessionNews("s", Role.FOLLOWER))
        yield
        assert pump.worker._why_not_current(None) is None
        pump.worker._told = pump.worker._make_report()
        pump.worker._tell(busy=False)
        reported = pump.runtime.reports[-1]
        assert (reported.report.pending, reported.report.captured) == (2, 5)
        assert reported.report.not_current_because == "it is young"
        assert reported.owed is False

    pump.play(steps())


def test_a_driver_that_looks_and_yields_nothing_is_seen_to_move_and_may_say_for_how_long_it_will_not(
    pump: Pump,
) -> None:
    def walk() -> Iterator[Item | None]:
        for _ in range(5):
            pump.worker.note_progress()
        yield None
        pump.worker.note_progress(30.0)
        patient.append(pump.runtime.reports[-1])
        yield make_end(b"e")

    patient: list[Reported] = []
    pump.driver.snapshot = walk()  # type: ignore[assignment]  # a list is made of it only when it is begun

    def steps() -> Steps:
        before = pump.worker._steps
        pump.lead()
        yield
        assert pump.worker._steps >= before + 6
        assert (patient[0].owed, patient[0].patience_s) == (True, 30.0)
        assert pump.runtime.reports[-1].patience_s == 0.0

    pump.play(steps())


def test_a_driver_that_moves_while_it_waits_owes_nothing_by_that(pump: Pump) -> None:
    def steps() -> Steps:
        pump.attach(1)
        yield
        pump.worker.note_progress(30.0)  # within the wait
        assert (pump.runtime.reports[-1].owed, pump.runtime.reports[-1].patience_s) == (False, 30.0)

    pump.play(steps())


def test_the_pump_answers_for_itself_whenever_it_is_woken(pump: Pump) -> None:
    def steps() -> Steps:
        for _ in range(3):
            answered = pump.runtime.signs_of_life
            yield  # the wait returns
            assert pump.runtime.signs_of_life == answered + 1

    pump.play(steps())


# -- the end --------------------------------------------------------------------------------


def test_a_stop_delivers_what_was_read_and_waits_for_its_acknowledgement(pump: Pump) -> None:
    def steps() -> Steps:
        end = pump.lead()
        yield
        end.hear()
        fill(pump, 2)
        pump.runtime.stop()
        yield
        assert len(end.hear_batches()) == 2
        pump.tell(end, link.Ack(1, REALTIME, 1))
        yield
        pump.tell(end, link.Ack(1, REALTIME, 2))
        yield
        pytest.fail("the pump went on although everything is acknowledged")

    pump.play(steps())
    assert positions(pump.driver, "acknowledge") == [b"r0", b"r1"]


def test_a_stop_does_not_go_on_with_a_snapshot(pump: Pump) -> None:
    pump.driver.snapshot = [make_gone(b"s%d" % number, rows=4_000, lane=SNAPSHOT) for number in range(40)]

    def steps() -> Steps:
        end = pump.lead()
        yield
        assert len(end.hear_batches()) == WINDOW_BATCHES
        pump.runtime.stop()
        pump.tell(end, link.Ack(1, SNAPSHOT, WINDOW_BATCHES))
        yield
        pytest.fail("the pump went on with a snapshot that the next start sends anew")

    pump.play(steps())
    assert pump.ends[0].hear_batches() == []


def test_a_stop_without_a_link_or_session_is_immediate(pump: Pump) -> None:
    fill(pump, 3)

    def steps() -> Steps:
        pump.attach(1)
        yield
        pump.runtime.stop()
        yield
        pytest.fail("there is nobody to deliver to")

    pump.play(steps())


def test_a_batch_that_takes_long_is_seen_to_move() -> None:
    pump = Pump()
    clock = [0.0]
    pump.worker = SourceWorker(pump.runtime, pump.driver, Audits(), now=lambda: clock[0])  # type: ignore[arg-type]

    def look_slowly() -> Iterator[object]:
        for number in range(10):
            clock[0] += 1.0
            yield make_gone(b"%d" % number, lane=MessageSource.SNAPSHOT)

    def steps() -> Steps:
        end = pump.lead()
        pump.driver.get_snapshot_iterator = look_slowly  # type: ignore[assignment]  # takes ten seconds for one batch
        yield
        assert len(end.hear_batches()) == 1

    pump.play(steps())
    steps_seen = [report.counters["steps"] for report in pump.runtime.reports if report.owed]
    assert len(set(steps_seen)) >= 10
    pump.ends[0].close()


def test_a_stop_gives_up_at_half_of_the_grace_time() -> None:
    pump = Pump()
    clock = [0.0]
    pump.worker = SourceWorker(pump.runtime, pump.driver, Audits(), now=lambda: clock[0])  # type: ignore[arg-type]
    pump.runtime.grace_s = 10.0
    times: list[float] = []

    def steps() -> Steps:
        pump.lead()
        fill(pump, 1)
        yield
        pump.runtime.stop()
        yield
        while True:
            times.append(clock[0])
            clock[0] += 1.0
            yield

    pump.play(steps())
    assert times == [0.0, 1.0, 2.0, 3.0, 4.0]
    pump.ends[0].close()


def test_a_driver_that_raises_ends_the_worker_with_its_error(pump: Pump) -> None:
    def broken() -> Iterator[NoReturn]:
        raise OSError(5, "the disk is on fire")
        yield

    pump.worker._messages = broken()
    with pytest.raises(OSError, match="on fire"):
        pump.play(_lead_once(pump))


def _lead_once(pump: Pump) -> Steps:
    pump.lead()
    yield
