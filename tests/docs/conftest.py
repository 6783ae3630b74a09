"""Reads the pages as data: code blocks, tables below a heading."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from checkout import ROOT

Rows = list[list[str]]


def read_blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def read_table(page: Path, heading: str) -> Rows:
    """Return the rows of all tables between a heading and the next of its level, without heads and rules."""
    level = heading.split(maxsplit=1)[0]
    match = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^{level} |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert match is not None, f"{page.name} has no heading {heading!r}"
    lines = match[1].splitlines()
    bodies = [
        line for number, line in enumerate(lines)
        if line.startswith("|") and not line.startswith("|---")
        and not (number + 1 < len(lines) and lines[number + 1].startswith("|---"))
    ]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in bodies]


@pytest.fixture
def blocks() -> Callable[[str, str], list[str]]:
    """Give the code blocks of a page (a path below the root) in a language."""
    return lambda page, language: read_blocks(ROOT / page, language)


@pytest.fixture
def table() -> Callable[[str, str], Rows]:
    """Give the rows of the tables below a heading of a page (a path below the root)."""
    return lambda page, heading: read_table(ROOT / page, heading)
