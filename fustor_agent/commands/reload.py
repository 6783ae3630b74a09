"""`fustor-agent reload`: make the running agent read its configuration again."""

import argparse
import contextlib
import os
import signal
import sys
import time

import msgspec

from fustor_agent.paths import AGENT, Paths, find_paths
from fustor_agent.reload import ReloadOutcome, await_outcome, describe_result, read_outcome
from fustor_agent.statusmodel import WorkerInfo, decode
from fustor_core.program.errors import ProgramError
from fustor_core.program.pidfile import Holder, open_holder

_TIMEOUT_S = 60.0
_STEP_S = 0.1


def run(args: argparse.Namespace) -> int:
    """Ask for the reload and print what it changes and what became of it, or why everything stays as it was."""
    paths = find_paths()
    with open_holder(paths.pid) as holder:
        if holder is None:
            raise AGENT.not_running()
        if not os.access(paths.state_dir, os.W_OK):
            raise ProgramError(f'"{paths.state_dir}" cannot be written, so nobody could say how a reload went')
        before = read_outcome(paths.reload)
        holder.signal(signal.SIGHUP)
        outcome = await_outcome(paths.reload, after=before, is_over=holder.wait, timeout_s=_TIMEOUT_S)
        if outcome is None:
            raise ProgramError(f"the agent did not say how the reload went; see {paths.log}")
        for line in outcome.lines:
            print(line, file=sys.stdout if outcome.ok else sys.stderr, flush=True)
        if outcome.ok:
            _follow(outcome, paths, holder)
        else:
            print("everything stays as it was", file=sys.stderr)
    return outcome.code


def _follow(outcome: ReloadOutcome, paths: Paths, holder: Holder) -> None:
    """Print what becomes of each change, in the order in which it does."""
    deadline = time.monotonic() + _TIMEOUT_S
    waiting = list(outcome.changes)
    while waiting:
        workers = _read_workers(paths)
        for change in list(waiting):
            result = describe_result(change, workers)
            if result is not None:
                print(result, flush=True)
                waiting.remove(change)
        if not waiting or holder.wait(_STEP_S) or time.monotonic() > deadline:
            break
    for change in waiting:
        print(f"{change.worker} is not there yet; see `fustor-agent status`", file=sys.stderr)


def _read_workers(paths: Paths) -> list[WorkerInfo]:
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return decode(paths.status.read_bytes()).workers
    return []
