"""`fustor-fusion keys`: make, list and revoke keys; a running Fusion takes the change over at once."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fustor_core.program.errors import ProgramError
from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.tables import format_table
from fustor_fusion.configfile import load
from fustor_fusion.home import Home
from fustor_fusion.keyfile import BadKeyFile, Key, Role, UnknownKey, add_key, read_keys, revoke_key

_HEAD: Final = ("ID", "ROLE", "VIEWS", "CREATED", "NOTE")
_LONGEST_NOTE = 200


def run_keys(args: argparse.Namespace, home: Home) -> int:
    """Do what the command line asks with the keys."""
    home.prepare()
    path, views = _find_file(args.config, home)
    try:
        match args.action:
            case "add":
                _add(path, Role(args.role), tuple(dict.fromkeys(args.view)), args.note, known=views)
            case "revoke":
                key = revoke_key(path, args.id)
                print(f"revoked key {key.id}, {key.role.value} of {', '.join(key.views)}")
            case _:
                _list(read_keys(path))
    except BadKeyFile as err:
        raise ProgramError(str(err)) from err
    except UnknownKey as err:
        raise ProgramError(f'there is no key "{args.id}"; `fustor-fusion keys list` shows them') from err
    except OSError as err:
        remedy = "correct the permissions of its folder"
        raise ProgramError(f'"{path}" cannot be written ({err.strerror}); {remedy}') from err
    return ExitCode.DONE


def _find_file(config: str | None, home: Home) -> tuple[Path, Sequence[str] | None]:
    """Return where the keys are, and the views there are; None where no configuration says so."""
    if config is None and not home.config.exists():
        return home.keys, None
    loaded = load(Path(config) if config else home.config)
    return loaded.find_keys_file(home), [view.id for view in loaded.views]


def _add(path: Path, role: Role, views: tuple[str, ...], note: str, *, known: Sequence[str] | None) -> None:
    unknown = [view for view in views if known is not None and view not in known]
    if unknown:
        raise ProgramError(f'there is no view "{unknown[0]}"; the configuration has {", ".join(known or ())}')
    if len(note) > _LONGEST_NOTE or not note.isprintable():
        raise ProgramError(f"--note: at most {_LONGEST_NOTE} characters in one line are kept; shorten it")
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    key, secret = add_key(path, role, views, note=note, created_at=now)
    # Alone on standard output, so that it can be sent into a file.
    print(secret)
    print(f"key {key.id}, {role.value} of {', '.join(views)}; it is shown only this once", file=sys.stderr)


def _list(keys: Sequence[Key]) -> None:
    if not keys:
        print("there are no keys; make one with `fustor-fusion keys add`", file=sys.stderr)
        return
    rows = [(key.id, key.role.value, ",".join(key.views), key.created_at, key.note) for key in keys]
    print(format_table(_HEAD, rows, colour=False))
