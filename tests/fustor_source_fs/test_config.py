"""The configuration: which root, which names."""

import msgspec
import pytest

from fustor_core.errors import ConfigError
from fustor_source_fs import FsConfig, FsParams


@pytest.mark.parametrize(
    ("uri", "root"), [("/data", b"/data"), ("/data//", b"/data"), ("/", b"/"), ("/caf\udce9", b"/caf\xe9")]
)
def test_the_root_is_bytes_without_a_slash_at_its_end(uri, root):
    assert FsConfig(uri).get_root() == root


@pytest.mark.parametrize("uri", ["", "data", "./data", "file:///data", "/a\0b"])
def test_a_root_that_is_no_absolute_path_is_refused_with_its_value(uri):
    with pytest.raises(ConfigError, match="is not an absolute path") as caught:
        FsConfig(uri).get_root()
    assert uri in str(caught.value)


def test_an_unknown_option_is_refused():
    with pytest.raises(msgspec.ValidationError, match="file_patern"):
        msgspec.convert({"uri": "/a", "driver_params": {"file_patern": "*"}}, FsConfig)


def test_the_star_needs_no_filter():
    assert FsParams().make_filter() is None


@pytest.mark.parametrize(
    ("pattern", "name", "taken"),
    [
        ("*.txt", b"a.txt", True),
        ("*.txt", b"a.txt.gz", False),
        ("*.txt", b"\xff\xfe.txt", True),
        ("*.txt", b"a\nb.txt", True),
        ("*.txt", b"A.TXT", False),
        ("[ab]?", b"a1", True),
        ("[ab]?", b"c1", False),
        ("中*", "中文".encode(), True),
        ("\udcff*", b"\xffx", True),
    ],
)
def test_a_pattern_is_matched_against_the_whole_name_as_bytes(pattern, name, taken):
    accepts = FsParams(file_pattern=pattern).make_filter()
    assert accepts is not None
    assert accepts(name) is taken
