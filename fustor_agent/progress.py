"""What a foreground agent says while it gets its pipes current."""

import contextlib
import time
from collections.abc import Callable
from typing import TextIO

from fustor_agent.statusmodel import AgentStatus, PipeInfo, Totals
from fustor_core.program.tables import format_bytes

_PLAIN_INTERVAL_S = 3.0
_CLEAR_LINE = "\r\x1b[K"


def format_progress(status: AgentStatus) -> str:
    """Say in one line how far all enabled pipes are."""
    return " | ".join(_format_pipe(pipe) for pipe in status.pipes if pipe.enabled) or "no pipe is enabled"


def format_totals(totals: Totals) -> str:
    """Write what a view holds."""
    return f"{totals.files:,} files, {totals.directories:,} directories, {format_bytes(totals.bytes)}"


def is_settled(status: AgentStatus) -> bool:
    """Tell whether every enabled pipe is current."""
    return all(pipe.current for pipe in status.pipes if pipe.enabled)


class ProgressPrinter:
    """
    Prints progress until all is current: a line that refreshes on a terminal, one every few seconds otherwise.

    Args:
        stream: Where to.
        clock: Monotonic seconds; injected in tests.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._refreshes = stream.isatty()
        self._last_line = ""
        self._next_at_s = 0.0
        self._settled = False

    def show(self, status: AgentStatus) -> None:
        """Print what is new."""
        settled = is_settled(status)
        line = format_progress(status)
        if line == self._last_line or (settled and self._settled):
            return
        if self._refreshes:
            self._write(f"{_CLEAR_LINE}{line}" + ("\n" if settled else ""))
        elif settled or self._clock() >= self._next_at_s:
            self._write(f"{line}\n")
            self._next_at_s = self._clock() + _PLAIN_INTERVAL_S
        else:
            return
        self._last_line, self._settled = line, settled

    def _write(self, text: str) -> None:
        # A terminal that was closed, or a reader that went away, must not end the agent.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def _format_pipe(pipe: PipeInfo) -> str:
    if pipe.current:
        return f"{pipe.id}: current, {format_totals(pipe.totals)}" if pipe.totals else f"{pipe.id}: current"
    return f"{pipe.id}: {pipe.not_current_because}"
