"""`fustor-agent service` with a stand-in for systemctl: what it writes, and what it asks systemd for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fustor_agent.service import MARK

PROGRAM = Path(sys.executable).parent / "fustor-agent"


class Machine:
    """A home, a place for units, and a systemctl that notes what it is asked for."""

    def __init__(self, tmp_path: Path) -> None:
        self.home = tmp_path / "home"
        self.unit = tmp_path / "config/systemd/user/fustor-agent.service"
        self._asked = tmp_path / "asked"
        self._bin = tmp_path / "bin"
        self._bin.mkdir()
        self.stand_in(f'echo "$@" >> {self._asked}')

    def stand_in(self, script: str | None) -> None:
        systemctl = self._bin / "systemctl"
        systemctl.unlink(missing_ok=True)
        if script is not None:
            systemctl.write_text(f"#!/bin/sh\n{script}\n")
            systemctl.chmod(0o755)

    def asked(self) -> list[str]:
        return self._asked.read_text().splitlines() if self._asked.exists() else []

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": str(self._bin), "HOME": os.environ["HOME"],
            "FUSTOR_HOME": str(self.home), "XDG_CONFIG_HOME": str(self.unit.parents[2]),
        }  # fmt: skip
        done = subprocess.run(
            [PROGRAM, "service", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"{done.stdout}{done.stderr}"
        return done


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_print_shows_the_unit_and_changes_nothing(machine: Machine) -> None:
    text = machine.run("print", "--watch", "/data").stdout
    assert text.startswith(MARK)
    assert f'ExecStart="{PROGRAM}" "start" "--watch" "/data"\n' in text
    assert f'"FUSTOR_HOME={machine.home}"' in text
    assert machine.asked() == []
    assert not machine.home.exists()


def test_print_knows_the_home_of_the_user_that_the_system_shall_run_it_as(machine: Machine) -> None:
    text = machine.run("print", "--system", "--user", "root", "--read-all").stdout
    assert "User=root\n" in text
    assert "AmbientCapabilities=CAP_DAC_READ_SEARCH\n" in text


def test_install_writes_the_unit_enables_it_and_says_how_to_start_it(machine: Machine) -> None:
    said = machine.run("install").stdout
    assert said == f"installed {machine.unit}\nstart it with `systemctl --user start fustor-agent`\n"
    assert machine.unit.read_text() == machine.run("print").stdout
    assert machine.unit.stat().st_mode & 0o777 == 0o644
    assert machine.asked() == ["--user daemon-reload", "--user enable fustor-agent.service"]
    assert machine.home.stat().st_mode & 0o777 == 0o700


def test_install_again_replaces_its_own_unit_but_nobody_elses(machine: Machine) -> None:
    machine.run("install")
    machine.run("install", "--watch", "/data")
    assert '"/data"' in machine.unit.read_text()
    machine.unit.write_text("[Unit]\n")
    assert "move it away" in machine.run("install", code=1).stderr
    assert machine.unit.read_text() == "[Unit]\n"


def test_uninstall_stops_and_disables_it_and_removes_the_unit(machine: Machine) -> None:
    machine.run("install")
    assert machine.run("uninstall").stdout == f"removed {machine.unit}\n"
    assert not machine.unit.exists()
    assert machine.asked()[2:] == ["--user disable --now fustor-agent.service", "--user daemon-reload"]
    assert "is not installed" in machine.run("uninstall", code=1).stderr


def test_what_systemd_refuses_is_said_and_an_uninstall_leaves_the_unit(machine: Machine) -> None:
    machine.run("install")
    machine.stand_in('echo "Failed to connect to bus" >&2; exit 1')
    refused = machine.run("uninstall", code=1)
    assert refused.stderr == "`systemctl --user disable --now fustor-agent.service` failed: Failed to connect to bus\n"
    assert machine.unit.exists()
    machine.stand_in(None)
    assert "there is no systemctl" in machine.run("install", code=1).stderr


@pytest.mark.parametrize("options", [("--read-all",), ("--user", "root")])
def test_what_only_the_system_can_give_is_refused_without_it(machine: Machine, options: tuple[str, ...]) -> None:
    assert "add --system" in machine.run("print", *options, code=1).stderr


def test_an_unknown_user_is_named(machine: Machine) -> None:
    assert 'no user "nobody-of-this-name"' in machine.run(
        "print", "--system", "--user", "nobody-of-this-name", code=1
    ).stderr
