from pathlib import Path

import pytest

from fustor_agent.secretfile import ensure_secret, read_secret
from fustor_core.program.errors import ProgramError


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


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="fustor-agent start"):
        read_secret(tmp_path / "token")


def test_a_folder_that_is_missing_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="cannot be written"):
        ensure_secret(tmp_path / "none" / "token")
