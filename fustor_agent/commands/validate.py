"""`fustor-agent validate`: check the configuration, and on request what it names."""

import argparse
import sys

from fustor_agent.commands.choice import choose, read_config
from fustor_agent.drivercheck import check_drivers
from fustor_agent.paths import find_paths
from fustor_core.program.exitcodes import ExitCode


def run(args: argparse.Namespace) -> int:
    """Check, and print all problems or that there are none."""
    config = read_config(choose(args), find_paths())
    counts = f"{len(config.sources)} sources, {len(config.senders)} senders, {len(config.pipes)} pipes"
    print(f"the configuration is correct: {counts}")
    if not args.probe:
        return ExitCode.DONE
    problems = check_drivers(config, probe=True)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return ExitCode.FAILED
    print("all sources can be read and all receivers answer")
    return ExitCode.DONE
