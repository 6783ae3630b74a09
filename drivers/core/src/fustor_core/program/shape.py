"""Compare plain values with a Struct type and find everything that does not fit, not only the first thing."""

import difflib
import types
import typing
from typing import Any

import msgspec

from fustor_core.program.problems import KeyPath


class Finding(msgspec.Struct, frozen=True):
    """
    One place that does not fit.

    Args:
        path: Where.
        value: What stands there; None when the key is missing.
        reason: Why it does not fit.
        remedy: What to do.
    """

    path: KeyPath
    value: Any
    reason: str
    remedy: str


def find_misfits(value: Any, expected: Any, path: KeyPath = ()) -> list[Finding]:
    """
    Find every place at which a value does not fit a type.

    Args:
        value: Mappings, lists and scalars, as YAML gives them.
        expected: A Struct type, or any type that msgspec can convert to.
        path: Where the value stands.

    Returns:
        Findings in the order of the value; empty when `msgspec.convert` would succeed.
    """
    struct = _pick_struct(expected)
    if struct is not None and isinstance(value, dict):
        return _check_mapping(value, struct, path)
    item = _pick_item(expected)
    if item is not None and isinstance(value, list):
        return [one for place, child in enumerate(value) for one in find_misfits(child, item, (*path, place))]
    return _check_whole(value, expected, path)


def _check_mapping(value: dict[Any, Any], struct: type[msgspec.Struct], path: KeyPath) -> list[Finding]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    # Without the types resolved, annotations that are text could not be followed.
    hints = typing.get_type_hints(struct, include_extras=True)
    found: list[Finding] = []
    for key, child in value.items():
        if key in fields:
            found += find_misfits(child, hints[fields[key].name], (*path, key))
        else:
            found.append(Finding((*path, str(key)), child, "there is no such key", _suggest(str(key), list(fields))))
    for name, field in fields.items():
        if field.required and name not in value:
            found.append(Finding((*path, name), None, "it is missing", "add it"))
    # What a Struct checks as a whole only makes sense once its parts fit.
    return found or _check_whole(value, struct, path)


def _check_whole(value: Any, expected: Any, path: KeyPath) -> list[Finding]:
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError as err:
        reason, _, place = str(err).partition(" - at `$")
        deeper = tuple(part for part in place.rstrip("`").split(".") if part and "[" not in part)
        for part in deeper:
            value = value.get(part) if isinstance(value, dict) else None
        reason = reason[:1].lower() + reason[1:].replace("`", "")
        return [Finding((*path, *deeper), value, reason, "correct the value")]
    return []


def _pick_struct(expected: Any) -> type[msgspec.Struct] | None:
    """Find the one Struct that a mapping could be meant for."""
    options = typing.get_args(expected) if _is_union(expected) else (expected,)
    structs = [one for one in options if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    others = [one for one in options if (typing.get_origin(one) or one) is dict]
    return structs[0] if len(structs) == 1 and not others else None


def _pick_item(expected: Any) -> Any:
    """Find the type of a list's items, when the type is a list or a tuple of any length."""
    if typing.get_origin(expected) is list:
        return typing.get_args(expected)[0]
    if typing.get_origin(expected) is tuple and typing.get_args(expected)[1:] == (...,):
        return typing.get_args(expected)[0]
    return None


def _is_union(expected: Any) -> bool:
    return typing.get_origin(expected) in (typing.Union, types.UnionType)


def _suggest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"remove it; the keys are {', '.join(known)}" if known else "remove it"
