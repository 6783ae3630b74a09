from pathlib import Path

import pytest

from fustor_core.program.errors import ProgramError
from fustor_core.program.secretfile import ensure_secret, read_secret


def test_a_secret_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "token"
    secret = ensure_secret(path)
    assert len(secret) >= 43
    assert ensure_secret(path) == secret == read_secret(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == secret + "\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


def test_two_secrets_differ(tmp_path: Path) -> None:
    assert ensure_secret(tmp_path / "a") != ensure_secret(tmp_path / "b")


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    ensure_secret(path)
    path.chmod(0o644)
    with pytest.raises(ProgramError, match="chmod 600"):
        ensure_secret(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    with pytest.raises(ProgramError, match="is empty"):
        ensure_secret(path)


@pytest.mark.parametrize("content", [b"k\xff", b"two keys", b"k\0", b"k\ti"])
def test_what_no_header_can_hold_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ProgramError, match="no key has"):
        ensure_secret(path)
    assert path.read_bytes() == content


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="the next start makes it"):
        read_secret(tmp_path / "token")


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(ProgramError, match="Is a directory"):
        ensure_secret(tmp_path / "token")


def test_a_folder_that_is_missing_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="cannot be written"):
        ensure_secret(tmp_path / "none" / "token")
