"""Tables, durations and sizes as text for a terminal."""

from collections.abc import Sequence
from typing import Final

_RESET: Final = "\x1b[0m"
_COLOURS: Final = {
    "running": "\x1b[32m",
    "current": "\x1b[32m",
    "starting": "\x1b[33m",
    "stopping": "\x1b[33m",
    "catching up": "\x1b[33m",
    "backoff": "\x1b[31m",
    "fatal": "\x1b[31m",
    "abandoned": "\x1b[31m",
}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP: Final = 1000


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, colour: bool) -> str:
    """
    Write a table.

    Args:
        head: The titles of the columns.
        rows: As many cells each.
        colour: Mark states with colours; the words stand there in any case.
    """
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = []
        for cell, width in zip(row, widths, strict=True):
            padded = cell.ljust(width)
            cells.append(f"{_COLOURS[cell]}{padded}{_RESET}" if colour and cell in _COLOURS else padded)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def format_duration(seconds: float) -> str:
    """Write a duration for people: its two largest units."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def format_bytes(count: int) -> str:
    """Write a number of bytes for people, with three digits."""
    value, unit = float(count), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value /= _STEP
        unit += 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"
