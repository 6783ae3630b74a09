"""
The pusher worker on a real link, with a driver whose every call waits for the test's answer.

So the test decides in which order things happen; what happens on a timer is counted, not timed.
"""

import contextlib
import json
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_pusher import DEADLINE_S, FakePusher
from fake_runtime import FakeRuntime
from fake_source import make_gone

from fustor_agent import link
from fustor_agent.sessionfile import SessionFile
from fustor_agent.workers import pusher
from fustor_agent.workers.pusher import PusherSettings, PusherWorker, main
from fustor_core.drivers import (
    Differing,
    Heartbeat,
    PusherContext,
    RefusedRow,
    Role,
    Scan,
    Session,
    StartSnapshot,
    Sync,
    Verify,
)
from fustor_core.errors import ConfigError, SessionLost, Unavailable, Uncertain
from fustor_core.retry import Backoff
from fustor_event_model import MessageSource, encode_items
from fustor_supervisor.channel import Channel, FrameDecoder
from fustor_supervisor.messages import Command as Order
from waiting import until

REALTIME, SNAPSHOT, AUDIT = MessageSource.REALTIME, MessageSource.SNAPSHOT, MessageSource.AUDIT
FIRST = Session(id="first-session", role=Role.LEADER, timeout_s=3600.0)
SECOND = Session(id="second-session", role=Role.LEADER, timeout_s=3600.0)
_decoder = msgspec.msgpack.Decoder(link.FromPusher)


class SourceEnd:
    """The source's end of one link."""

    def __init__(self, epoch: int, sock: socket.socket) -> None:
        self.epoch = epoch
        self._sock = sock
        self._channel = Channel(sock)
        self._frames = FrameDecoder()
        self._heard: list[link.FromPusher] = []

    def hear(self) -> link.FromPusher:
        """Wait for the next message."""
        while not self._heard:
            assert self._read(DEADLINE_S), "the pusher says nothing"
        return self._heard.pop(0)

    def hear_now(self) -> list[link.FromPusher]:
        """Return what was said until now."""
        while self._read(0):
            pass
        heard, self._heard = self._heard, []
        return heard

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._sock], [], [], timeout_s)[0]:
            return False
        data = self._sock.recv(1 << 16)
        self._heard += map(_decoder.decode, self._frames.feed(data))
        return bool(data)

    def send(self, message: link.FromSource) -> None:
        self._channel.send(link.encode(message))

    def batch(
        self, seq: int, lane: MessageSource = REALTIME, *, rows: int = 1, session: str = FIRST.id
    ) -> link.BatchMessage:
        """Send a batch; returns it."""
        items = msgspec.Raw(encode_items([make_gone(b"%d" % seq)]))
        message = link.BatchMessage(lane, seq, rows, items, session)
        self.send(message)
        return message

    def close(self) -> None:
        self._channel.close()


class Push:
    """A pusher worker that runs in a thread."""

    def __init__(self, directory: Path, now: Callable[[], float] = time.monotonic) -> None:
        self.runtime = FakeRuntime()
        self.driver = FakePusher()
        self.settings = PusherSettings(
            pipe_id="p",
            type="fake",
            config={},
            session_file=directory / "session-p.json",
            refused_file=directory / "refused.ndjson",
        )
        self.file = SessionFile(self.settings.session_file, "fake", {})
        self.worker = PusherWorker(self.runtime, self.driver, self.settings, now=now)  # type: ignore[arg-type]
        self.runtime.on_stop(self.worker.wake)
        self.ends: list[SourceEnd] = []
        self._thread = threading.Thread(target=self.worker.run)

    def start(self) -> None:
        self._thread.start()

    def attach(self, epoch: int = 1) -> SourceEnd:
        ours, theirs = socket.socketpair()
        end = SourceEnd(epoch, theirs)
        self.ends.append(end)
        self.worker.attach("p", epoch, Channel(ours))
        return end

    def begin(self, session: Session = FIRST) -> SourceEnd:
        """Start with a link and an opened session, both told to the source."""
        end = self.attach()
        self.start()
        self.driver.expect("open_session").answer(session)
        assert [end.hear(), end.hear()] == [link.PusherHello(1), link.SessionNews(session.id, session.role)]
        return end

    def join(self) -> None:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def report(self) -> Any:
        return self.runtime.reports[-1].report if self.runtime.reports else None

    def close(self) -> None:
        for end in self.ends:
            end.close()
        self.runtime.grace_s = 0.0
        self.driver.release()
        self.runtime.stop()
        if self._thread.ident is not None:
            self.join()
        self.driver.release_all()
        self.runtime.release()


@pytest.fixture
def push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Push]:
    monkeypatch.setattr(pusher, "_SESSION_BACKOFF", Backoff(first_s=0.01, cap_s=0.02))
    monkeypatch.setattr(pusher, "_PUSH_BACKOFF", Backoff(first_s=0.01, cap_s=0.02))
    push = Push(tmp_path)
    yield push
    push.close()


# -- order and answers ----------------------------------------------------------------------


def test_batches_are_pushed_one_by_one_in_the_order_of_the_source_across_lanes(push: Push) -> None:
    end = push.begin()
    sent = [end.batch(1, SNAPSHOT), end.batch(1), end.batch(1, AUDIT), end.batch(2), end.batch(2, SNAPSHOT)]
    for message in sent:
        call = push.driver.expect("push")
        session, batch = call.arguments
        assert session == FIRST
        assert (batch.epoch, batch.lane, batch.seq, batch.rows) == (1, message.lane, message.seq, message.rows)
        assert bytes(batch.items) == bytes(message.items)
        assert not push.driver.has_begun("push"), "one at a time"
        assert end.hear_now() == [], "not before the receiver has answered"
        call.answer()
        assert end.hear() == link.Ack(1, message.lane, message.seq)


def test_a_barrier_is_reported_only_after_all_batches_before_it_were_answered(push: Push) -> None:
    end = push.begin()
    end.batch(1)
    end.batch(2)
    end.send(link.BarrierReached("token"))
    end.send(link.BarrierReached("broken", "3 directories are not watched"))
    push.driver.expect("push").answer()
    second = push.driver.expect("push")
    assert "report_barrier" not in push.driver.begun
    second.answer()
    first = push.driver.expect("report_barrier")
    assert first.arguments == (FIRST, "token", None)
    first.answer()
    call = push.driver.expect("report_barrier")
    assert call.arguments == (FIRST, "broken", "3 directories are not watched")
    call.answer()


def test_a_barrier_that_could_not_be_reported_is_reported_again(push: Push) -> None:
    end = push.begin()
    end.send(link.BarrierReached("token"))
    push.driver.expect("report_barrier").answer(Unavailable("not now"))
    push.driver.expect("report_barrier").answer()


@pytest.mark.parametrize("error", [Unavailable("not now"), ConfigError("the key is refused")])
def test_a_batch_that_was_not_taken_is_pushed_again_as_it_was_and_before_the_next(
    push: Push, error: Exception
) -> None:
    end = push.begin()
    end.batch(1)
    end.batch(2)
    first = push.driver.expect("push")
    first.answer(error)
    again = push.driver.expect("push")
    assert again.arguments == first.arguments
    again.answer(error)
    third = push.driver.expect("push")
    assert push.report().error == str(error)
    assert end.hear_now() == []
    third.answer()
    assert end.hear() == link.Ack(1, REALTIME, 1)
    push.driver.expect("push").answer()
    assert end.hear() == link.Ack(1, REALTIME, 2)
    until(lambda: push.report().error is None, within_s=DEADLINE_S, what="the error to be over")
    assert not push.runtime.failures


def test_a_batch_without_an_answer_is_looked_at_again_and_never_pushed_again(push: Push) -> None:
    end = push.begin()
    end.batch(1)
    end.batch(2)
    push.driver.expect("push").answer(Uncertain("no answer in time"))
    assert end.hear() == link.LookAgain(1, REALTIME, 1)
    call = push.driver.expect("push")
    assert call.arguments[1].seq == 2
    call.answer()
    assert end.hear() == link.Ack(1, REALTIME, 2)


def test_refused_rows_are_recorded_with_their_bytes_and_counted_as_lost(push: Push) -> None:
    end = push.begin()
    end.batch(1, rows=5)
    push.driver.expect("push").answer([RefusedRow(b"/a\xff", "422 too odd"), RefusedRow(b"/b", "422")])
    assert end.hear() == link.Ack(1, REALTIME, 1, refused=2)
    lines = [json.loads(line) for line in push.settings.refused_file.read_text().splitlines()]
    assert [(line["pipe"], line["raw"], line["reason"]) for line in lines] == [
        ("p", "L2H/", "422 too odd"),
        ("p", "L2I=", "422"),
    ]
    assert stat.S_IMODE(push.settings.refused_file.stat().st_mode) == 0o600
    until(lambda: push.report().lost == 2, within_s=DEADLINE_S, what="the loss to be reported")
    assert (push.report().pushed, push.report().acknowledged) == (5, 3)


def test_what_differs_at_the_receiver_is_told_and_is_no_loss(push: Push) -> None:
    end = push.begin()
    end.batch(1)
    differing = Differing(b"p", known=True)
    push.driver.expect("push").answer([differing])
    assert end.hear() == link.Ack(1, REALTIME, 1, differing=(differing,))
    until(lambda: push.report().acknowledged == 1, within_s=DEADLINE_S, what="the batch to be counted")
    assert push.report().lost == 0


def test_the_source_is_told_that_the_receiver_compares(push: Push) -> None:
    end = push.attach()
    push.start()
    push.driver.expect("open_session").answer(msgspec.structs.replace(FIRST, compares=True))
    assert [end.hear(), end.hear()] == [
        link.PusherHello(1), link.SessionNews(FIRST.id, FIRST.role, compares=True)]


def test_refused_rows_that_cannot_be_recorded_are_counted_all_the_same(push: Push) -> None:
    push.settings.refused_file.mkdir()
    end = push.begin()
    end.batch(1)
    push.driver.expect("push").answer([RefusedRow(b"/a", "422")])
    assert end.hear() == link.Ack(1, REALTIME, 1, refused=1)
    until(lambda: push.report().lost == 1, within_s=DEADLINE_S, what="the loss to be reported")
    assert not push.runtime.failures


def test_what_a_driver_raises_that_the_contract_does_not_know_ends_the_worker(push: Push) -> None:
    end = push.begin()
    end.batch(1)
    push.driver.expect("push").answer(ZeroDivisionError("oops"))
    until(lambda: push.runtime.failures, within_s=DEADLINE_S, what="the worker to fail")
    assert push.runtime.failures == [("ZeroDivisionError: oops", False)]


# -- links ----------------------------------------------------------------------------------


def test_a_new_link_is_told_of_the_session_that_goes_on(push: Push) -> None:
    push.begin()
    second = push.attach(2)
    assert [second.hear(), second.hear()] == [link.PusherHello(2), link.SessionNews(FIRST.id, Role.LEADER)]
    assert push.driver.begun.count("open_session") == 1


def test_what_is_left_of_a_dead_epoch_is_dropped_but_the_request_under_way_is_finished(push: Push) -> None:
    first = push.begin()
    first.batch(1)
    first.batch(2)
    call = push.driver.expect("push")
    until(lambda: len(push.worker._queue) == 1, within_s=DEADLINE_S, what="the second batch to wait")
    second = push.attach(2)
    second.batch(1, SNAPSHOT)
    call.answer()
    following = push.driver.expect("push")
    assert (following.arguments[1].epoch, following.arguments[1].lane) == (2, SNAPSHOT)
    following.answer()
    assert [second.hear() for _ in range(4)][2:] == [link.Ack(1, REALTIME, 1), link.Ack(2, SNAPSHOT, 1)]


def test_a_batch_of_a_dead_epoch_that_was_not_taken_is_not_pushed_again(push: Push) -> None:
    first = push.begin()
    first.batch(1)
    call = push.driver.expect("push")
    second = push.attach(2)
    second.batch(1, AUDIT)
    call.answer(Unavailable("not now"))
    assert push.driver.expect("push").arguments[1].lane is AUDIT


def test_batches_that_come_over_a_link_after_the_next_one_was_made_are_dropped(push: Push) -> None:
    first = push.begin()
    ours, theirs = socket.socketpair()
    late = SourceEnd(1, theirs)
    push.ends.append(late)
    second = push.attach(2)
    reader = threading.Thread(target=push.worker._read_link, args=(1, Channel(ours)))
    reader.start()
    late.batch(1)
    late.close()
    reader.join(DEADLINE_S)
    second.batch(7)
    assert push.driver.expect("push").arguments[1].seq == 7
    first.close()


def test_without_a_link_the_receiver_is_told_that_realtime_is_not_possible(push: Push) -> None:
    del push.driver.always["heartbeat"]
    push.start()
    push.driver.expect("open_session").answer(msgspec.structs.replace(FIRST, timeout_s=0.06))
    call = push.driver.expect("heartbeat")
    assert call.arguments[1] is False
    push.attach()
    call.answer(Heartbeat(Role.LEADER))
    assert push.driver.expect("heartbeat").arguments[1] is True


def test_an_attach_wakes_a_word_to_the_source_that_is_blocked(push: Push) -> None:
    commands = tuple(Scan(b"/" + b"x" * 100_000, "job") for _ in range(50))  # more than a socket holds
    push.driver.always["heartbeat"] = Heartbeat(Role.LEADER, commands)
    push.attach()
    push.start()
    push.driver.expect("open_session").answer(FIRST)
    first = push.ends[0]
    assert [first.hear(), first.hear()][1] == link.SessionNews(FIRST.id, Role.LEADER)
    first.hear()
    until(lambda: _is_held(push.worker._changed), within_s=DEADLINE_S, what="the heartbeat thread to be blocked")
    attached = threading.Event()

    def attach() -> None:
        push.attach(2)
        attached.set()

    thread = threading.Thread(target=attach, daemon=True)
    thread.start()
    was_attached = attached.wait(DEADLINE_S / 4)
    if not was_attached:
        first.close()  # lets it go, so that the test ends
    thread.join(DEADLINE_S)
    assert was_attached


def _is_held(lock: threading.Condition) -> bool:
    if lock.acquire(blocking=False):
        lock.release()
        return False
    return True


def test_a_message_that_cannot_be_read_ends_the_worker(push: Push) -> None:
    push.attach()._channel.send(b"\xff")
    until(lambda: push.runtime.failures, within_s=DEADLINE_S, what="the worker to fail")


# -- sessions -------------------------------------------------------------------------------


def test_a_lost_session_is_replaced_and_what_was_meant_for_it_is_looked_at_again(push: Push) -> None:
    end = push.begin()
    end.batch(1)
    end.batch(2, SNAPSHOT)
    end.send(link.BarrierReached("token"))
    call = push.driver.expect("push")
    until(lambda: len(push.worker._queue) == 2, within_s=DEADLINE_S, what="the others to wait")
    call.answer(SessionLost("404 unknown session"))
    opening = push.driver.expect("open_session")
    assert push.file.load() is None
    opening.answer(SECOND)
    assert [end.hear() for _ in range(3)] == [
        link.SessionNews(SECOND.id, Role.LEADER),
        link.LookAgain(1, REALTIME, 1),
        link.LookAgain(1, SNAPSHOT, 2),
    ]
    assert push.file.load() == SECOND
    end.batch(3, session=SECOND.id)
    session, batch = push.driver.expect("push").arguments
    assert (session, batch.seq) == (SECOND, 3)
    assert "report_barrier" not in push.driver.begun


def test_what_the_source_sent_before_it_heard_of_a_new_session_is_never_pushed_under_it(push: Push) -> None:
    end = push.begin()
    end.batch(1)
    push.driver.expect("push").answer(SessionLost("404"))
    push.driver.expect("open_session").answer(SECOND)
    assert [end.hear(), end.hear()] == [link.SessionNews(SECOND.id, Role.LEADER), link.LookAgain(1, REALTIME, 1)]
    end.batch(2, SNAPSHOT, session=FIRST.id)  # it may hold the end of the first session's snapshot
    end.batch(3, session=SECOND.id)
    assert push.driver.expect("push").arguments[1].seq == 3
    assert end.hear_now() == [link.LookAgain(1, SNAPSHOT, 2)]


@pytest.mark.parametrize("error", [Unavailable("not now"), SessionLost("404")])
def test_a_push_that_outlives_its_session_is_not_repeated_under_the_next(push: Push, error: Exception) -> None:
    del push.driver.always["heartbeat"]
    end = push.begin()
    end.batch(1, SNAPSHOT)
    call = push.driver.expect("push")
    push.driver.expect("heartbeat").answer(SessionLost("419"))
    push.driver.expect("open_session").answer(SECOND)
    assert end.hear() == link.SessionNews(SECOND.id, Role.LEADER)
    call.answer(error)
    assert end.hear() == link.LookAgain(1, SNAPSHOT, 1)
    end.batch(2, session=SECOND.id)
    assert push.driver.expect("push").arguments[1].seq == 2
    assert push.driver.begun.count("open_session") == 2


def test_a_successor_goes_on_with_the_session_of_a_killed_pusher(push: Push) -> None:
    push.file.save(FIRST)
    push.driver.always["heartbeat"] = Heartbeat(Role.FOLLOWER)
    end = push.attach(5)
    push.start()
    call = push.driver.expect("resume_session")
    assert call.arguments == (FIRST,)
    call.answer(msgspec.structs.replace(FIRST, role=Role.FOLLOWER))
    assert [end.hear(), end.hear()] == [link.PusherHello(5), link.SessionNews(FIRST.id, Role.FOLLOWER)]
    end.batch(1)
    push.driver.expect("push").answer()
    assert end.hear() == link.Ack(5, REALTIME, 1)
    assert "open_session" not in push.driver.begun


def test_a_successor_waits_for_a_receiver_that_is_away_instead_of_opening_a_session_beside_the_kept_one(
    push: Push,
) -> None:
    push.file.save(FIRST)
    push.start()
    for _ in range(2):
        push.driver.expect("resume_session").answer(Unavailable("cannot connect"))
    push.driver.expect("resume_session").answer(SessionLost("404"))
    push.driver.expect("open_session").answer(SECOND)
    until(lambda: push.file.load() == SECOND, within_s=DEADLINE_S, what="the new session to be kept")


@pytest.mark.parametrize("error", [ConfigError("401 the key is refused"), Unavailable("cannot connect")])
def test_a_session_that_cannot_be_opened_is_shown_and_tried_again(push: Push, error: Exception) -> None:
    push.start()
    for _ in range(3):
        push.driver.expect("open_session").answer(error)
    call = push.driver.expect("open_session")
    assert (push.report().error, push.report().role) == (str(error), None)
    call.answer(FIRST)
    until(lambda: push.report().role == "leader", within_s=DEADLINE_S, what="the session")
    assert push.report().error is None
    assert push.report().session == FIRST.id[:8]
    assert not push.runtime.failures


def test_a_receiver_that_was_silent_for_long_is_told_of_at_once(tmp_path: Path) -> None:
    clock = [0.0]
    push = Push(tmp_path, now=lambda: clock[0])
    try:
        push.start()
        call = push.driver.expect("open_session")
        clock[0] = 10.0
        call.answer(Unavailable("no answer in time"))
        until(lambda: push.report().error, within_s=DEADLINE_S, what="the error to be told of")
        assert push.report().error == "no answer in time"
    finally:
        clock[0] = 100.0
        push.close()


def test_heartbeats_go_on_while_a_push_hangs(push: Push) -> None:
    del push.driver.always["heartbeat"]
    end = push.begin(msgspec.structs.replace(FIRST, timeout_s=0.06))
    end.batch(1)
    push.driver.expect("push")
    for _ in range(5):
        push.driver.expect("heartbeat").answer(Heartbeat(Role.LEADER))


def test_a_heartbeat_that_fails_is_shown_and_repeated_and_keeps_the_session(push: Push) -> None:
    del push.driver.always["heartbeat"]
    push.begin(msgspec.structs.replace(FIRST, timeout_s=0.06))
    push.driver.expect("heartbeat").answer(Unavailable("cannot connect"))
    call = push.driver.expect("heartbeat")
    until(lambda: push.report().error == "cannot connect", within_s=DEADLINE_S, what="the error")
    call.answer(Heartbeat(Role.LEADER))
    push.driver.expect("heartbeat").answer(Heartbeat(Role.LEADER))
    until(lambda: push.report().error is None, within_s=DEADLINE_S, what="the error to be over")
    assert push.driver.begun.count("open_session") == 1


def test_a_changed_role_is_told_to_the_source_once_and_kept_for_a_successor(push: Push) -> None:
    del push.driver.always["heartbeat"]
    end = push.begin(msgspec.structs.replace(FIRST, timeout_s=0.06, role=Role.FOLLOWER))
    for role in (Role.FOLLOWER, Role.LEADER, Role.FOLLOWER, Role.LEADER, Role.LEADER):
        push.driver.expect("heartbeat").answer(Heartbeat(role))
    assert [end.hear() for _ in range(3)] == [
        link.SessionNews(FIRST.id, Role.LEADER),
        link.SessionNews(FIRST.id, Role.FOLLOWER),
        link.SessionNews(FIRST.id, Role.LEADER),
    ]
    push.driver.expect("heartbeat")
    kept = push.file.load()
    assert kept is not None
    assert kept.role is Role.LEADER
    assert end.hear_now() == []


def test_commands_are_forwarded_from_heartbeats_and_from_the_command_channel(push: Push) -> None:
    del push.driver.always["heartbeat"]
    end = push.begin(msgspec.structs.replace(FIRST, has_commands=True))
    push.driver.expect("heartbeat").answer(Heartbeat(Role.LEADER, (StartSnapshot(),)))
    assert end.hear() == link.Do(StartSnapshot())
    push.driver.expect("poll_commands").answer([Sync("t"), Scan(b"/a", "job")])
    assert [end.hear(), end.hear()] == [link.Do(Sync("t")), link.Do(Scan(b"/a", "job"))]
    push.driver.expect("poll_commands").answer(Unavailable("gone"))
    push.driver.expect("poll_commands").answer(SessionLost("404"))
    push.driver.expect("open_session")


def test_a_leader_is_asked_for_sentinel_tasks_and_they_are_forwarded_as_looks(push: Push) -> None:
    leader = msgspec.structs.replace(FIRST, sentinel_interval_s=0.01)
    end = push.begin(leader)
    push.driver.expect("get_sentinel_tasks").answer([])
    push.driver.expect("get_sentinel_tasks").answer(Unavailable("gone"))
    call = push.driver.expect("get_sentinel_tasks")
    assert call.arguments == (leader,)
    call.answer([b"/hot", b"/caf\xe9"])
    assert end.hear() == link.Do(Verify((b"/hot", b"/caf\xe9")))
    push.driver.expect("get_sentinel_tasks").answer(SessionLost("404"))
    push.driver.expect("open_session")


def test_sentinel_tasks_are_asked_for_between_polls_for_commands(push: Push) -> None:
    push.driver.always["poll_commands"] = []
    push.begin(msgspec.structs.replace(FIRST, sentinel_interval_s=0.01, has_commands=True))
    push.driver.expect("get_sentinel_tasks").answer([])
    push.driver.expect("get_sentinel_tasks")
    assert "poll_commands" in push.driver.begun


@pytest.mark.parametrize("session", [
    FIRST, msgspec.structs.replace(FIRST, sentinel_interval_s=0.0),
    msgspec.structs.replace(FIRST, sentinel_interval_s=0.001, role=Role.FOLLOWER),
])  # fmt: skip
def test_nobody_but_a_leader_is_asked_for_sentinel_tasks_and_only_if_the_receiver_wishes(
    push: Push, session: Session
) -> None:
    push.driver.always["heartbeat"] = Heartbeat(session.role)
    end = push.begin(session)
    for seq in range(1, 4):
        end.batch(seq)
        push.driver.expect("push").answer()
        end.hear()
    assert "get_sentinel_tasks" not in push.driver.begun


def test_an_audit_is_told_of_before_and_after_its_batches(push: Push) -> None:
    end = push.begin()
    end.send(link.AuditBegins(FIRST.id))
    end.batch(1, AUDIT)
    end.send(link.AuditEnds(FIRST.id, complete=True))
    begin = push.driver.expect("begin_audit")
    assert begin.arguments == (FIRST,)
    assert not push.driver.has_begun("push")
    begin.answer(Unavailable("not now"))
    push.driver.expect("begin_audit").answer()
    batch = push.driver.expect("push")
    assert not push.driver.has_begun("end_audit")
    batch.answer()
    finish = push.driver.expect("end_audit")
    assert finish.arguments == (FIRST, True)
    finish.answer(Unavailable("not now"))
    push.driver.expect("end_audit").answer()


def test_the_audit_of_another_session_is_nothing_to_this_one(push: Push) -> None:
    end = push.begin()
    end.send(link.AuditBegins(SECOND.id))
    end.send(link.AuditEnds(SECOND.id, complete=True))
    end.batch(1)
    push.driver.expect("push").answer()
    assert not {"begin_audit", "end_audit"} & set(push.driver.begun)


def test_a_scan_that_no_source_has_finished_is_asked_of_the_next_one(push: Push) -> None:
    del push.driver.always["heartbeat"]
    end = push.begin()
    scans = (Scan(b"/a", "done"), Scan(b"/b", "lost"))
    push.driver.expect("heartbeat").answer(Heartbeat(Role.LEADER, scans))
    assert [end.hear(), end.hear()] == [link.Do(scan) for scan in scans]
    end.send(link.ScanOver("done"))
    end.batch(1)
    push.driver.expect("push").answer()
    end.hear()
    successor = push.attach(2)
    assert [successor.hear() for _ in range(3)] == [
        link.PusherHello(2), link.SessionNews(FIRST.id, FIRST.role), link.Do(scans[1]),
    ]  # fmt: skip


def test_the_command_channel_is_used_only_where_there_is_one(push: Push) -> None:
    end = push.begin()
    end.batch(1)
    push.driver.expect("push")
    assert "poll_commands" not in push.driver.begun


def test_orders_of_the_operator_are_refused(push: Push) -> None:
    push.worker.order(Order(id=3, action="snapshot"))
    assert push.runtime.replies == [(3, 'a pusher does not know the action "snapshot"', False)]


def test_a_push_that_waits_is_owed_and_told_of_after_five_seconds(tmp_path: Path) -> None:
    clock = [0.0]
    push = Push(tmp_path, now=lambda: clock[0])
    try:
        push.begin().batch(1)
        call = push.driver.expect("push")
        until(lambda: push.runtime.reports[-1].owed, within_s=DEADLINE_S, what="the push to be owed")
        assert push.report().error is None
        clock[0] = 29.0
        until(lambda: push.report().error, within_s=DEADLINE_S, what="the silence to be told of")
        assert push.report().error == "a push has been waiting for its answer for 25 s"
        call.answer(Unavailable("no answer in time"))
        until(lambda: push.report().error == "no answer in time", within_s=DEADLINE_S, what="the end to be told of")
        clock[0] = 60.0
        call = push.driver.expect("push")
        call.answer()
        until(lambda: push.report().error is None, within_s=DEADLINE_S, what="all to be well")
        until(lambda: not push.runtime.reports[-1].owed, within_s=DEADLINE_S, what="nothing to be owed")
    finally:
        push.close()


def test_a_push_of_many_requests_moves_with_each_and_says_how_long_it_may_wait(push: Push) -> None:
    push.worker.note_progress(15.0)  # by a call that is no push: nothing is owed
    push.begin().batch(1)
    call = push.driver.expect("push")
    before = push.worker._steps
    push.worker.note_progress(15.0)
    until(lambda: push.runtime.reports[-1].patience_s == 15.0, within_s=DEADLINE_S, what="the patience to be told")
    push.worker.note_progress()
    until(lambda: push.runtime.reports[-1].patience_s == 0.0, within_s=DEADLINE_S, what="the answer to be told")
    assert push.runtime.reports[-1].counters["steps"] == before + 2
    call.answer()


def test_who_opens_a_session_owes_it_and_says_how_long_that_may_take(push: Push) -> None:
    push.start()
    call = push.driver.expect("open_session")
    until(lambda: push.runtime.reports[-1].owed, within_s=DEADLINE_S, what="the session to be owed")
    assert push.runtime.reports[-1].patience_s == 0.0
    before, steps = len(push.runtime.reports), push.worker._steps

    def answer() -> Session:
        push.worker.note_progress(45.0)
        raise Unavailable("cannot connect")

    call.answer(answer)
    push.driver.expect("open_session")
    reports = push.runtime.reports[before:]
    assert (45.0, steps + 1) in [(report.patience_s, report.counters["steps"]) for report in reports]
    assert not all(report.owed for report in reports)  # the wait between was on purpose


def test_a_worker_that_waits_as_its_receiver_asked_owes_nothing_meanwhile(push: Push) -> None:
    push.begin().batch(1)
    call = push.driver.expect("push")
    until(lambda: push.runtime.reports[-1].owed, within_s=DEADLINE_S, what="the push to be owed")
    call.answer(Unavailable("503", retry_after_s=3600.0))
    until(lambda: not push.runtime.reports[-1].owed, within_s=DEADLINE_S, what="the rest to begin")


def test_heartbeats_are_no_progress_of_what_is_pushed(push: Push) -> None:
    push.begin(msgspec.structs.replace(FIRST, timeout_s=0.03))
    before = push.driver.begun.count("heartbeat")
    until(lambda: push.driver.begun.count("heartbeat") > before + 3, within_s=DEADLINE_S, what="heartbeats")
    assert len({tuple(report.counters.items()) for report in push.runtime.reports}) == 1


def test_work_is_owed_while_batches_wait_and_there_is_a_session(push: Push) -> None:
    end = push.begin()
    end.batch(1)
    end.batch(2)
    call = push.driver.expect("push")
    until(lambda: push.runtime.reports[-1].owed, within_s=DEADLINE_S, what="the work to be owed")
    call.answer()
    push.driver.expect("push").answer()
    until(lambda: not push.runtime.reports[-1].owed, within_s=DEADLINE_S, what="nothing to be owed")


# -- the end --------------------------------------------------------------------------------


def test_a_stop_delivers_what_waits_closes_the_session_and_forgets_it(push: Push) -> None:
    end = push.begin()
    end.batch(1)
    end.batch(2)
    call = push.driver.expect("push")
    until(lambda: len(push.worker._queue) == 1, within_s=DEADLINE_S, what="the second batch to wait")
    push.runtime.stop()
    call.answer()
    last = push.driver.expect("push")
    assert "close_session" not in push.driver.begun
    last.answer()
    push.join()
    assert push.driver.begun[-1] == "close_session"
    assert push.file.load() is None


def test_a_session_that_could_not_be_closed_is_kept_for_the_next_start(push: Push) -> None:
    push.driver.always["close_session"] = Unavailable("cannot connect")
    push.begin()
    push.runtime.stop()
    push.join()
    assert push.file.load() == FIRST


def test_a_stop_without_a_session_is_immediate(push: Push) -> None:
    push.start()
    call = push.driver.expect("open_session")
    push.runtime.stop()
    call.answer(Unavailable("cannot connect"))
    push.join()
    assert push.driver.begun.count("open_session") == 1


def test_a_stop_does_not_hammer_a_receiver_that_is_away(push: Push, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pusher, "_PUSH_BACKOFF", Backoff(first_s=0.05, cap_s=5.0))
    end = push.begin()
    push.runtime.grace_s = 1.0
    push.driver.always["push"] = Unavailable("cannot connect")
    end.batch(1)
    until(lambda: push.driver.begun.count("push") >= 1, within_s=DEADLINE_S, what="a first push")
    push.runtime.stop()
    push.join()
    assert push.driver.begun.count("push") < 20
    assert push.driver.begun.count("heartbeat") < 20


# -- main -----------------------------------------------------------------------------------

_STRANGE = """
from fake_pusher import FakePusher
from fustor_core.errors import ConfigError, Unavailable

class Driver(FakePusher):
    made = []
    def __init__(self, config, context):
        super().__init__()
        self.always["open_session"] = Unavailable("nobody answers")
        type(self).made.append(self)
        {init}
"""


@pytest.mark.parametrize(
    ("config", "init", "failures"),
    [
        ({}, "pass", []),
        ({}, "raise ConfigError('credential is empty')", [('pipe "p": credential is empty', True)]),
        ({}, "raise Unavailable('no')", [('pipe "p": no', False)]),
    ],
)
def test_main_runs_the_driver_until_the_stop_or_says_what_is_wrong(
    push: Push,
    install_driver: Callable[[str, str, str], None],
    config: dict[str, Any],
    init: str,
    failures: list[tuple[str, bool]],
    tmp_path: Path,
) -> None:
    install_driver("pusher", "strange", _STRANGE.format(init=init))
    runtime = FakeRuntime()
    runtime.stop()
    settings = msgspec.structs.replace(push.settings, type="strange", config=config)
    with contextlib.suppress(SystemExit):
        main(runtime, settings, PusherContext("p", "fs", "agent", tmp_path))  # type: ignore[arg-type]
    assert runtime.failures == failures
    assert runtime.is_ready is not bool(failures)
    import strange_strange

    assert (strange_strange.Driver.made[0].begun[-1:] == ["close"]) is not bool(failures)
