"""`fustor-agent find`: the files that match a pattern."""

import argparse

from fustor_agent.viewclient import Node, read_answer
from fustor_core.program.exitcodes import ExitCode


def run(args: argparse.Namespace) -> int:
    """Print the path of each file that matches."""
    body, nodes = read_answer(args, list[Node], "search", pattern=args.glob)
    if args.json:
        print(body.decode())
    else:
        for node in nodes:
            print(node.get_path())
    return ExitCode.DONE
