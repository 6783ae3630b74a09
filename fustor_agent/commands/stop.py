"""`fustor-agent stop`: end the running agent."""

import argparse
import signal
import sys

from fustor_agent.errors import AgentError, NotRunning
from fustor_agent.exitcodes import ExitCode
from fustor_agent.paths import Paths, find_paths
from fustor_agent.pidfile import open_holder

_KILL_S = 5.0


def run(args: argparse.Namespace) -> int:
    """Stop the agent, and say how."""
    stop(find_paths(), timeout_s=args.timeout)
    return ExitCode.DONE


def stop(paths: Paths, *, timeout_s: float) -> None:
    """
    Ask the running agent to stop, wait, and kill it if that takes too long.

    Args:
        paths: Where its PID file is.
        timeout_s: How long it may take.

    Raises:
        NotRunning: There is none.
        AgentError: It cannot be signalled, or does not even die when it is killed.
    """
    with open_holder(paths.pid) as holder:
        if holder is None:
            raise NotRunning("the agent is not running")
        holder.signal(signal.SIGTERM)
        if holder.wait(timeout_s):
            print(f"stopped, pid {holder.pid}")
            return
        print(f"pid {holder.pid} did not stop within {timeout_s:g} s; killing it", file=sys.stderr)
        holder.signal(signal.SIGKILL)
        if not holder.wait(_KILL_S):
            raise AgentError(f"pid {holder.pid} cannot be killed: it waits for a device; see `ps -o stat,wchan`")
        print(f"killed, pid {holder.pid}")
