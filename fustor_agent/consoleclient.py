"""The console of the running agent, as commands ask it."""

import os
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from fustor_agent.httpclient import Server
from fustor_agent.paths import AGENT, Paths
from fustor_agent.statusmodel import AgentInfo, AgentStatus, decode
from fustor_core.program.errors import ProgramError
from fustor_core.program.pidfile import open_holder
from fustor_core.program.secretfile import read_secret

_TIMEOUT_S: Final = 60.0


class Answer(msgspec.Struct, frozen=True):
    """
    What the agent says to an action.

    Args:
        detail: What was done, or why not.
        job_id: Of a scan that was asked for.
    """

    detail: str = ""
    job_id: str = ""


class ConsoleClient:
    """
    Asks one console.

    Args:
        address: Its URL.
        token: What changing requests present.
    """

    def __init__(self, address: str, token: str) -> None:
        self._server = Server("the console", address, {"Authorization": f"Bearer {token}"})

    def act(self, pipe: str, action: str, **query: str) -> Answer:
        """
        Have something done with a pipe.

        Raises:
            ProgramError: The agent refuses, or the console does not answer.
        """
        words = urlencode({name: os.fsencode(value) for name, value in query.items()})
        body = self._call("POST", f"/api/pipes/{quote(pipe, safe='')}/{action}?{words}")
        return msgspec.json.decode(body, type=Answer)

    def read_status(self) -> AgentStatus:
        """Return the status; raises ProgramError when the console does not answer."""
        return decode(self._call("GET", "/api/status"))

    def _call(self, method: str, path: str) -> bytes:
        with self._server.ask(method, path, timeout_s=_TIMEOUT_S) as response:
            self._server.require_ok(response)
            return response.read()


def find_console(paths: Paths) -> ConsoleClient:
    """
    Find the console of the running agent.

    Raises:
        NotRunning, ProgramError: There is none, and why.
    """
    console = read_agent(paths).console
    if console is None:
        raise ProgramError("the console is off; set console.port to something else than 0 and restart the agent")
    return ConsoleClient(console, read_secret(paths.token))


def read_agent(paths: Paths) -> AgentInfo:
    """
    Read what the running agent has published of itself.

    Raises:
        NotRunning, ProgramError: It has not, and why.
    """
    with open_holder(paths.pid) as holder:
        if holder is None:
            raise AGENT.not_running()
    try:
        return decode(paths.status.read_bytes()).agent
    except (OSError, msgspec.DecodeError) as err:
        raise ProgramError("the agent has not published its status yet; try again in a moment") from err
