"""Both READMEs say the same to the one who only copies commands."""

import re
from pathlib import Path

from checkout import ROOT

ENGLISH = ROOT / "README.md"
CHINESE = ROOT / "README.zh-CN.md"


def commands(readme: Path) -> list[str]:
    """Return the lines of all code blocks without comments, in order."""
    text = readme.read_text() if readme.exists() else ""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = (re.sub(r"(^|\s+)#.*$", "", line).rstrip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def test_both_readmes_hold_the_same_commands() -> None:
    assert commands(CHINESE) == commands(ENGLISH)


def test_comments_are_left_out_and_order_is_kept(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("text\n```sh\n# why\nmake run WATCH=/x  # because\n\nmake test\n```\nmore `make no`\n")
    assert commands(readme) == ["make run WATCH=/x", "make test"]
