"""The consistency page names what the rules name."""

import re

import fustor_fusion.rules
from checkout import ROOT
from fustor_event_model import MessageSource

PAGE = "docs/CONSISTENCY_DESIGN.md"


def test_every_rule_of_the_code_has_a_heading_and_no_other() -> None:
    named = re.findall(r"^    ([a-z]+(?:-[a-z]+)*)  ", fustor_fusion.rules.__doc__ or "", re.MULTILINE)
    rules = (ROOT / PAGE).read_text().partition("## The rules")[2].partition("\n## ")[0]
    assert re.findall(r"^### (.*)$", rules, re.MULTILINE) == named
    assert len(named) > 3


def test_every_rule_has_a_timeline(table) -> None:
    text = (ROOT / PAGE).read_text().partition("## The rules")[2].partition("\n## ")[0]
    for name in re.findall(r"^### .*$", text, re.MULTILINE):
        assert len(table(PAGE, name)) > 2, name


def test_every_message_source_has_a_row_in_the_order_of_priority(table) -> None:
    rows = table(PAGE, "## Message sources")
    assert [row[0] for row in rows] == [f"`{each.value}`" for each in MessageSource]
    assert [row[-1] for row in rows] == [str(number) for number, _ in enumerate(MessageSource, 1)]


def test_every_timeline_has_a_test() -> None:
    named = re.findall(r"^    ([a-z]+(?:-[a-z]+)*)  ", fustor_fusion.rules.__doc__ or "", re.MULTILINE)
    tests = (ROOT / "tests/docs/test_consistency_timelines.py").read_text()
    assert re.findall(r"^def test_(\w+)\(", tests, re.MULTILINE) == [name.replace("-", "_") for name in named]
