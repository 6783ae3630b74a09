"""The console of the running agent, as commands ask it."""

import http.client
import os
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from fustor_agent.paths import AGENT, Paths
from fustor_agent.secretfile import read_secret
from fustor_agent.statusmodel import AgentInfo, AgentStatus, decode
from fustor_core.program.errors import ProgramError
from fustor_core.program.pidfile import open_holder

_TIMEOUT_S: Final = 60.0
_OK: Final = 200


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
        self._address = address
        self._token = token

    def act(self, pipe: str, action: str, **query: str) -> Answer:
        """
        Have something done with a pipe.

        Raises:
            ProgramError: The agent refuses, or the console does not answer.
        """
        words = urlencode({name: os.fsencode(value) for name, value in query.items()})
        return self._ask("POST", f"/api/pipes/{quote(pipe, safe='')}/{action}?{words}")

    def read_status(self) -> AgentStatus:
        """Return the status; raises ProgramError when the console does not answer."""
        return decode(self._call("GET", "/api/status"))

    def _ask(self, method: str, path: str) -> Answer:
        return msgspec.json.decode(self._call(method, path), type=Answer)

    def _call(self, method: str, path: str) -> bytes:
        address = urlsplit(self._address)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, headers={"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            body = response.read()
        except OSError as err:
            raise ProgramError(f"the console at {self._address} does not answer ({err})") from err
        finally:
            connection.close()
        if response.status != _OK:
            raise ProgramError(_find_reason(body) or f"the console answered {response.status}")
        return body


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


def _find_reason(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=Answer).detail
    except msgspec.DecodeError:
        return body.decode(errors="replace")
