"""What an OpenAPI document says of values: whether one is as described, and how to make up such."""

import re
from typing import Any

from hypothesis import strategies as st

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
_KNOWN = frozenset((
    "$ref", "type", "anyOf", "enum", "properties", "required", "items", "prefixItems", "minItems", "minimum", "maximum",
    "exclusiveMinimum", "maxLength", "pattern", "default", "title", "description", "discriminator",
))  # fmt: skip


class Schemas:
    """
    The schemas of one document, as far as our own documents use them; another keyword is an error.

    Args:
        document: Whose components they refer to.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Follow a reference."""
        assert schema.keys() <= _KNOWN, schema.keys() - _KNOWN
        if "$ref" not in schema:
            return schema
        found = self._document
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return self.resolve(found)

    def find_fault(self, schema: dict[str, Any], value: Any, at: str = "$") -> str | None:
        """
        Say where a value is not as described; None when it is.

        Stricter than JSON Schema: an object has no members that are not described.
        """
        schema = self.resolve(schema)
        if "anyOf" in schema:
            faults = [self.find_fault(each, value, at) for each in schema["anyOf"]]
            return None if None in faults else " and ".join(map(str, faults))
        if "enum" in schema:
            return None if value in schema["enum"] else f"{at}: {value!r} is none of {schema['enum']}"
        kind = schema.get("type")
        if kind is None:
            return None
        if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
            return f"{at}: {value!r:.80} is no {kind}"
        if kind == "object":
            return self._find_fault_of_object(schema, value, at)
        if kind == "array":
            parts = schema.get("prefixItems", [])
            items = [*parts, *[schema.get("items", {})] * (len(value) - len(parts))]
            faults = [self.find_fault(each, part, f"{at}[{number}]")
                      for number, (each, part) in enumerate(zip(items, value, strict=False))]
            short = len(value) < schema.get("minItems", 0)
            return f"{at}: {len(value)} items are too few" if short else next(filter(None, faults), None)
        if kind == "string":
            fits = re.search(schema.get("pattern", ""), value) and len(value) <= schema.get("maxLength", len(value))
        elif kind in ("integer", "number"):
            fits = (schema.get("minimum", value) <= value <= schema.get("maximum", value)
                    and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"]))
        else:
            fits = True
        return None if fits else f"{at}: {value!r:.80} is not within {schema}"

    def _find_fault_of_object(self, schema: dict[str, Any], value: dict[str, Any], at: str) -> str | None:
        members = schema.get("properties")
        if members is None:
            return None
        missing, unknown = set(schema.get("required", ())) - value.keys(), value.keys() - members.keys()
        if missing or unknown:
            return f"{at}: {missing or '{}'} are missing, {unknown or '{}'} are not described"
        faults = (self.find_fault(members[name], each, f"{at}.{name}") for name, each in value.items())
        return next(filter(None, faults), None)

    def make(self, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
        """Make up values that are as described."""
        schema = self.resolve(schema)
        if "anyOf" in schema:
            return st.one_of([self.make(each) for each in schema["anyOf"]])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        low, high = schema.get("minimum"), schema.get("maximum")
        match schema.get("type"):
            case "object":
                members = {name: st.deferred(lambda each=each: self.make(each))
                           for name, each in schema["properties"].items()}
                required = {name: members.pop(name) for name in schema["required"]}
                return st.fixed_dictionaries(required, optional=members)
            case "array" if "prefixItems" in schema:
                return st.tuples(*[self.make(each) for each in schema["prefixItems"]]).map(list)
            case "array":
                return st.lists(st.deferred(lambda: self.make(schema["items"])), max_size=5)
            case "string" if "pattern" in schema:
                return st.from_regex(schema["pattern"]).filter(lambda text: self.find_fault(schema, text) is None)
            case "string":
                return st.text(max_size=min(20, schema.get("maxLength", 20)))
            case "integer":
                return st.integers(low, high)
            case "number":
                return st.floats(schema.get("exclusiveMinimum", low), high, exclude_min="exclusiveMinimum" in schema,
                                 allow_nan=False, allow_infinity=False)
            case "boolean":
                return st.booleans()
            case "null":
                return st.none()
        return st.none() | st.booleans() | st.integers() | st.text(max_size=10)


def list_operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the operations of a document by `METHOD /path`."""
    return {f"{method.upper()} {path}": operation
            for path, methods in document["paths"].items() for method, operation in methods.items()}
