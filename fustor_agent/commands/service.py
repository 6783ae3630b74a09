"""`fustor-agent service`: run the agent as a service of systemd."""

import argparse
import os
import pwd
import subprocess
import sys
from pathlib import Path

from fustor_agent.commands.choice import choose
from fustor_agent.paths import HOME_VARIABLE, find_paths
from fustor_agent.service import MARK, NAME, Service, find_unit, render
from fustor_core.program.atomic import write_atomically
from fustor_core.program.errors import ProgramError
from fustor_core.program.exitcodes import ExitCode


def run(args: argparse.Namespace) -> int:
    """Print, install or remove the unit."""
    if args.action == "uninstall":
        _uninstall(system=args.system)
        return ExitCode.DONE
    service = _describe(args)
    text = render(service)
    if args.action == "print":
        print(text, end="")
    else:
        _install(service, text, system=args.system)
    return ExitCode.DONE


def _describe(args: argparse.Namespace) -> Service:
    if not args.system and (args.user or args.read_all):
        raise ProgramError("--user and --read-all are for the unit of the system; add --system")
    choice = choose(args)
    named = (("--config", choice.config), ("--watch", choice.watch))
    return Service(
        program=str(_find_program()),
        choice=tuple(word for option, path in named if path is not None for word in (option, path)),
        home=_find_home(args.user),
        user=(args.user or pwd.getpwuid(os.getuid()).pw_name) if args.system else None,
        reads_all=args.read_all,
    )


def _find_program() -> Path:
    program = Path(sys.executable).parent / "fustor-agent"
    if not program.exists():
        raise ProgramError(f'"{program}" is missing; install the agent into the environment that runs this command')
    return program


def _find_home(user: str | None) -> str:
    try:
        theirs = "" if user is None else os.path.join(pwd.getpwnam(user).pw_dir, ".fustor")
    except KeyError as err:
        raise ProgramError(f'there is no user "{user}"; add the user, or name another with --user') from err
    return theirs if theirs and not os.environ.get(HOME_VARIABLE) else str(find_paths().home)


def _install(service: Service, text: str, *, system: bool) -> None:
    unit = find_unit(system=system)
    if unit.exists() and not unit.read_text(errors="replace").startswith(MARK):
        raise ProgramError(f'"{unit}" was not written by this command; move it away')
    _make_home(service)
    unit.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(unit, text.encode(), mode=0o644)
    print(f"installed {unit}")
    _tell_systemd("daemon-reload", system=system)
    _tell_systemd("enable", NAME, system=system)
    print(f"start it with `{' '.join(_command('start', 'fustor-agent', system=system))}`")


def _uninstall(*, system: bool) -> None:
    unit = find_unit(system=system)
    if not unit.exists():
        raise ProgramError(f'"{unit}" is not installed')
    _tell_systemd("disable", "--now", NAME, system=system)
    unit.unlink()
    print(f"removed {unit}")
    _tell_systemd("daemon-reload", system=system)


def _make_home(service: Service) -> None:
    """Make the home if it is missing: systemd makes it writable before the agent could."""
    home = Path(service.home)
    if home.exists():
        return
    home.mkdir(mode=0o700, parents=True)
    if service.user is not None and os.getuid() == 0:
        account = pwd.getpwnam(service.user)
        os.chown(home, account.pw_uid, account.pw_gid)


def _command(*words: str, system: bool) -> list[str]:
    return ["systemctl", *(() if system else ("--user",)), *words]


def _tell_systemd(*words: str, system: bool) -> None:
    command = _command(*words, system=system)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError as err:
        raise ProgramError(f"`{' '.join(command)}`: there is no systemctl; run it where systemd is") from err
    if done.returncode != 0:
        raise ProgramError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
