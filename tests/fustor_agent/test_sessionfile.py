import stat
from pathlib import Path

import pytest

from fustor_agent.sessionfile import SessionFile
from fustor_core.drivers import Role, Session

SESSION = Session(id="a secret", role=Role.LEADER, timeout_s=30.0, commits=True, has_commands=True, generation="g")
CONFIG = {"endpoint": "http://a", "credential": "k"}


def test_a_session_is_kept_for_a_successor_with_the_same_receiver(tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    SessionFile(path, "fusion", CONFIG).save(SESSION)
    assert SessionFile(path, "fusion", dict(reversed(CONFIG.items()))).load() == SESSION
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(("kind", "config"), [("echo", CONFIG), ("fusion", {**CONFIG, "credential": "another"})])
def test_a_session_is_never_resumed_with_another_receiver(
    tmp_path: Path, kind: str, config: dict[str, str]
) -> None:
    path = tmp_path / "session.json"
    SessionFile(path, "fusion", CONFIG).save(SESSION)
    assert SessionFile(path, kind, config).load() is None


def test_the_credential_does_not_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    SessionFile(path, "fusion", {**CONFIG, "credential": "very-secret"}).save(SESSION)
    assert b"very-secret" not in path.read_bytes()


def test_no_session_is_kept_before_the_first_and_after_the_last(tmp_path: Path) -> None:
    file = SessionFile(tmp_path / "session.json", "fusion", CONFIG)
    assert file.load() is None
    file.save(SESSION)
    file.remove()
    file.remove()
    assert file.load() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"receiver": "x"}', b"\xff\x00"])
def test_a_damaged_file_is_set_aside_and_the_next_session_can_be_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "session.json"
    path.write_bytes(content)
    file = SessionFile(path, "fusion", CONFIG)
    assert file.load() is None
    assert (tmp_path / "session.damaged").read_bytes() == content
    file.save(SESSION)
    assert file.load() == SESSION


def test_a_proposed_name_is_kept_until_a_session_is_saved_or_removed(tmp_path: Path) -> None:
    def again() -> SessionFile:
        return SessionFile(tmp_path / "session.json", "fusion", CONFIG)

    name = again().propose()
    assert again().propose() == name
    assert again().load() is None
    assert SessionFile(tmp_path / "session.json", "echo", CONFIG).propose() != name
    name = again().propose()
    again().save(SESSION)
    after = again().propose()
    assert after != name
    again().remove()
    assert again().propose() != after


def test_a_session_is_used_though_it_cannot_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = SessionFile(tmp_path / "no such directory" / "session.json", "fusion", CONFIG)
    assert len(bytes.fromhex(file.propose())) == 16
    file.save(SESSION)
    assert caplog.text.count("session not kept") == 2
    assert "No such file or directory" in caplog.text
