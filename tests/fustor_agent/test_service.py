import shlex
from pathlib import Path

import msgspec
import pytest

from fustor_agent.service import MARK, Service, find_unit, render
from fustor_core.program.errors import ProgramError

OWN = Service(program="/usr/local/bin/fustor-agent", choice=("--watch", "/data"), home="/var/lib/fustor")
SYSTEM = msgspec.structs.replace(OWN, user="fustor")


def read(text: str) -> dict[str, list[str]]:
    """Return the values of each key; systemd takes an empty one for none."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_a_unit_starts_reloads_and_watches_the_agent() -> None:
    text = render(OWN)
    assert text.startswith(MARK)
    unit = read(text)
    assert unit["Type"] == ["notify"]
    assert unit["ExecStart"] == ['"/usr/local/bin/fustor-agent" "start" "--watch" "/data"']
    assert unit["ExecReload"] == ['"/usr/local/bin/fustor-agent" "reload"']
    assert unit["Environment"] == ['"FUSTOR_HOME=/var/lib/fustor"']
    assert unit["WatchdogSec"] == ["30"]
    assert unit["WantedBy"] == ["default.target"]


def test_a_unit_never_gives_up_but_where_only_a_person_can_help() -> None:
    unit = read(render(OWN))
    assert unit["StartLimitIntervalSec"] == ["0"]
    assert unit["RestartPreventExitStatus"] == ["2 4 5"]
    assert unit["OOMPolicy"] == ["continue"]  # a worker that is killed for its memory is the agent's business


@pytest.mark.parametrize("service", [OWN, SYSTEM])
def test_a_unit_gives_no_privileges(service: Service) -> None:
    assert read(render(service))["NoNewPrivileges"] == ["yes"]


def test_a_unit_of_the_system_can_write_to_the_home_only_and_has_no_capability() -> None:
    unit = read(render(SYSTEM))
    assert unit["User"] == ["fustor"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["ReadWritePaths"] == ['"/var/lib/fustor"']
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == [""]
    assert '"TMPDIR=/var/lib/fustor"' in unit["Environment"]
    assert unit["WantedBy"] == ["multi-user.target"]


def test_a_unit_of_the_system_may_be_given_the_one_capability_to_read() -> None:
    unit = read(render(msgspec.structs.replace(SYSTEM, reads_all=True)))
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ["CAP_DAC_READ_SEARCH"]


def test_a_unit_of_a_user_has_nothing_that_takes_a_user_namespace() -> None:
    # In one, every foreign owner of a file is "nobody" (man 5 systemd.exec, PrivateUsers=).
    namespaced = {"User", "CapabilityBoundingSet", "AmbientCapabilities", "ReadWritePaths"}
    assert [key for key in read(render(OWN)) if key.startswith(("Protect", "Private")) or key in namespaced] == []


def test_any_printable_path_arrives_as_it_is() -> None:
    path = "/data/50% \"of\" $HOME's \\ 中"
    unit = read(render(Service(program="/a b/fustor-agent", choice=("--watch", path), home="/h%h")))
    (command,) = unit["ExecStart"]
    words = shlex.split(command.replace("$$", "$").replace("%%", "%"))
    assert words == ["/a b/fustor-agent", "start", "--watch", path]
    (command,) = read(render(msgspec.structs.replace(OWN, program="/$b 50%/fustor-agent")))["ExecReload"]
    assert command == '"/$b 50%%/fustor-agent" "reload"'  # as `systemd-analyze verify` finds it
    assert unit["Environment"] == ['"FUSTOR_HOME=/h%%h"']


@pytest.mark.parametrize("path", ["/two\nlines", "/not-utf8-\udcff"])
def test_a_path_that_cannot_stand_in_a_unit_is_refused(path: str) -> None:
    with pytest.raises(ProgramError, match="cannot stand in a unit"):
        render(msgspec.structs.replace(OWN, choice=("--config", path)))


@pytest.mark.parametrize("folder", ["/it's", '/"quoted"', "/back\\slash"])
def test_a_program_that_systemd_refuses_to_start_is_refused(folder: str) -> None:
    with pytest.raises(ProgramError, match="without quotes"):
        render(msgspec.structs.replace(OWN, program=f"{folder}/fustor-agent"))


def test_units_stand_where_systemd_looks_for_them() -> None:
    assert find_unit(system=True) == Path("/etc/systemd/system/fustor-agent.service")
    own = Path("systemd/user/fustor-agent.service")
    assert find_unit(system=False, environ={"XDG_CONFIG_HOME": "/x"}) == "/x" / own
    assert find_unit(system=False, environ={}) == Path.home() / ".config" / own
