"""`fustor-agent pipe`: ask the running agent to do something with a pipe."""

import argparse
import http.client
import json
from urllib.parse import quote, urlsplit

import msgspec

from fustor_agent.paths import AGENT, Paths, find_paths
from fustor_agent.secretfile import read_secret
from fustor_agent.statusmodel import decode
from fustor_core.program.errors import ProgramError
from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.pidfile import open_holder

_TIMEOUT_S = 60.0
_OK = 200


def run(args: argparse.Namespace) -> int:
    """Send the action to the console, with the token."""
    paths = find_paths()
    with open_holder(paths.pid) as holder:
        if holder is None:
            raise AGENT.not_running()
    path = f"/api/pipes/{quote(args.pipe, safe='')}/{args.action}"
    if args.action == "audit":
        path += f"?kind={args.kind}"
    print(_post(_find_console(paths), path, read_secret(paths.token)))
    return ExitCode.DONE


def _find_console(paths: Paths) -> str:
    try:
        console = decode(paths.status.read_bytes()).agent.console
    except (OSError, msgspec.DecodeError) as err:
        raise ProgramError("the agent has not published its status yet; try again in a moment") from err
    if console is None:
        raise ProgramError("the console is off; set console.port to something else than 0 and restart the agent")
    return console


def _post(console: str, path: str, token: str) -> str:
    address = urlsplit(console)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        body = response.read()
    except OSError as err:
        raise ProgramError(f"the console at {console} does not answer ({err})") from err
    finally:
        connection.close()
    text = str(json.loads(body).get("detail", "")) if body.startswith(b"{") else body.decode(errors="replace")
    if response.status != _OK:
        raise ProgramError(text or f"the console answered {response.status}")
    return text
