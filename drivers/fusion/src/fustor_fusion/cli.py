"""The command `fustor-fusion`: a Fusion of its own, for many agents and views."""

import argparse
import functools
import ipaddress
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from fustor_core.program.commandline import EXIT_CODES, add_timeout, make_streams_safe, run_command
from fustor_core.program.daemon import Report
from fustor_core.program.errors import BadConfig
from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.launch import Launch, Tell, launch
from fustor_core.program.listener import format_url, open_listener
from fustor_core.program.pidfile import open_holder, refuse_second, stop
from fustor_core.program.problems import Problem
from fustor_core.program.yamlfile import ID_RULE, is_id
from fustor_fusion import __version__
from fustor_fusion.configfile import StandaloneConfig, ViewConfig, configure_server, load
from fustor_fusion.home import FUSION, Home, find_fusion_home
from fustor_fusion.keycommands import run_keys
from fustor_fusion.keyfile import BadKeyFile, Role, read_keys
from fustor_fusion.keys import AGENT_KEY_FILE, READER_KEY_FILE, load_or_create_keys
from fustor_fusion.status import FusionStatus, format_status, read_status

_HIGHEST_PORT: Final = 65535


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    make_streams_safe()
    args = build_parser().parse_args(argv)
    commands: dict[str, Callable[[argparse.Namespace, Home], int]] = {
        "start": _start, "stop": _stop, "status": _status, "keys": run_keys,
    }
    return run_command(lambda: commands[args.command](args, find_fusion_home()))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="fustor-fusion",
        description="Takes the pushes of many agents and serves one consistent view of each tree.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"fustor-fusion {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    start = commands.add_parser("start", help="run Fusion")
    start.add_argument("-D", "--daemon", action="store_true", help="run in the background")
    what = start.add_mutually_exclusive_group()
    _add_config(what)
    what.add_argument("--view", metavar="ID", type=_parse_id, help="serve one view, with no configuration file")
    start.add_argument("--port", metavar="N", type=_parse_port, help="listen there, whatever the configuration says")

    add_timeout(commands.add_parser("stop", help="stop the running Fusion"))

    status = commands.add_parser("status", help="show the views; exit 1 if something is wrong")
    status.add_argument("--json", action="store_true", help="the same as JSON")

    actions = commands.add_parser("keys", help="make, list and revoke keys").add_subparsers(
        dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="make a key and print its secret, once")
    add.add_argument("--role", choices=[role.value for role in Role], required=True, help="push and read, or only read")
    add.add_argument("--view", metavar="ID", type=_parse_id, action="append", required=True,
                     help="a view it is for; may be given again")
    add.add_argument("--note", default="", help="for people: whose it is")
    _add_config(add)
    _add_config(actions.add_parser("list", help="list the keys, without their secrets"))
    revoke = actions.add_parser("revoke", help="take a key back; its sessions end at once")
    revoke.add_argument("id", metavar="ID", help="as `keys list` shows it")
    _add_config(revoke)
    return parser


def _add_config(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--config", metavar="FILE", help="default: fusion.yaml in FUSTOR_FUSION_HOME")


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _HIGHEST_PORT):
        raise argparse.ArgumentTypeError(f'"{text}" is not a port; use a number from 0 to {_HIGHEST_PORT}')
    return int(text)


def _parse_id(text: str) -> str:
    if not is_id(text):
        raise argparse.ArgumentTypeError(f'"{text}" is not a usable id; {ID_RULE}')
    return text


def _start(args: argparse.Namespace, home: Home) -> int:
    home.prepare()
    refuse_second(home.pid, FUSION)
    if args.view is not None:
        config = StandaloneConfig(views=(ViewConfig(args.view),))
    else:
        config = load(Path(os.path.abspath(args.config)) if args.config else home.config)
    if args.port is not None:
        config = msgspec.structs.replace(config, port=args.port)
    keys_file = config.find_keys_file(home)
    try:
        key_count = len(read_keys(keys_file))
    except BadKeyFile as err:
        raise BadConfig([Problem(str(keys_file), None, "", "", str(err), "")]) from err
    run = functools.partial(
        _run, config, home, makes_keys=args.view is not None, key_count=key_count, foreground=not args.daemon
    )
    return launch(Launch(FUSION, "supervisor", home.pid, home.log, run), daemon=args.daemon)


def _run(
    config: StandaloneConfig, home: Home, tell: Tell, *, makes_keys: bool, key_count: int, foreground: bool
) -> int:
    # Only now: this brings in the supervisor.
    from fustor_fusion import standalone

    remedy = "stop the program that has it, or choose another with port or --port"
    with open_listener("", config.host, config.port, remedy=remedy) as listener:
        url = format_url(config.host, listener.getsockname()[1])
        agent_key = reader_key = None
        if makes_keys:
            agent_key, reader_key = load_or_create_keys(home.state_dir)
        text = _say_running(config, home, url, makes_keys=makes_keys, key_count=key_count)
        warnings = _find_warnings(config, has_keys=makes_keys or key_count > 0)

        def on_ready() -> None:
            if foreground:
                print(text, flush=True)
            tell(Report(code=ExitCode.DONE, out=text, err="\n".join(warnings)))

        return standalone.run(
            configure_server(config, home, agent_key=agent_key, reader_key=reader_key), listener, home,
            version=__version__, url=url, on_ready=on_ready,
            on_failed=lambda reason: tell(Report(code=ExitCode.FAILED, err=f"Fusion cannot start: {reason}")),
        )


def _say_running(config: StandaloneConfig, home: Home, url: str, *, makes_keys: bool, key_count: int) -> str:
    files = f"{home.state_dir / AGENT_KEY_FILE} (may push), {home.state_dir / READER_KEY_FILE} (may only read)"
    keys = files if makes_keys else f"{key_count} in {config.find_keys_file(home)}"
    views = ", ".join(view.id for view in config.views)
    return (f"Fusion {__version__}, pid {os.getpid()}\naddress  {url}\nviews    {views}\n"
            f"keys     {keys}\nlog      {home.log}")


def _find_warnings(config: StandaloneConfig, *, has_keys: bool) -> list[str]:
    warnings = []
    if not _is_loopback(config.host):
        warnings.append(f'host: "{config.host}" is reached from other machines, and keys and data go there in clear '
                        "text; put a proxy that does TLS in front, and have host be loopback")
    if not has_keys:
        view = config.views[0].id
        warnings.append("there is no key yet, so nobody may push or read; "
                        f"make one with `fustor-fusion keys add --role agent --view {view}`")
    return warnings


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _stop(args: argparse.Namespace, home: Home) -> int:
    stop(home.pid, FUSION, timeout_s=args.timeout)
    return ExitCode.DONE


def _status(args: argparse.Namespace, home: Home) -> int:
    with open_holder(home.pid) as holder:
        pid = holder.pid if holder else None
    if pid is None:
        if args.json:
            print(msgspec.json.encode(FusionStatus()).decode())
        raise FUSION.not_running()
    status, faults = read_status(home, pid)
    print(msgspec.json.encode(status).decode() if args.json else format_status(
        status, faults, colour=sys.stdout.isatty()))
    return ExitCode.FAILED if faults else ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
