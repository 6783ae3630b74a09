"""Whatever Python takes, SQLite lets through."""

import fnmatch
import sys
import unicodedata
from collections.abc import Iterable

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fustor_fusion.namefilter import Condition, fits_below, fits_glob, holds_text, is_either
from fustor_fusion.paths import to_text

BITS = [*"abBkKiIßΣ报告%_\\.[]!", "\u0130", "\u212a", "\ufffd"]
SPECIAL = ["*", "**", "?", "[ab]", "[!a]", "[", "]", "[]a]", "[/]", "/"]
BAD = [b"\x80", b"\xff", b"\xe6\x8a", b"\xf0\x9f", b"\xc3"]

names = st.lists(st.sampled_from([*(bit.encode() for bit in BITS), b"*", b"?", *BAD]), min_size=1, max_size=6).map(
    b"".join)
texts = st.lists(st.sampled_from(BITS), max_size=4).map("".join)
patterns = st.lists(st.sampled_from(BITS + SPECIAL), max_size=7).map("".join)


@pytest.fixture(scope="module")
def db() -> Iterable[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    yield connection
    connection.close()


def lets_through(db: apsw.Connection, name: bytes, conditions: Iterable[Condition]) -> bool:
    text, values = is_either(conditions)
    return bool(db.execute(f"SELECT 1 FROM (SELECT ? AS name) WHERE {text}", (name, *values)).fetchall())


@settings(max_examples=300)
@given(names, patterns)
@example("中".encode() + b"\x80", "*中*")
@example(b"[]", "[]")
def test_every_name_that_fits_a_glob_is_let_through(db, name, pattern):
    if fnmatch.fnmatchcase(to_text(name)[0], pattern):
        assert lets_through(db, name, [fits_glob(pattern)])


@settings(max_examples=300)
@given(names, texts)
@example("\u0130".encode(), "i")
@example("\u212a".encode() + b"\x80", "K")
def test_every_name_that_holds_a_text_is_let_through(db, name, text):
    if text.lower() in to_text(name)[0].lower():
        assert lets_through(db, name, [holds_text(text)])


@settings(max_examples=500)
@given(st.lists(names, max_size=3), names, patterns)
@example([b"a"], b"b", "/a*[/]b")
@example([b"report"], b"b", "*report*")
@example([], b"b", "?b")
def test_every_name_with_which_a_path_fits_a_glob_is_let_through(db, above, name, pattern):
    directory = b"".join(b"/" + each for each in above) + b"/"
    if fnmatch.fnmatchcase(to_text(directory + name)[0], pattern):
        assert lets_through(db, name, fits_below(pattern)(to_text(directory)[0]))


def test_a_pattern_of_many_parts_is_let_through_as_well(db):
    assert lets_through(db, b"a" * 40, fits_below("?" * 41)("/"))


@pytest.mark.parametrize(("name", "conditions"), [
    (b"ab.txt", [fits_glob("*.dat")]),
    (b"ab.txt", [fits_glob("b*")]),
    (b"ab.txt", [fits_glob("a[1]c*")]),
    ("ab.告报".encode(), [fits_glob("*报告")]),
    (b"ab.txt", [holds_text("ABC")]),
    (b"a1b", [holds_text("a_b")]),
    ("告报".encode(), [holds_text("报告")]),
    (b"ab.txt", fits_below("/d/*.dat")("/d/")),
    (b"ab.txt", fits_below("/d/*.txt")("/e/")),
    (b"ab.txt", fits_below("*report*")("/d/")),
    (b"ab.txt", fits_below("/d/ab.tx")("/d/")),
    (b"ab.txt", fits_below("d/*")("/d/")),
])
def test_names_that_cannot_fit_are_kept_back(db, name, conditions):
    assert not lets_through(db, name, conditions)


def test_only_two_letters_are_the_lower_case_of_a_character_that_is_not_ascii():
    others = [chr(code) for code in range(128, sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    assert {char for other in others for char in other.lower() if char.isascii()} == set("ik")
    changed = [other for other in others if other.lower() != other]
    assert all(unicodedata.category(char) != "Lo" for other in changed for char in other.lower())
    assert all(unicodedata.category(other) != "Lo" for other in changed)
