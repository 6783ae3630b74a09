"""The Makefile's own decisions, in a folder where the environment is a stand-in and nothing is downloaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from checkout import ROOT

RECORDS = """
echo "${0##*/} $*" >> "$RECORD"
for word; do printf "<%s>" "$word"; done
echo
env | grep ^FUSTOR_ || true
"""
FOREIGN = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "WATCH", "PYTHON", "ARGS")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout whose `python3` makes an environment of commands that only record how they were called."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "constraints.txt", "constraints-dev.txt"):
        (folder / name).write_text((ROOT / name).read_text())
    for name in ("pyproject.toml", "setup.cfg", "supervisor/pyproject.toml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    stand_in(tmp_path / "records", RECORDS)
    stand_in(
        tmp_path / "python3",
        'case "$1$2" in -mvenv) mkdir -p "$3/bin"; cp "$(dirname "$0")/records" "$3/bin/python"; '
        'cp "$(dirname "$0")/records" "$3/bin/fustor-agent";; esac\n'
        'echo "python3 $*" >> "$RECORD"\n',
    )
    return folder


def stand_in(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)


def make(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment(folder) | variables,
        capture_output=True, text=True, timeout=60, check=False,
    )


def environment(folder: Path) -> dict[str, str]:
    """What make is run with; nothing of a make that runs these tests."""
    inherited = {
        name: value for name, value in os.environ.items()
        if name not in FOREIGN and not name.startswith("FUSTOR_")
    }
    return inherited | {"PYTHON": str(folder.parent / "python3"), "RECORD": str(folder / "record")}


def record(folder: Path) -> list[str]:
    """Return the commands that ran since the last call."""
    file = folder / "record"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize("arguments", [("run",), ("run", "WATCH=")])
def test_run_without_a_directory_stops_with_one_line_that_names_the_variable(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    done = make(folder, *arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "WATCH" in line
    assert record(folder) == []


@pytest.mark.parametrize("watch", ["/plain", "/with space", "/with 'quotes\" and $HOME", "relative"])
def test_run_hands_the_directory_over_as_it_is(folder: Path, watch: str) -> None:
    assert f"<start><--watch><{watch}>" in make(folder, "run", f"WATCH={watch}").stdout
    assert f"<start><--watch><{watch}>" in make(folder, "run", WATCH=watch).stdout


def test_run_passes_the_variables_of_the_agent_through(folder: Path) -> None:
    done = make(folder, "run", "WATCH=/x", FUSTOR_HOME="/there", FUSTOR_CONSOLE_PORT="1")
    assert {"FUSTOR_HOME=/there", "FUSTOR_CONSOLE_PORT=1"} <= set(done.stdout.splitlines())


def test_a_second_run_sets_nothing_up_again(folder: Path) -> None:
    assert make(folder, "run", "WATCH=/x").returncode == 0
    assert [line for line in record(folder) if "--require-hashes" in line]
    assert make(folder, "run", "WATCH=/x").returncode == 0
    assert record(folder) == ["fustor-agent start --watch /x"]


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml", "setup.cfg", "supervisor/pyproject.toml"])
def test_a_changed_pin_or_project_is_installed(folder: Path, name: str) -> None:
    make(folder, "run", "WATCH=/x")
    record(folder)
    later = (folder / ".make" / "runtime").stat().st_mtime + 1
    os.utime(folder / name, (later, later))
    make(folder, "run", "WATCH=/x")
    assert [line for line in record(folder) if "--require-hashes" in line]


def test_run_installs_no_tool_that_only_developers_need(folder: Path) -> None:
    make(folder, "run", "WATCH=/x")
    assert not [line for line in record(folder) if "constraints-dev" in line]


def test_test_sets_everything_up_and_runs_pytest(folder: Path) -> None:
    done = make(folder, "test", "ARGS=-k oracle")
    assert done.returncode == 0, done.stderr
    ran = record(folder)
    assert [line for line in ran if "constraints-dev.txt" in line]
    assert ran[-1] == "python -m pytest -k oracle"
    make(folder, "test")
    assert record(folder) == ["python tests/halves.py"]


HALVES = ("tests/e2e/test_one.py", "tests/e2e/test_public_two.py", "tests/test_three.py")


@pytest.mark.parametrize("failing", [None, *HALVES])
def test_both_halves_run_every_test_once_and_both_must_pass(tmp_path: Path, failing: str | None) -> None:
    (tmp_path / "tests" / "e2e").mkdir(parents=True)
    for name in HALVES:
        (tmp_path / name).write_text(f"def test_it():\n    assert {name != failing}\n")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "halves.py"], cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert (done.returncode == 0) is (failing is None)
    assert [done.stdout.count(f"{name} {'F' if name == failing else '.'}") for name in HALVES] == [1, 1, 1]


def test_a_removed_environment_is_made_again(folder: Path) -> None:
    make(folder, "run", "WATCH=/x")
    record(folder)
    subprocess.run(["rm", "-r", folder / ".venv"], check=True)
    assert make(folder, "run", "WATCH=/x").returncode == 0
    assert [line for line in record(folder) if "-m venv" in line]


def test_a_set_up_that_failed_is_not_taken_for_done(folder: Path) -> None:
    stand_in(folder.parent / "records", 'echo "$*" >> "$RECORD"; case "$*" in *pip*) exit 1;; esac\n')
    assert make(folder, "run", "WATCH=/x").returncode != 0
    record(folder)
    assert make(folder, "run", "WATCH=/x").returncode != 0
    assert [line for line in record(folder) if "--require-hashes" in line]


def test_two_at_once_set_up_once(folder: Path) -> None:
    # Slow enough that both would be setting up if nothing held one of them back.
    stand_in(folder.parent / "records", 'sleep 0.05\necho "$*" >> "$RECORD"\n')
    both = [
        subprocess.Popen(["make", "run", "WATCH=/x"], cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [process.wait(60) for process in both] == [0, 0]
    ran = record(folder)
    assert len([line for line in ran if "-m venv" in line]) == 1
    assert len([line for line in ran if line == "start --watch /x"]) == 2


def test_an_old_python_is_refused_by_its_version(folder: Path) -> None:
    stand_in(folder.parent / "python3", 'case "$*" in *version_info*) exit 1;; -V) echo Python 3.9.2;; esac\n')
    done = make(folder, "run", "WATCH=/x")
    assert done.returncode != 0
    assert "Python 3.9.2, 3.11 or newer is needed" in done.stderr
    assert not (folder / ".venv").exists()


def test_a_missing_python_is_named(folder: Path) -> None:
    done = make(folder, "run", "WATCH=/x", PYTHON="no-such-python")
    assert done.returncode != 0
    assert "no-such-python does not run" in done.stderr


def test_help_names_every_command(folder: Path) -> None:
    printed = make(folder, "help").stdout
    for command in ("run", "test", "lint", "type", "bench", "chaos", "wheels", "pins", "clean"):
        assert f"make {command} " in printed


def test_ci_calls_make_test_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make test"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
