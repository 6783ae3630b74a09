import pytest
from hypothesis import given
from hypothesis import strategies as st

from fustor_fusion.paths import (
    BadPath,
    are_plain_names,
    decode_raw,
    encode_raw,
    normalise_text,
    split_path,
    to_text,
)


def test_a_path_is_split_into_its_names():
    assert split_path(b"/") == []
    assert split_path(b"/a/caf\xe9") == [b"a", b"caf\xe9"]
    assert split_path(b"/a/") == [b"a"]


@pytest.mark.parametrize(
    "path", [b"", b"a", b"//", b"/a//b", b"/.", b"/a/..", b"/a/../b", b"/a\0b", b"/" + b"n" * 2000])
def test_a_path_that_no_tree_holds_is_refused(path):
    with pytest.raises(BadPath):
        split_path(path)


@given(st.lists(st.sampled_from([b"a", b"b", b".", b"..", b"", b"x/y", b"n\0", b"c"]), min_size=1, max_size=5))
def test_plain_names_are_those_that_split_into_themselves(names):
    def is_plain(name: bytes) -> bool:
        try:
            return split_path(b"/" + name) == [name]
        except BadPath:
            return False

    assert are_plain_names(names) == (all(map(is_plain, names)) and len(set(names)) == len(names))


@pytest.mark.parametrize(("text", "path"), [("a", b"/a"), ("/a/../b/", b"/b"), ("//a//b", b"/a/b"), ("/", b"/"),
                                            ("/../../x", b"/x"), ("/é", b"/\xc3\xa9")])
def test_a_written_path_is_normalised(text, path):
    assert normalise_text(text) == path


@pytest.mark.parametrize("text", ["", "/a\0", "/\udce9"])
def test_a_written_path_that_is_none_is_refused(text):
    with pytest.raises(BadPath):
        normalise_text(text)


@given(st.binary())
def test_raw_bytes_survive(data):
    assert decode_raw(encode_raw(data)) == data


def test_raw_that_is_no_base64_is_refused():
    with pytest.raises(BadPath):
        decode_raw("é")
    with pytest.raises(BadPath):
        decode_raw("a")
    with pytest.raises(BadPath):
        decode_raw("L2E***")


def test_bad_bytes_become_replacement_characters_and_base64():
    assert to_text(b"/ok") == ("/ok", None)
    assert to_text(b"/caf\xe9") == ("/caf\ufffd", "L2NhZuk=")
