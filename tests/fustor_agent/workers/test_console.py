import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from fustor_agent.statusmodel import AgentInfo, AgentStatus, encode
from fustor_agent.workers.console import ConsoleSettings, main
from fustor_supervisor.errors import RequestTimedOut
from fustor_supervisor.messages import Reply

DEADLINE_S = 30
STATUS = encode(AgentStatus(AgentInfo("1.0.0", 1, "running", "", 1.0)))


class Failed(Exception):
    pass


class FakeRuntime:
    """The worker's side of the control link, without a supervisor at its other end."""

    def __init__(self) -> None:
        self.on_status: Callable[[bytes], None] | None = None
        self.is_ready = threading.Event()
        self.stop_requested = threading.Event()
        self.asked: list[tuple[str, str]] = []
        self.failed: list[tuple[str, bool]] = []
        self._stops: list[Callable[[], None]] = []

    def ready(self) -> None:
        self.is_ready.set()

    def on_stop(self, callback: Callable[[], None]) -> None:
        self._stops.append(callback)

    def stop(self) -> None:
        self.stop_requested.set()
        for callback in self._stops:
            callback()

    def request(self, action: str, target: str = "", *, timeout_s: float) -> Reply:
        self.asked.append((action, target))
        if action == "reload":
            raise RequestTimedOut("no answer in time")
        return Reply(generation=1, id=1, result="done", ok=True)

    def fail(self, error: str, *, permanent: bool) -> NoReturn:
        self.failed.append((error, permanent))
        raise Failed


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def console(runtime: FakeRuntime) -> Iterator[int]:
    port = free_port()
    settings = ConsoleSettings(host="127.0.0.1", port=port, token="secret")
    worker = threading.Thread(target=main, args=(runtime, settings))
    worker.start()
    assert runtime.is_ready.wait(DEADLINE_S)
    yield port
    runtime.stop()
    worker.join(DEADLINE_S)
    assert not worker.is_alive()


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_it_shows_what_the_supervisor_publishes(runtime: FakeRuntime, console: int) -> None:
    assert ask(console, "GET", "/healthz")[0] == 503
    assert runtime.on_status is not None
    runtime.on_status(STATUS)
    assert ask(console, "GET", "/healthz")[0] == 200
    assert ask(console, "GET", "/api/status")[1]["agent"]["version"] == "1.0.0"


def test_it_forwards_actions_and_says_when_nobody_answers(runtime: FakeRuntime, console: int) -> None:
    code, body = ask(console, "POST", "/api/reload", Authorization="Bearer secret")
    assert (code, body["detail"]) == (504, "no answer in time")
    assert runtime.asked == [("reload", "")]


def test_it_stops_although_somebody_keeps_a_connection_open(runtime: FakeRuntime, console: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", console, timeout=DEADLINE_S)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    runtime.stop()
    assert connection.sock is not None
    assert connection.sock.recv(1) == b""
    connection.close()


def test_a_port_that_was_taken_in_the_meantime_is_tried_again_later(runtime: FakeRuntime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Failed):
            main(runtime, ConsoleSettings(host="127.0.0.1", port=port, token="secret"))
    ((error, permanent),) = runtime.failed
    assert error.startswith(f"console.port: {port} on 127.0.0.1 is taken; ")
    assert not permanent
    assert not runtime.is_ready.is_set()
