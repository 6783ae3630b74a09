"""What commands say of a server that does not do as it is asked."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from fustor_agent.httpclient import Server
from fustor_core.program.errors import ProgramError


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], Server]]:
    """Make a server that says the same to everybody, whatever it is."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(answer: bytes) -> Server:
        listener = socket.create_server(("127.0.0.1", 0))

        def answer_once() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        listeners.append(listener)
        threads.append(threading.Thread(target=answer_once))
        threads[-1].start()
        return Server("the console", f"http://127.0.0.1:{listener.getsockname()[1]}", {"X-Key": "k"})

    yield start
    for thread, listener in zip(threads, listeners, strict=True):
        thread.join()
        listener.close()


def read(server: Server) -> bytes:
    with server.ask("GET", "/", timeout_s=60) as response:
        server.require_ok(response)
        return response.read()


def test_an_answer_is_read(serve: Callable[[bytes], Server]) -> None:
    assert read(serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")) == b"hi"


@pytest.mark.parametrize(
    "answer",
    [b"nonsense\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"],
    ids=["no HTTP", "nothing", "cut off"],
)
def test_whatever_is_no_answer_is_an_error_that_names_the_server(
    serve: Callable[[bytes], Server], answer: bytes
) -> None:
    server = serve(answer)
    with pytest.raises(ProgramError, match=f"the console at {server.url} does not answer"):
        read(server)


@pytest.mark.parametrize(("body", "said"), [
    (b'{"detail": "not now"}', "not now"), (b"plain", "plain"), (b"", "the console answered 503")])
def test_a_refusal_says_why(serve: Callable[[bytes], Server], body: bytes, said: str) -> None:
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n" % len(body)
    with pytest.raises(ProgramError, match=said):
        read(serve(head + body))
