"""`fustor-agent du`: how much there is below a path."""

import argparse

import msgspec

from fustor_agent.viewclient import read_answer
from fustor_core.program.exitcodes import ExitCode


class Usage(msgspec.Struct, frozen=True):
    """The answer of `du`."""

    files: int
    directories: int
    bytes: int


def run(args: argparse.Namespace) -> int:
    """Print bytes, files and directories at and below a path."""
    body, usage = read_answer(args, Usage, "du", path=args.path)
    if args.json:
        print(body.decode())
    else:
        print(f"{usage.bytes} bytes, {usage.files} files, {usage.directories} directories  {args.path}")
    return ExitCode.DONE
