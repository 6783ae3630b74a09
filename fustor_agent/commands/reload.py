"""`fustor-agent reload`: make the running agent read its configuration again."""

import argparse
import signal
import sys

from fustor_agent.paths import AGENT, find_paths
from fustor_agent.reload import await_outcome, read_outcome
from fustor_core.program.errors import ProgramError
from fustor_core.program.pidfile import open_holder

_TIMEOUT_S = 60.0


def run(args: argparse.Namespace) -> int:
    """Ask for the reload and print what it changes, or why everything stays as it was."""
    paths = find_paths()
    with open_holder(paths.pid) as holder:
        if holder is None:
            raise AGENT.not_running()
        before = read_outcome(paths.reload)
        holder.signal(signal.SIGHUP)
        outcome = await_outcome(paths.reload, after=before, is_over=holder.wait, timeout_s=_TIMEOUT_S)
    if outcome is None:
        raise ProgramError(f"the agent did not say how the reload went; see {paths.log}")
    for line in outcome.problems:
        print(line, file=sys.stderr)
    for line in outcome.changes or (("nothing changes",) if outcome.ok else ()):
        print(line)
    if not outcome.ok:
        print("everything stays as it was", file=sys.stderr)
    return outcome.code
