import os
from pathlib import Path

import pytest

from fustor_agent.paths import find_paths
from fustor_core.program.errors import ProgramError


def test_the_home_is_taken_from_the_environment(tmp_path: Path) -> None:
    paths = find_paths({"FUSTOR_HOME": str(tmp_path)})
    names = [paths.config, paths.pid, paths.token, paths.log, paths.status, paths.reload, paths.refused]
    assert [str(name.relative_to(tmp_path)) for name in names] == [
        "agent-config.yaml",
        "agent.pid",
        "token",
        "logs/agent.log",
        "state/status.json",
        "state/reload.json",
        "state/refused.ndjson",
    ]


def test_without_the_variable_it_is_below_the_users_home() -> None:
    assert find_paths({}).home == Path(os.path.expanduser("~/.fustor"))


def test_the_folders_are_private_and_may_exist_already(tmp_path: Path) -> None:
    paths = find_paths({"FUSTOR_HOME": str(tmp_path / "a" / "b")})
    paths.prepare()
    paths.prepare()
    for folder in (paths.home, paths.log_dir, paths.state_dir):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_made_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(ProgramError, match="FUSTOR_HOME"):
            find_paths({"FUSTOR_HOME": str(home)}).prepare()


def test_a_home_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(ProgramError, match="is not UTF-8"):
        find_paths({"FUSTOR_HOME": os.fsdecode(b"/x\xff")})
