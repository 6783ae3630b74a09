import itertools
import os
import signal
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from fustor_supervisor import (
    Channel,
    Command,
    LinkClosed,
    LinkSpec,
    Request,
    RequestResult,
    RestartPolicy,
    Runtime,
    Supervisor,
    WorkerSpec,
    encode_frame,
)
from fustor_supervisor.testing import are_running, find_worker, turn_until

NOW = RestartPolicy(first_s=0.0, base_s=0.0)
OLD = b"old payload"
LINK = LinkSpec("link", "source", "target")


class Heard(msgspec.Struct, frozen=True):
    """What a peer says about its link."""

    epoch: int
    payload: bytes | None


class Peer:
    """The main of a worker that reads its link, and writes to it when told."""

    def __call__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.channel: Channel | None = None
        runtime.on_attach = self.attach
        runtime.on_command = self.obey
        runtime.ready()
        runtime.stop_requested.wait()

    def attach(self, link: str, epoch: int, channel: Channel) -> None:
        if self.channel is not None:
            self.channel.shutdown()
        self.channel = channel
        self.epoch = epoch
        self.tell("attached", Heard(epoch, None), wait=False)
        threading.Thread(target=self.read, args=(epoch, channel), daemon=True).start()

    def read(self, epoch: int, channel: Channel) -> None:
        while (payload := channel.recv()) is not None:
            self.tell("heard", Heard(epoch, payload))
        self.tell("ended", Heard(epoch, None))

    def tell(self, what: str, heard: Heard, *, wait: bool = True) -> None:
        target = msgspec.json.encode(heard).decode()
        # an attach comes in the control thread, which must not wait for an answer
        ask = threading.Thread(target=self.runtime.request, args=(what, target), daemon=True)
        ask.start()
        if wait:
            ask.join()

    def obey(self, command: Command) -> None:
        assert self.channel is not None
        if command.action == "write bytes":
            with socket.socket(fileno=os.dup(self.channel.fileno())) as raw:
                raw.sendall(encode_frame(OLD)[: int(command.target)])
        elif command.action == "write frame":
            self.channel.send(command.target.encode())
        elif command.action == "fill":
            threading.Thread(target=self.fill, args=(self.epoch, self.channel), daemon=True).start()
        self.runtime.reply(command.id, command.action)

    def fill(self, epoch: int, channel: Channel) -> None:
        try:
            while True:
                channel.send(bytes(1 << 20))
        except LinkClosed:
            self.tell("send ended", Heard(epoch, None))


class Scene:
    """Two linked peers under a supervisor, and what they told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, Heard]] = []
        self.supervisor = Supervisor(next_epoch=itertools.count(1).__next__, on_request=self.note)
        self.supervisor.apply([WorkerSpec(name, Peer(), restart=NOW) for name in ("source", "target")], [LINK])
        self.supervisor.start()

    def note(self, request: Request) -> RequestResult:
        heard = msgspec.json.decode(request.target, type=Heard)
        self.told.append((request.worker, request.action, heard))
        return RequestResult("")

    def find(self, worker: str, what: str) -> list[Heard]:
        return [heard for name, told, heard in self.told if (name, told) == (worker, what)]

    def wait_for_epoch(self, epoch: int) -> None:
        expected = {("source", epoch), ("target", epoch)}
        turn_until(
            self.supervisor,
            lambda: expected <= {(name, heard.epoch) for name, what, heard in self.told if what == "attached"}
            and are_running(self.supervisor),
        )

    def order(self, worker: str, action: str, target: str = "") -> None:
        replies: list[bool] = []
        self.supervisor.command(worker, action, target, lambda reply: replies.append(reply.ok))
        turn_until(self.supervisor, lambda: replies)
        assert replies == [True]

    def pid(self, worker: str) -> int:
        pid = find_worker(self.supervisor, worker).pid
        assert pid is not None
        return pid


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.supervisor.stop(0.0)
    while scene.supervisor.turn():
        pass
    scene.supervisor.close()


def test_both_ends_of_a_link_are_attached_with_one_epoch(scene: Scene) -> None:
    scene.wait_for_epoch(1)
    scene.order("source", "write frame", "hello")
    scene.order("target", "write frame", "hello yourself")
    turn_until(scene.supervisor, lambda: scene.find("target", "heard") and scene.find("source", "heard"))
    assert scene.find("target", "heard") == [Heard(1, b"hello")]
    assert scene.find("source", "heard") == [Heard(1, b"hello yourself")]


@pytest.mark.parametrize("suspend", [False, True], ids=["killed", "suspended and killed"])
@pytest.mark.parametrize("victim", ["source", "target"])
@pytest.mark.parametrize("writer", ["source", "target"])
def test_a_frame_cut_at_any_byte_is_dropped_and_the_link_goes_on_under_a_new_epoch(
    scene: Scene, writer: str, victim: str, suspend: bool
) -> None:
    reader = "target" if writer == "source" else "source"
    scene.wait_for_epoch(1)
    for offset in range(len(encode_frame(OLD))):
        epoch = offset + 1
        scene.order(writer, "write bytes", str(offset))
        if suspend:
            os.kill(scene.pid(victim), signal.SIGSTOP)
        os.kill(scene.pid(victim), signal.SIGKILL)
        scene.wait_for_epoch(epoch + 1)
        scene.told.clear()
        scene.order(writer, "write frame", f"new {offset}")
        turn_until(scene.supervisor, lambda: scene.find(reader, "heard"))
        assert scene.find(reader, "heard") == [Heard(epoch + 1, b"new %d" % offset)]
        assert scene.find(writer, "heard") == []
    survivor = "target" if victim == "source" else "source"
    assert find_worker(scene.supervisor, survivor).generation == 1
    assert find_worker(scene.supervisor, victim).generation == len(encode_frame(OLD)) + 1


@pytest.mark.parametrize("victim", ["source", "target"])
def test_a_survivor_that_is_blocked_in_a_send_is_woken_and_attached_anew(scene: Scene, victim: str) -> None:
    survivor = "target" if victim == "source" else "source"
    scene.wait_for_epoch(1)
    os.kill(scene.pid(victim), signal.SIGSTOP)
    scene.order(survivor, "fill")
    os.kill(scene.pid(victim), signal.SIGKILL)
    scene.wait_for_epoch(2)
    turn_until(scene.supervisor, lambda: scene.find(survivor, "send ended"))
    assert scene.find(survivor, "send ended") == [Heard(1, None)]
    scene.order(survivor, "write frame", "again")
    turn_until(scene.supervisor, lambda: Heard(2, b"again") in scene.find(victim, "heard"))


def test_both_ends_dying_at_once_get_a_link_of_their_own(scene: Scene) -> None:
    scene.wait_for_epoch(1)
    for name in ("source", "target"):
        os.kill(scene.pid(name), signal.SIGKILL)
    turn_until(
        scene.supervisor,
        lambda: all(worker.generation == 2 for worker in scene.supervisor.status().workers)
        and are_running(scene.supervisor),
    )
    scene.order("source", "write frame", "hello")
    turn_until(scene.supervisor, lambda: b"hello" in [heard.payload for heard in scene.find("target", "heard")])
    assert scene.find("target", "heard")[-1].epoch >= 2


def test_a_link_to_a_stopped_worker_is_made_when_it_is_started(scene: Scene) -> None:
    scene.wait_for_epoch(1)
    scene.supervisor.set_up("target", False)
    turn_until(scene.supervisor, lambda: find_worker(scene.supervisor, "target").state == "stopped")
    turn_until(scene.supervisor, lambda: scene.find("source", "ended") == [Heard(1, None)])
    scene.supervisor.set_up("target", True)
    scene.wait_for_epoch(2)


def test_a_link_that_cannot_be_made_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fustor_supervisor.staff.LINK_RETRY_S", 0.05)
    answers = iter([OSError("disk full"), OSError("disk full"), 7])

    def next_epoch() -> int:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def main(runtime: Runtime) -> None:
        runtime.on_attach = lambda link, epoch, channel: runtime.report({link: epoch})
        runtime.ready()
        runtime.stop_requested.wait()

    supervisor = Supervisor(next_epoch=next_epoch)
    supervisor.apply([WorkerSpec("source", main), WorkerSpec("target", main)], [LINK])
    supervisor.start()
    turn_until(
        supervisor, lambda: [worker.counters for worker in supervisor.status().workers] == [{"link": 7}, {"link": 7}]
    )
    supervisor.stop()
    while supervisor.turn():
        pass
    supervisor.close()


def test_an_attach_that_comes_before_main_listens_is_kept() -> None:
    def main(runtime: Runtime) -> None:
        runtime.ready()
        runtime.request("go on")  # the answer comes behind the attach
        runtime.on_attach = lambda link, epoch, channel: runtime.report({link: epoch})
        runtime.stop_requested.wait()

    waiting: list[Request] = []

    def on_request(request: Request) -> None:
        waiting.append(request)

    supervisor = Supervisor(next_epoch=itertools.count(1).__next__, on_request=on_request)
    supervisor.apply([WorkerSpec("source", main), WorkerSpec("target", main)], [LINK])
    supervisor.start()
    turn_until(supervisor, lambda: len(waiting) == 2)
    for request in waiting:
        supervisor.answer(request, RequestResult(""))
    turn_until(
        supervisor, lambda: [worker.counters for worker in supervisor.status().workers] == [{"link": 1}, {"link": 1}]
    )
    supervisor.stop()
    while supervisor.turn():
        pass
    supervisor.close()
