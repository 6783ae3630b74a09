"""
What SQLite can tell of a name before Python looks at it, so that a search meets few names; pure.

A condition lets every name through that can fit, and some others: whoever asks compares what comes.
It must hold for any bytes. SQLite and Python read bytes that are no UTF-8 differently, so it
goes by ASCII characters, and by other characters only as runs of bytes.
"""

import fnmatch
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Final

Condition = tuple[str, tuple[str | bytes, ...]]
"""A condition on `name` in SQL, and the values in it."""

EVERY: Final[Condition] = ("1", ())
_PART: Final = re.compile(r"\*+|\[!?+\]?+[^\]]*\]|.", re.DOTALL)
_STARS: Final = re.compile(r"\*+")
_NO_BYTES: Final = re.compile("[\ud800-\udfff\ufffd]")  # U+FFFD stands for any bad byte
_MAX_CUTS: Final = 16


def fits_glob(pattern: str) -> Condition:
    """Let names through that a pattern of `fnmatch` can fit."""
    return _fits_parts(_PART.findall(pattern))


def holds_text(text: str) -> Condition:
    """Let names through in which a text can occur, ignoring case."""
    # U+0130 and U+212A become "i" and "k" in lower case, so these may stand for other bytes.
    loose = ("%" if not char.isascii() or char in "ik" else "\\" + char if char in "\\%_" else char
             for char in text.lower())
    # Letters of scripts without case are their own lower case.
    run = _find_run("".join(char if unicodedata.category(char) == "Lo" else " " for char in text))
    return "CAST(name AS TEXT) LIKE ? ESCAPE '\\' AND instr(name, ?)", (f"%{''.join(loose)}%", run)


def is_either(conditions: Iterable[Condition]) -> Condition:
    """Let names through that one of some conditions does."""
    texts: list[str] = ["0"]
    values: list[str | bytes] = []
    for text, its_values in conditions:
        texts.append(f"({text})")
        values += its_values
    return " OR ".join(texts), tuple(values)


def fits_below(pattern: str) -> Callable[[str], list[Condition]]:
    """
    Let names through with which a path can fit a pattern of `fnmatch`, whose star crosses slashes.

    Cuts the pattern wherever the last slash of a path can be: what comes before must fit the directory,
    what comes after, the name. Behind a star that fits the directory, cuts further to the left allow no more.

    Returns:
        What gives the conditions, one of which must hold, for names in a directory; its path ends with a slash.
    """
    parts = _PART.findall(pattern)
    cuts: list[tuple[Callable[[str], object], Condition, bool]] = []
    for at in reversed(range(len(parts))):
        part = parts[at]
        if not _is_special(part) and part != "/":
            continue
        is_star = part[0] == "*"
        rest = parts[at if is_star else at + 1 :]
        if "/" not in rest:
            above = re.compile(fnmatch.translate("".join(parts[: at + 1]))).match
            cuts.append((above, _fits_parts(rest), is_star))
        if len(cuts) > _MAX_CUTS:
            return lambda _: [EVERY]

    def choose(directory: str) -> list[Condition]:
        chosen: list[Condition] = []
        for above, condition, is_star in cuts:
            if above(directory):
                chosen.append(condition)
                if is_star:
                    break
        return chosen

    return choose


def _fits_parts(parts: Sequence[str]) -> Condition:
    """Let names through that can fit these parts of a pattern."""
    loose = ("*" if _is_special(part) or not part.isascii() else "[[]" if part == "[" else part for part in parts)
    run = _find_run("".join(" " if _is_special(part) else part for part in parts))
    return "CAST(name AS TEXT) GLOB ? AND instr(name, ?)", (_STARS.sub("*", "".join(loose)), run)


def _is_special(part: str) -> bool:
    return part[0] == "*" or part == "?" or len(part) > 1


def _find_run(text: str) -> bytes:
    """Return the longest run of characters that are not ASCII, as bytes."""
    return max(re.findall(r"[^\x00-\x7f]+", _NO_BYTES.sub(" ", text)), key=len, default="").encode()
