"""The commands that need no running Fusion; those that do are in tests/integration/test_standalone_fusion.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from fustor_fusion.cli import main
from fustor_fusion.keyfile import read_keys

ADD = ("keys", "add", "--role", "agent", "--view", "a")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUSTOR_FUSION_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_key_is_shown_once_alone_on_standard_output(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ADD, "--view", "b", "--view", "a", "--note", "host one"]) == 0
    said = capsys.readouterr()
    secret = said.out.removesuffix("\n")
    (key,) = read_keys(home / "state" / "keys.json")
    assert said.err == f"key {key.id}, agent of a, b; it is shown only this once\n"
    assert main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert listed.splitlines()[1].split(maxsplit=4) == [key.id, "agent", "a,b", key.created_at, "host one"]
    shown = [listed, *(path.read_text(errors="replace") for path in home.rglob("*") if path.is_file())]
    assert not [text for text in shown if secret in text]
    assert len(secret) == 43


def test_a_revoked_key_is_not_listed_any_more(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*ADD])
    (key,) = read_keys(home / "state" / "keys.json")
    capsys.readouterr()
    assert main(["keys", "revoke", key.id]) == 0
    assert capsys.readouterr().out == f"revoked key {key.id}, agent of a\n"
    assert main(["keys", "revoke", key.id]) == 1
    assert capsys.readouterr().err == f'there is no key "{key.id}"; `fustor-fusion keys list` shows them\n'
    assert main(["keys", "list"]) == 0
    assert capsys.readouterr() == ("", "there are no keys; make one with `fustor-fusion keys add`\n")


def test_a_key_for_a_view_that_the_configuration_does_not_have_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir()
    (home / "fusion.yaml").write_text("views: [{id: north}, {id: south}]")
    assert main([*ADD]) == 1
    assert capsys.readouterr().err == 'there is no view "a"; the configuration has north, south\n'
    assert main(["keys", "add", "--role", "reader", "--view", "south"]) == 0


def test_the_keys_are_where_the_configuration_says(tmp_path: Path, home: Path) -> None:
    config = tmp_path / "elsewhere.yaml"
    config.write_text(f"views: [{{id: a}}]\nkeys_file: {tmp_path}/its.json\n")
    assert main([*ADD, "--config", str(config)]) == 0
    assert len(read_keys(tmp_path / "its.json")) == 1
    assert read_keys(home / "state" / "keys.json") == ()


def test_keys_are_not_made_on_a_configuration_or_a_key_file_with_errors(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "state").mkdir(parents=True)
    (home / "state" / "keys.json").write_text("{")
    for command in ([*ADD], ["keys", "list"], ["keys", "revoke", "x"]):
        assert main(command) == 1
        assert "is no key file" in capsys.readouterr().err
    (home / "fusion.yaml").write_text("views: 1")
    assert main([*ADD]) == 5


@pytest.mark.parametrize("note", ["two\nlines", "\x1b[31m", "x" * 201])
def test_a_note_is_one_short_line(note: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ADD, "--note", note]) == 1
    assert "--note" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [
    [], ["begin"], ["keys"], ["keys", "add", "--view", "a"], ["keys", "add", "--role", "agent"],
    ["keys", "add", "--role", "root", "--view", "a"], ["keys", "add", "--role", "agent", "--view", "a/b"],
    ["start", "--port", "65536"], ["start", "--port", "-1"], ["start", "--view", ""],
    ["start", "--view", "a", "--config", "f"], ["stop", "--timeout", "soon"],
])
def test_a_wrong_command_line_is_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_status_and_stop_without_a_fusion_are_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert [main(["stop"]), main(["status"])] == [3, 3]
    assert capsys.readouterr().err == "Fusion is not running\n" * 2
    assert main(["status", "--json"]) == 3
    assert '"state":"stopped"' in capsys.readouterr().out


def test_a_home_that_cannot_be_made_names_the_variable(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.write_text("in the way")
    assert main(["start", "-D", "--view", "a"]) == 1
    assert "FUSTOR_FUSION_HOME" in capsys.readouterr().err


def test_no_command_but_start_brings_in_the_supervisor_or_the_server() -> None:
    code = ("import sys; from fustor_fusion import cli; cli.main(['status']); cli.main(['keys', 'list'])\n"
            "print(*sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    heavy = {"fustor_supervisor", "multiprocess", "starlette", "uvicorn", "apsw", "asyncio"}
    assert heavy.isdisjoint(done.stdout.split())
