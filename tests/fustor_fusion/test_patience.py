"""Who sends slowly, or nothing, holds no connection for ever, and who sends in time is served."""

import asyncio
import socket

import pytest
from starlette.requests import Request

from fustor_fusion import patience
from fustor_fusion.errors import RequestRefused
from fustor_fusion.guard import read_body
from fustor_fusion.patience import BODY_BYTES_PER_S, PatientProtocol, limit_body_s

LIMIT_S = 30
KEY = "X-API-Key: agent-key\r\n"
STATS = f"GET /api/v1/views/p/stats HTTP/1.1\r\nHost: localhost\r\n{KEY}\r\n".encode()


@pytest.fixture
def connect(fusion):
    made: list[socket.socket] = []

    def make() -> socket.socket:
        port = int(fusion.base.split(":")[2].split("/")[0])
        made.append(socket.create_connection(("127.0.0.1", port), LIMIT_S))
        return made[-1]

    yield make
    for each in made:
        each.close()


def read_all(connection: socket.socket) -> bytes:
    """Read until the other end closes."""
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


def ask_slowly(*parts: bytes) -> Request:
    """Make a request of which these parts come, and then nothing."""
    left = list(parts)

    async def receive():
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": True}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@pytest.mark.parametrize("parts", [(), (b"x",), (b"x" * 60, b"y" * 40)])
def test_a_body_of_which_nothing_comes_any_more_is_refused(parts, monkeypatch):
    monkeypatch.setattr(patience, "BODY_S", 0.05)
    size = sum(map(len, parts))
    with pytest.raises(RequestRefused, match=f"of the body only {size} bytes came .*; send at least 1000 bytes") as err:
        asyncio.run(asyncio.wait_for(read_body(ask_slowly(*parts), 1000), LIMIT_S))
    assert err.value.status == 408


def test_a_body_may_take_the_longer_the_more_of_it_has_come():
    assert limit_body_s(0) == 30
    assert limit_body_s(64 * BODY_BYTES_PER_S) == 94


def test_a_body_that_is_slow_is_answered_and_its_connection_closed(fusion, connect, monkeypatch):
    monkeypatch.setattr(patience, "BODY_S", 0.05)
    slow = connect()
    head = f"POST /api/v1/pipe/session/ HTTP/1.1\r\nHost: localhost\r\n{KEY}Content-Length: 99\r\n\r\n"
    slow.sendall(head.encode() + b"{")
    answer = read_all(slow)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"of the body only 1 bytes came" in answer


@pytest.mark.parametrize("beginning", [b"", b"GET /api/v1/views/p/stats HTTP/1.1\r\nHost: lo"])
def test_a_connection_on_which_no_request_comes_is_closed(connect, monkeypatch, beginning):
    monkeypatch.setattr(PatientProtocol, "head_s", 0.05)
    silent = connect()
    silent.sendall(beginning)
    assert read_all(silent) == b""


def test_a_request_that_does_not_come_whole_ends_a_connection_that_served_others(connect, monkeypatch):
    connection = connect()
    for _ in range(3):
        connection.sendall(STATS)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    monkeypatch.setattr(PatientProtocol, "head_s", 0.05)
    connection.sendall(STATS[:20])
    assert read_all(connection) == b""


def test_two_headers_host_are_refused(connect):
    connection = connect()
    head = f"GET /api/v1/views/p/stats HTTP/1.1\r\nHost: evil.example.org\r\nHost: localhost\r\n{KEY}"
    connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
    answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"several headers Host; send one" in answer
