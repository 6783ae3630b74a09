"""Patterns over whole paths in which `**` stands for any number of directories; pure."""

import fnmatch
import re
from collections.abc import Callable, Sequence

_ANY_DEPTH = "**"
_SPECIAL = re.compile(r"[*?[\ufffd]")  # U+FFFD stands for any bad byte, so such a name cannot be looked up

_Fits = Callable[[str], object]


def names_depths(pattern: str) -> bool:
    """Tell whether a pattern has `**` between slashes, and so is one of whole paths."""
    return "/" in pattern and _ANY_DEPTH in pattern.split("/")


class PathPattern:
    """
    A glob of a whole path, name by name: `**` fits any number of names, `*`, `?` and `[…]` stay within one.

    At the end, `**` fits at least one name. Case-sensitive. The time to compare grows with the path's
    length times the pattern's, never faster.

    Args:
        pattern: With or without a leading slash; holds at least one `**`.
    """

    def __init__(self, pattern: str) -> None:
        parts = [part for part in pattern.split("/") if part]
        if parts[-1] == _ANY_DEPTH:
            parts.append("*")
        runs: list[list[_Fits]] = [[]]
        for part in parts:
            if part == _ANY_DEPTH:
                runs.append([])
            else:
                runs[-1].append(re.compile(fnmatch.translate(part)).match)
        self._first, *self._middle, self._last = runs
        self.start = _take_plain(parts)
        """The names of the directory in which everything is that can fit."""
        self.last = parts[-1]
        """The glob of the name."""

    def fits(self, names: Sequence[str]) -> bool:
        """Tell whether a path fits, by its names from the root down."""
        end = len(names) - len(self._last)
        at = len(self._first)
        if at > end or not _fit(self._first, names, 0) or not _fit(self._last, names, end):
            return False
        # Between two `**` the leftmost fit leaves the most to what follows.
        for run in self._middle:
            while at + len(run) <= end and not _fit(run, names, at):
                at += 1
            at += len(run)
            if at > end:
                return False
        return True


def _fit(run: Sequence[_Fits], names: Sequence[str], at: int) -> bool:
    return all(fits(name) for fits, name in zip(run, names[at : at + len(run)], strict=True))


def _take_plain(parts: Sequence[str]) -> list[str]:
    """Return the leading parts that are names and no patterns."""
    plain: list[str] = []
    for part in parts:
        if _SPECIAL.search(part):
            break
        plain.append(part)
    return plain
