"""`fustor-agent stop`: end the running agent."""

import argparse

from fustor_agent.paths import AGENT, find_paths
from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.pidfile import stop


def run(args: argparse.Namespace) -> int:
    """Stop the agent, and say how."""
    stop(find_paths().pid, AGENT, timeout_s=args.timeout)
    return ExitCode.DONE
