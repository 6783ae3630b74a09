"""`fustor-agent status`: the state of workers and pipes."""

import argparse
import sys
import time

import msgspec

from fustor_agent.paths import AGENT, Paths, find_paths
from fustor_agent.statusmodel import AgentInfo, AgentStatus, decode, encode, find_faults
from fustor_agent.statustext import format_status
from fustor_agent.usage import UsageMeter
from fustor_core.program.errors import NotRunning
from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.pidfile import open_holder
from fustor_core.program.silence import explain_silence

_INTERVAL_S = 1.0
_CLEAR_SCREEN = "\x1b[H\x1b[2J"


def run(args: argparse.Namespace) -> int:
    """Show the status, once or every second."""
    paths, meter = find_paths(), UsageMeter()
    if not args.watch:
        return _show(paths, meter, as_json=args.json)
    code: int = ExitCode.DONE
    try:
        while True:
            if sys.stdout.isatty():
                sys.stdout.write(_CLEAR_SCREEN)
            try:
                code = _show(paths, meter, as_json=args.json)
            except NotRunning as err:
                print(err)
                code = err.exit_code
            time.sleep(_INTERVAL_S)
    except KeyboardInterrupt:
        return code


def _show(paths: Paths, meter: UsageMeter, *, as_json: bool) -> int:
    with open_holder(paths.pid) as holder:
        pid = holder.pid if holder else None
    if pid is None:
        if as_json:
            print(encode(_say_only("stopped", 0)).decode(), flush=True)
        raise AGENT.not_running()
    status = meter.add_usage(_read(paths, pid))
    silence = explain_silence(AGENT.name, status.agent.published_s, paths.status, paths.log)
    faults = [silence] if silence is not None else []
    faults += find_faults(status)
    if as_json:
        print(encode(status).decode(), flush=True)
    else:
        print(format_status(status, faults, colour=sys.stdout.isatty()), flush=True)
    return ExitCode.FAILED if faults else ExitCode.DONE


def _read(paths: Paths, pid: int) -> AgentStatus:
    """Read the published status; until an agent has published, all that is known is that it starts."""
    try:
        status = decode(paths.status.read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return _say_only("starting", pid)
    return status if status.agent.pid == pid else _say_only("starting", pid)


def _say_only(state: str, pid: int) -> AgentStatus:
    return AgentStatus(agent=AgentInfo(version="", pid=pid, state=state, started_at="", uptime_s=0.0))
