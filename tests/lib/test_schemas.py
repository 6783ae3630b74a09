import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Schemas

DOCUMENT = {"components": {"schemas": {"Node": {
    "type": "object", "required": ["name"], "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
        "size": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
        "kind": {"enum": ["file", "directory"]},
        "children": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}},
        "pair": {"type": "array", "prefixItems": [{"type": "boolean"}, {}], "minItems": 2},
        "age": {"type": "number", "exclusiveMinimum": 0, "maximum": 9.5},
    }}}}}
NODE = {"$ref": "#/components/schemas/Node"}


@pytest.mark.parametrize("value", [
    {"name": "a"}, {"name": "a", "size": None, "kind": "file", "age": 9.5, "pair": [True, "x"]},
    {"name": "a", "children": [{"name": "b", "size": 0, "children": []}]}])
def test_what_is_described_is_found_faultless(value):
    assert Schemas(DOCUMENT).find_fault(NODE, value) is None


@pytest.mark.parametrize(("value", "at"), [
    ([], "$"), ({}, "name"), ({"name": 1}, "$.name"), ({"name": "A"}, "$.name"), ({"name": "abcdef"}, "$.name"),
    ({"name": "a", "more": 1}, "more"), ({"name": "a", "size": -1}, "$.size"), ({"name": "a", "size": True}, "$.size"),
    ({"name": "a", "kind": "link"}, "$.kind"), ({"name": "a", "children": [{}]}, "$.children[0]"),
    ({"name": "a", "pair": [True]}, "$.pair"), ({"name": "a", "pair": [1, 1]}, "$.pair[0]"),
    ({"name": "a", "age": 0}, "$.age"), ({"name": "a", "age": 10}, "$.age")])
def test_what_is_not_described_is_found_with_its_place(value, at):
    assert at in (Schemas(DOCUMENT).find_fault(NODE, value) or "")


def test_a_keyword_that_is_not_understood_is_an_error():
    with pytest.raises(AssertionError, match="maxItems"):
        Schemas(DOCUMENT).find_fault({"type": "array", "maxItems": 1}, [])


@given(st.data())
def test_what_is_made_up_is_as_described(data):
    schemas = Schemas(DOCUMENT)
    assert schemas.find_fault(NODE, data.draw(schemas.make(NODE))) is None
