import stat

from fustor_fusion.keys import load_or_create_keys


def test_keys_are_made_once_and_only_their_owner_can_read_them(tmp_path):
    keys = load_or_create_keys(tmp_path / "state")
    assert keys[0] != keys[1]
    assert load_or_create_keys(tmp_path / "state") == keys
    for name, key in zip(("fusion-agent.key", "fusion-reader.key"), keys, strict=True):
        path = tmp_path / "state" / name
        assert path.read_text() == key + "\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_that_a_person_wrote_is_kept_and_closed_to_others(tmp_path):
    path = tmp_path / "fusion-agent.key"
    path.write_text("my-own-key\n")
    path.chmod(0o644)
    assert load_or_create_keys(tmp_path)[0] == "my-own-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_empty_key_file_is_filled(tmp_path):
    (tmp_path / "fusion-reader.key").touch()
    assert len(load_or_create_keys(tmp_path)[1]) > 30
