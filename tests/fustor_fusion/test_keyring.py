from fustor_fusion.keyfile import Role, add_key, revoke_key
from fustor_fusion.keyring import KeyRing, make_fixed_keys


def add(path, role=Role.AGENT, views=("a",)):
    return add_key(path, role, views, note="", created_at="")


def test_the_two_fixed_keys_are_for_all_views():
    ring = KeyRing(make_fixed_keys("push", "read", ("a", "b")), None)
    agent, reader = ring.find(b"push"), ring.find(b"read")
    assert (agent.id, agent.role, agent.views) == ("agent", Role.AGENT, ("a", "b"))
    assert (reader.id, reader.role, reader.views) == ("reader", Role.READER, ("a", "b"))
    assert ring.find(b"other") is None
    assert ring.find(b"") is None
    assert KeyRing(make_fixed_keys(None, "", ("a",)), None).find(b"") is None


def test_the_file_is_read_again_only_when_it_changed(tmp_path):
    path = tmp_path / "keys.json"
    ring = KeyRing(make_fixed_keys("push", None, ("a",)), path)
    assert ring.refresh() is False
    key, secret = add(path)
    assert ring.find(secret.encode()) is None
    assert ring.refresh() is True
    assert ring.refresh() is False
    assert ring.find(secret.encode()) == key
    revoke_key(path, key.id)
    assert ring.refresh() is True
    assert ring.find(secret.encode()) is None
    assert ring.find(b"push") is not None


def test_a_file_that_is_damaged_meanwhile_costs_no_key_and_is_taken_when_it_is_whole_again(tmp_path):
    path = tmp_path / "keys.json"
    _, secret = add(path)
    ring = KeyRing((), path)
    whole = path.read_bytes()
    path.write_bytes(b"{")
    assert ring.refresh() is False
    assert "is no key file" in ring.fault
    assert ring.find(secret.encode()) is not None
    path.write_bytes(whole)
    assert ring.refresh() is True
    assert ring.fault is None


def test_a_file_that_is_removed_revokes_its_keys(tmp_path):
    path = tmp_path / "keys.json"
    _, secret = add(path)
    ring = KeyRing((), path)
    path.unlink()
    assert ring.refresh() is True
    assert ring.find(secret.encode()) is None


def test_only_an_agents_key_for_the_view_may_have_sessions_there(tmp_path):
    path = tmp_path / "keys.json"
    agent, _ = add(path, Role.AGENT, ("a", "b"))
    reader, _ = add(path, Role.READER, ("a",))
    ring = KeyRing((), path)
    assert [ring.may_push(agent.id, view) for view in "abc"] == [True, True, False]
    assert ring.may_push(reader.id, "a") is False
    assert ring.may_push("gone", "a") is False
