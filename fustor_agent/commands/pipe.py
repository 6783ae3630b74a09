"""`fustor-agent pipe`: ask the running agent to do something with a pipe."""

import argparse

from fustor_agent.consoleclient import find_console
from fustor_agent.paths import find_paths
from fustor_core.program.exitcodes import ExitCode


def run(args: argparse.Namespace) -> int:
    """Send the action to the console, with the token."""
    query = {"kind": args.kind} if args.action == "audit" else {}
    print(find_console(find_paths()).act(args.pipe, args.action, **query).detail)
    return ExitCode.DONE
