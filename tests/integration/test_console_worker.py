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
import functools, os, sys
from pathlib import Path
from fustor_supervisor.loop import Supervisor
from fustor_supervisor.requests import RequestResult
from fustor_supervisor.specs import WorkerSpec
from fustor_core.program import logs
from fustor_agent.config import Config, ConsoleConfig
from fustor_agent.status import compose, encode
from fustor_agent.workers.console import ConsoleSettings, main

port, log = int(sys.argv[1]), Path(sys.argv[2])
logs.configure(log, process="agent")
config = Config(console=ConsoleConfig(port=port))
supervisor = Supervisor(
    next_epoch=lambda: 1,
    publish=lambda status: encode(compose(config, status, version="1.0.0")),
    on_request=lambda request: RequestResult(f"{request.action} heard"),
)
settings = ConsoleSettings(host="127.0.0.1", port=port, token="secret")
spec = WorkerSpec(name="console", main=functools.partial(main, config=settings), wants_status=True)
supervisor.apply([spec], [])
supervisor.run()
os._exit(0)
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    supervisor = subprocess.Popen([sys.executable, "-c", PROGRAM, str(port), str(tmp_path / "log")])
    yield port
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(DEADLINE_S) == 0


def ask(port: int, path: str, method: str = "GET") -> Any:
    headers = {"Authorization": "Bearer secret"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
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
