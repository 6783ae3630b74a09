import os
import stat
import threading

import pytest

from fustor_fusion.keyfile import BadKeyFile, Role, UnknownKey, add_key, digest, read_keys, revoke_key


def add(path, role=Role.AGENT, views=("a",), note=""):
    return add_key(path, role, views, note=note, created_at="2026-01-01T00:00:00Z")


def test_without_a_file_there_are_no_keys(tmp_path):
    assert read_keys(tmp_path / "keys.json") == ()


def test_only_the_digest_of_a_secret_is_kept_in_a_file_of_its_owner(tmp_path):
    path = tmp_path / "keys.json"
    key, secret = add(path, Role.READER, ("a", "b"), "for the dashboard")
    assert secret not in path.read_text()
    assert len(secret) > 40
    assert key.sha256 == digest(secret.encode())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (kept,) = read_keys(path)
    assert kept == key
    assert (kept.role, kept.views, kept.note, kept.created_at) == (
        Role.READER, ("a", "b"), "for the dashboard", "2026-01-01T00:00:00Z")


def test_a_revoked_key_is_gone_and_the_others_stay(tmp_path):
    path = tmp_path / "keys.json"
    keys = [add(path)[0] for _ in range(3)]
    assert revoke_key(path, keys[1].id) == keys[1]
    assert read_keys(path) == (keys[0], keys[2])
    with pytest.raises(UnknownKey):
        revoke_key(path, keys[1].id)
    assert read_keys(path) == (keys[0], keys[2])


def test_keys_that_are_made_at_the_same_time_are_all_kept(tmp_path):
    path = tmp_path / "keys.json"
    made = []
    threads = [threading.Thread(target=lambda: made.extend(add(path)[0].id for _ in range(10))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key.id for key in read_keys(path)) == sorted(made)
    assert len(set(made)) == 50


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"keys": [{"id": "x"}]}', b'{"keyz": []}', b"\xff"])
def test_what_is_no_key_file_is_said_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(BadKeyFile, match=r"keys\.json.* is no key file"):
        read_keys(path)
    with pytest.raises(BadKeyFile):
        add(path)
    with pytest.raises(BadKeyFile):
        revoke_key(path, "x")
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_read_is_not_a_file_without_keys(tmp_path):
    os.mkdir(tmp_path / "keys.json")
    with pytest.raises(BadKeyFile, match="cannot be read"):
        read_keys(tmp_path / "keys.json")
