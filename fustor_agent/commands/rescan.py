"""`fustor-agent rescan`: have a path looked at again, and say what came of it."""

import argparse
import time
from typing import Final

from fustor_agent.consoleclient import ConsoleClient, find_console
from fustor_agent.paths import find_paths
from fustor_agent.reports import ScanReport
from fustor_agent.statusmodel import AgentStatus
from fustor_core.program.errors import ProgramError
from fustor_core.program.exitcodes import ExitCode

_LOOK_EVERY_S: Final = 0.25
_OVER: Final = ("done", "incomplete")


def run(args: argparse.Namespace) -> int:
    """Ask for the scan, show how far it is, and wait for its end."""
    console = find_console(find_paths())
    generation = _find_generation(console.read_status(), args.pipe)
    job_id = console.act(args.pipe, "rescan", path=args.path).job_id
    scan = _follow(console, args.pipe, job_id, generation)
    if scan.state == "done":
        return ExitCode.DONE
    raise ProgramError(f"job {job_id}: not all of {scan.path} could be looked at; `fustor-agent status` says what not")


def _follow(console: ConsoleClient, pipe: str, job_id: str, generation: int) -> ScanReport:
    shown = ""
    while True:
        status = console.read_status()
        scan = next((scan for each in status.pipes if each.id == pipe for scan in each.scans if scan.job_id == job_id),
                    None)
        if scan is not None:
            line = f"job {job_id}: {scan.state}, {scan.directories} directories, {scan.rows} rows"
            if line != shown:
                print(line, flush=True)
            shown = line
            if scan.state in _OVER:
                return scan
        elif _find_generation(status, pipe) != generation:
            raise ProgramError(f"job {job_id}: the source was restarted meanwhile; ask again")
        time.sleep(_LOOK_EVERY_S)


def _find_generation(status: AgentStatus, pipe: str) -> int:
    """Return which incarnation of a pipe's source runs; 0 when there is none."""
    return next((each.generation for each in status.workers if each.pipe == pipe and each.kind == "source"), 0)
