"""`fustor-agent tree`: what is below a path."""

import argparse
import os
import sys

import msgspec

from fustor_agent.viewclient import Node, read_lines
from fustor_core.program.exitcodes import ExitCode


def run(args: argparse.Namespace) -> int:
    """Print one line for each node, indented, directories with a slash behind them."""
    top = len(os.path.normpath(args.path).strip("/").split("/")) if args.path.strip("/") else 0
    for line in read_lines(args, "export", path=args.path):
        node = msgspec.json.decode(line, type=Node)
        path = node.get_path()
        depth = path.count("/") - top
        if args.depth is not None and depth > args.depth:
            continue
        if args.json:
            sys.stdout.write(line.decode())
        else:
            print("  " * (depth - 1) + _describe(node, path))
    return ExitCode.DONE


def _describe(node: Node, path: str) -> str:
    name = path.rpartition("/")[2]
    if node.type == "directory":
        return f"{name}/"
    return f"{name} -> {node.target}" if node.type == "symlink" else name
