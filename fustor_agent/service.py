"""The agent as a service of systemd: what its unit says, and where it stands; nothing is carried out here."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from fustor_core.program.errors import ProgramError
from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.problems import make_encodable

NAME: Final = "fustor-agent.service"
MARK: Final = "# Written by `fustor-agent service install`; change it by `systemctl edit fustor-agent`."

_FOR_A_PERSON: Final = (ExitCode.USAGE, ExitCode.ALREADY_RUNNING, ExitCode.BAD_CONFIG)
"""What starting again does not help against."""

_NOT_IN_PROGRAMS: Final = frozenset("\"'\\")
"""What systemd refuses in the path of a program, however it is quoted."""

_TEMPLATE: Final = """\
{mark}
[Unit]
Description=Fustor Agent
After=network.target remote-fs.target
# Never give up, however often it had to be started.
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={start}
ExecReload={reload}
Environment={environment}
Restart=on-failure
RestartSec=1
RestartPreventExitStatus={for_a_person}
# The agent itself sees a worker that does not come up; a large database may take its time.
TimeoutStartSec=infinity
TimeoutStopSec=60
WatchdogSec=30
# The agent stops its workers in order, and replaces one that the kernel killed for its memory.
KillMode=mixed
OOMPolicy=continue
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
{own}
[Install]
WantedBy={wanted_by}
"""

# In a unit of a user these would take a user namespace, in which every foreign owner is "nobody": rows would be wrong.
# No ProtectHome and no PrivateTmp, since what is watched may be there.
_SYSTEM: Final = """\
User={user}
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
ProtectSystem=strict
ReadWritePaths={home}
# Nothing else can be written to, /tmp neither.
Environment={temporary}
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
"""


class Service(msgspec.Struct, frozen=True):
    """
    What a unit is made of.

    Args:
        program: The command `fustor-agent`, absolute.
        choice: What follows `start`.
        home: `FUSTOR_HOME`, absolute.
        user: Whom the system's manager runs it as; None for a unit of the user's own manager.
        reads_all: Give it the capability to read every file and directory (system units only).
    """

    program: str
    choice: tuple[str, ...]
    home: str
    user: str | None = None
    reads_all: bool = False


def render(service: Service) -> str:
    """
    Write the unit.

    Raises:
        ProgramError: A path cannot stand in a unit.
    """
    own = ""
    if service.user is not None:
        own = _SYSTEM.format(
            user=service.user,
            capabilities="CAP_DAC_READ_SEARCH" if service.reads_all else "",
            home=_quote(service.home),
            temporary=_quote(f"TMPDIR={service.home}"),
        )
    return _TEMPLATE.format(
        mark=MARK,
        start=_quote_command(service.program, "start", *service.choice),
        reload=_quote_command(service.program, "reload"),
        environment=_quote(f"FUSTOR_HOME={service.home}"),
        for_a_person=" ".join(str(int(code)) for code in _FOR_A_PERSON),
        own=own,
        wanted_by="default.target" if service.user is None else "multi-user.target",
    )


def find_unit(*, system: bool, environ: Mapping[str, str] = os.environ) -> Path:
    """
    Say where the unit stands (man 5 systemd.unit).

    Args:
        system: Of the system's manager, or of the user's own.
        environ: `XDG_CONFIG_HOME` says where the latter has its units.
    """
    if system:
        return Path("/etc/systemd/system", NAME)
    return Path(environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "systemd", "user", NAME)


def _quote_command(program: str, *arguments: str) -> str:
    if set(program) & _NOT_IN_PROGRAMS:
        raise ProgramError(f'"{program}" cannot be started by systemd; install it below a path without quotes in it')
    # Variables are looked for in arguments only (man 5 systemd.service).
    return " ".join((_quote(program), *(_quote(word).replace("$", "$$") for word in arguments)))


def _quote(word: str) -> str:
    """Write a word as a unit holds it (man 5 systemd.syntax; "%" begins a specifier)."""
    if not word.isprintable() or make_encodable(word) != word:
        raise ProgramError(f'"{ascii(word)[1:-1]}" cannot stand in a unit; use a path of printable characters')
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
