import stat

import pytest

from fustor_core.program.errors import ProgramError
from fustor_fusion.keys import load_or_create_keys


def test_keys_are_made_once_and_only_their_owner_can_read_them(tmp_path):
    keys = load_or_create_keys(tmp_path)
    assert keys[0] != keys[1]
    assert load_or_create_keys(tmp_path) == keys
    for name, key in zip(("fusion-agent.key", "fusion-reader.key"), keys, strict=True):
        path = tmp_path / name
        assert path.read_text() == key + "\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_that_a_person_wrote_is_kept(tmp_path):
    path = tmp_path / "fusion-agent.key"
    path.touch(mode=0o600)
    path.write_text("my-own-key\n")
    assert load_or_create_keys(tmp_path)[0] == "my-own-key"


def test_a_key_that_others_can_read_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "fusion-agent.key"
    path.write_text("my-own-key\n")
    path.chmod(0o640)
    with pytest.raises(ProgramError, match="chmod 600"):
        load_or_create_keys(tmp_path)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("my-own-key\n", 0o640)
