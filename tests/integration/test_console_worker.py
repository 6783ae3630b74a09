"""The console worker under the real supervisor: it is forked, fed, killed, replaced and stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from waiting import until

DEADLINE_S = 60

PROGRAM = """
import functools, os, sys, threading
from pathlib import Path
import fustor_agent.console.routes as routes
from fustor_supervisor.loop import Supervisor
from fustor_supervisor.requests import RequestResult
from fustor_supervisor.specs import StuckLimits, WorkerSpec
from fustor_core.program import logs
from fustor_agent.config import Config, ConsoleConfig
from fustor_agent.status import compose, encode
from fustor_agent.workers.console import ConsoleSettings, main

port, log = int(sys.argv[1]), Path(sys.argv[2])
logs.configure(log, process="agent")

def build_app(*args, build=routes.build_app, **options):
    app = build(*args, **options)
    async def serve(scope, receive, send):
        if scope["path"] == "/hang":
            threading.Event().wait()
        await app(scope, receive, send)
    return serve

routes.build_app = build_app
config = Config(console=ConsoleConfig(port=port))
supervisor = Supervisor(
    next_epoch=lambda: 1,
    publish=lambda status: encode(compose(config, status, version="1.0.0")),
    on_request=lambda request: RequestResult(f"{request.action} heard"),
)
settings = ConsoleSettings(host="127.0.0.1", port=port, token="secret")
spec = WorkerSpec(
    name="console",
    main=functools.partial(main, config=settings),
    limits=StuckLimits(answer_s=float(sys.argv[3]), ping_s=0.2),
    wants_status=True,
)
supervisor.apply([spec], [])
supervisor.run()
os._exit(0)
"""


@pytest.fixture
def port(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """Where a console listens; the parameter is for how long it may not answer its supervisor."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    answer_s = getattr(request, "param", 60.0)
    supervisor = subprocess.Popen([sys.executable, "-c", PROGRAM, str(port), str(tmp_path / "log"), str(answer_s)])
    yield port
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(DEADLINE_S) == 0


def ask(port: int, path: str, method: str = "GET") -> Any:
    headers = {"Authorization": "Bearer secret"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # one that hangs is asked again
            return json.load(answer)
    except urllib.error.HTTPError as err:
        err.close()
        return None
    except OSError:
        return None


def await_console(port: int, *, not_pid: int = 0) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        status = ask(port, "/api/status")
        (console,) = status["workers"] if status else [None]
        return console if console and console["state"] == "running" and console["pid"] != not_pid else None

    return until(look, within_s=DEADLINE_S, what="a running console") or {}


def test_the_console_shows_itself_takes_actions_and_comes_back_when_it_is_killed(port: int) -> None:
    console = await_console(port)
    assert console["rss_bytes"] > 0
    assert ask(port, "/api/reload", "POST") == {"ok": True, "detail": "reload heard"}
    os.kill(console["pid"], signal.SIGKILL)
    successor = await_console(port, not_pid=console["pid"])
    assert successor["restarts"] == 1
    assert successor["last_exit"]["signal"] == "SIGKILL"
    assert ask(port, "/readyz") == {"ready": True, "reasons": {}}


@pytest.mark.parametrize("port", [2.0], indirect=True)
def test_a_console_whose_loop_hangs_is_replaced(port: int) -> None:
    console = await_console(port)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        successor = await_console(port, not_pid=console["pid"])
    assert "a ping is unanswered" in successor["last_exit"]["reason"]
