"""`fustor-agent restart`: stop the agent and start it again in the background."""

import argparse
import sys

from fustor_agent.commands.choice import Choice, choose, read_config, recall
from fustor_agent.commands.start import start
from fustor_agent.paths import AGENT, find_paths
from fustor_core.program.errors import NotRunning
from fustor_core.program.pidfile import stop


def run(args: argparse.Namespace) -> int:
    """Restart on what it was started on, unless the command line names something else."""
    paths = find_paths()
    paths.prepare()
    asked = choose(args)
    choice = recall(paths) if asked == Choice() else asked
    # A configuration with errors must not cost the agent that runs.
    read_config(choice, paths)
    try:
        stop(paths.pid, AGENT, timeout_s=args.timeout)
    except NotRunning:
        print("the agent was not running", file=sys.stderr)
    return start(choice, paths, daemon=True)
