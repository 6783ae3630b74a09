"""Why a worker ended or must end, in words for people; pure."""

from typing import Final

from fustor_supervisor.exitcodes import ExitCode
from fustor_supervisor.process import Exit
from fustor_supervisor.specs import ResourceLimits

# What a process says that is refused memory; a thread needs some for its stack.
_SIGNS_OF_SHORTAGE: Final = ("MemoryError", "Cannot allocate memory", "can't start new thread")


def explain_exit(exit: Exit, said: str | None, resources: ResourceLimits) -> str:
    """
    Say why a process ended that nobody stopped.

    Args:
        exit: How it ended.
        said: What it said itself, None if nothing.
        resources: Its ceilings.
    """
    reason = said or _describe_exit(exit)
    ceiling = resources.hard_memory_bytes
    if ceiling is None or not any(sign in reason for sign in _SIGNS_OF_SHORTAGE):
        return reason
    return f"it needs more memory than its hard ceiling of {ceiling / 1e6:.0f} MB: {reason}"


def explain_stop(was_killed: bool) -> str:
    """Say how a process ended that was asked to."""
    return "stopped as asked, by SIGKILL after the grace" if was_killed else "stopped as asked"


def explain_growth(memory_bytes: int, resources: ResourceLimits) -> str | None:
    """Say that a process uses more memory than its soft ceiling; None if it does not, or has none."""
    ceiling = resources.soft_memory_bytes
    if ceiling is None or memory_bytes <= ceiling:
        return None
    return f"it uses {memory_bytes / 1e6:.0f} MB of memory, its soft ceiling is {ceiling / 1e6:.0f} MB"


def add_condition(reason: str, condition: str | None) -> str:
    """Add what a process is doing, if that is known, to what is wrong with it."""
    return reason if condition is None else f"{reason}; {condition}"


def _describe_exit(exit: Exit) -> str:
    if exit.signal is not None:
        return f"killed by {exit.signal}"
    if exit.code is None:
        return "ended in an unknown way"
    if exit.code == ExitCode.OK:
        return "it ended without being asked to stop"
    return f"exited with code {exit.code}"
