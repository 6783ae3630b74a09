import fnmatch
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fustor_fusion.globs import PathPattern, names_depths


def fits_slowly(parts: Sequence[str], names: Sequence[str]) -> bool:
    """The definition, tried in every way."""
    if not parts:
        return not names
    if parts[0] == "**":
        least = 1 if len(parts) == 1 else 0
        return any(fits_slowly(parts[1:], names[skipped:]) for skipped in range(least, len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], parts[0]) and fits_slowly(parts[1:], names[1:])


parts = st.sampled_from(["**", "a", "b", "*", "a*", "?", "[ab]", "x**"])
names = st.sampled_from(["a", "b", "ab", "c", "xa"])


@settings(max_examples=500)
@given(st.lists(parts, max_size=6), st.lists(names, min_size=1, max_size=7), st.integers(0, 6))
def test_a_pattern_fits_what_its_definition_says(parts, names, at):
    parts.insert(at, "**")
    pattern = PathPattern("/" + "/".join(parts))
    assert pattern.fits(names) == fits_slowly(parts, names)
    if pattern.fits(names):
        assert names[: len(pattern.start)] == pattern.start


@pytest.mark.parametrize(("pattern", "is_one"), [
    ("/**", True), ("a/**/b", True), ("**/x", True),
    ("**", False), ("**.txt", False), ("/a**/b", False), ("/a/*", False)])
def test_only_two_stars_between_slashes_make_it_a_pattern_of_depths(pattern, is_one):
    assert names_depths(pattern) is is_one


def test_the_time_to_compare_does_not_explode():
    pattern = PathPattern("/**/a" * 150 + "/**/" + "*a" * 100 + "b")
    assert not pattern.fits(["a"] * 400 + ["a" * 255])
