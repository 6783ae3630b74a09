"""The driver guide: its example keeps the contract, its tables name all of it."""

import inspect
import re
from typing import Any

import fustor_core.errors
from checkout import ROOT
from fustor_core.drivers import PUSHERS_GROUP, SOURCES_GROUP, PusherDriver, Session, SourceDriver

PAGE = "docs/driver_design.md"
TEXT = (ROOT / PAGE).read_text()


def run_example() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "tally"}
    for block in re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
        exec(compile(block, PAGE, "exec"), names)
    return names


def public_methods(contract: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(contract, inspect.isroutine) if not name.startswith("_")}


TestExample = run_example()["TestContract"]


def test_every_error_a_driver_may_raise_has_a_row(table) -> None:
    errors = {
        f"`{name}`"
        for name, kind in vars(fustor_core.errors).items()
        if isinstance(kind, type) and issubclass(kind, fustor_core.errors.FustorError)
    }
    assert {row[0] for row in table(PAGE, "## Errors")} == errors - {"`FustorError`"}


def test_every_method_of_a_source_has_a_row_and_no_other(table) -> None:
    named = re.findall(r"`(\w+)`", "".join(row[0] for row in table(PAGE, "## A source")))
    assert set(named) == public_methods(SourceDriver)


def test_every_method_of_a_pusher_and_every_field_of_a_session_has_a_row_and_no_other(table) -> None:
    named = re.findall(r"`(\w+)`", "".join(row[0] for row in table(PAGE, "## A pusher")))
    assert set(named) == public_methods(PusherDriver) | set(Session.__struct_fields__)


def test_the_entry_point_groups_are_those_that_are_looked_up() -> None:
    groups = re.findall(r'entry-points\."([\w.]+)"', TEXT)
    assert sorted(groups) == sorted((PUSHERS_GROUP, SOURCES_GROUP))
