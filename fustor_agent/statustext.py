"""The status as text for a terminal."""

from collections.abc import Sequence
from typing import Final

from fustor_agent.progress import format_totals
from fustor_agent.statusmodel import AgentStatus, PipeInfo, WorkerInfo, find_faults
from fustor_core.program.tables import format_bytes, format_duration, format_table

_PIPE_HEAD: Final = ("PIPE", "STATE", "PHASE", "ROLE", "PENDING", "ACKNOWLEDGED", "LOST", "LAG")
_SHOWN_LINES: Final = 10
_WORKER_HEAD: Final = ("WORKER", "STATE", "PID", "RESTARTS", "UP", "MEMORY", "CPU")


def format_status(status: AgentStatus, faults: Sequence[str], *, colour: bool) -> str:
    """
    Write the status as a few short tables.

    Args:
        status: What to show.
        faults: What a person should know about, one line each.
        colour: Mark states with colours; the words stand there in any case.
    """
    agent = status.agent
    blocks = [f"agent {agent.version} is {agent.state}, pid {agent.pid}, for {format_duration(agent.uptime_s)}"]
    if agent.state == "starting" and not status.workers:
        blocks = [f"the agent is starting, pid {agent.pid}"]
    if agent.console:
        blocks[0] += f", console {agent.console}/"
    if status.pipes:
        rows = [_pipe_row(pipe) for pipe in status.pipes]
        blocks.append(format_table(_PIPE_HEAD, rows, colour=colour))
        blocks.append("\n".join(line for pipe in status.pipes for line in _pipe_lines(pipe)))
    if status.workers:
        rows = [_worker_row(worker) for worker in status.workers]
        blocks.append(format_table(_WORKER_HEAD, rows, colour=colour))
    blocks += [_format_last_words(worker) for worker in status.workers if worker.is_broken]
    if faults:
        blocks.append("\n".join(f"! {fault}" for fault in faults))
    return "\n\n".join(block for block in blocks if block)


def summarize(status: AgentStatus) -> str:
    """Write the status as one line, as a service manager shows it."""
    enabled = [pipe for pipe in status.pipes if pipe.enabled]
    current = sum(pipe.current for pipe in enabled)
    return "; ".join((f"{current} of {len(enabled)} pipes are current", *find_faults(status)))


def _pipe_row(pipe: PipeInfo) -> tuple[str, ...]:
    state = "current" if pipe.current else "catching up" if pipe.state == "running" else pipe.state
    counters = pipe.counters
    return (
        pipe.id,
        state if pipe.enabled else "off",
        pipe.phase or "-",
        pipe.role or "-",
        f"{counters.pending:,}",
        f"{counters.acknowledged:,}",
        f"{counters.lost:,}",
        f"{pipe.lag_s:.1f} s",
    )


def _pipe_lines(pipe: PipeInfo) -> list[str]:
    lines = []
    if pipe.totals is not None:
        lines.append(f"{pipe.id} holds {format_totals(pipe.totals)}")
    if pipe.not_current_because and pipe.enabled and pipe.not_current_because != pipe.problem:
        lines.append(f"{pipe.id} is not current: {pipe.not_current_because}")
    return lines


def _format_last_words(worker: WorkerInfo) -> str:
    """Show the end of what a worker that does not run wrote to standard error."""
    output = worker.last_exit.output if worker.last_exit else ""
    # what a driver wrote may hold sequences that play tricks on a terminal
    lines = [
        "".join(each if each.isprintable() else " " for each in line)
        for line in output.splitlines()[-_SHOWN_LINES:]
    ]
    return "\n".join([f"{worker.name} wrote last:", *(f"  {line}" for line in lines)]) if lines else ""


def _worker_row(worker: WorkerInfo) -> tuple[str, ...]:
    return (
        worker.name,
        worker.state,
        "-" if worker.pid is None else str(worker.pid),
        str(worker.restarts),
        format_duration(worker.uptime_s),
        "-" if worker.rss_bytes is None else format_bytes(worker.rss_bytes),
        "-" if worker.cpu_percent is None else f"{worker.cpu_percent:.1f} %",
    )
