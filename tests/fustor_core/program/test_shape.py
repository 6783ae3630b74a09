from typing import Annotated, Any

import msgspec
import pytest

from fustor_core.program.shape import find_misfits


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    depth: Annotated[int, msgspec.Meta(ge=0)] = 0
    pattern: str = "*"


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    uri: str
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    credential: str | dict[str, str] = ""

    def __post_init__(self) -> None:
        if self.uri == "refused":
            raise ValueError("this uri is refused")


@pytest.mark.parametrize(
    "value",
    [
        {"uri": "/a"},
        {"uri": "/a", "inner": None},
        {"uri": "/a", "inner": {"depth": 3}, "many": [{"pattern": "x"}], "credential": {"env": "X"}},
    ],
)
def test_what_msgspec_takes_has_no_misfits(value: dict[str, Any]) -> None:
    msgspec.convert(value, Outer)
    assert find_misfits(value, Outer) == []


def test_all_misfits_are_found_at_once_with_their_places() -> None:
    value = {"inner": {"depth": -1, "patern": "x"}, "many": [{}, {"depth": "two"}, 3], "credential": 7}
    found = {one.path: one.reason for one in find_misfits(value, Outer)}
    assert set(found) == {
        ("inner", "depth"),
        ("inner", "patern"),
        ("many", 1, "depth"),
        ("many", 2),
        ("credential",),
        ("uri",),
    }
    assert found[("many", 1, "depth")] == "expected int, got str"
    assert found[("uri",)] == "it is missing"


def test_a_misspelt_key_gets_the_right_one_as_remedy() -> None:
    (found,) = find_misfits({"uri": "/a", "inner": {"patern": "x"}}, Outer)
    assert found.remedy == 'did you mean "pattern"?'


def test_an_unknown_key_gets_the_list_of_known_ones() -> None:
    (found,) = find_misfits({"uri": "/a", "zzz": 1}, Outer)
    assert "uri, inner, many, credential" in found.remedy


def test_what_a_struct_checks_itself_is_found_too() -> None:
    (found,) = find_misfits({"uri": "refused"}, Outer)
    assert (found.path, found.reason) == ((), "this uri is refused")


def test_a_list_where_a_mapping_belongs_is_one_misfit() -> None:
    (found,) = find_misfits([1, 2], Outer)
    assert found.reason == "expected object, got array"
