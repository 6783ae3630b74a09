"""Which configuration a command means, and remembering it for a restart."""

import argparse
import os
from pathlib import Path

import msgspec

from fustor_agent.config import Config, draft_watch, read
from fustor_agent.drivercheck import check
from fustor_agent.paths import Paths
from fustor_core.program.atomic import write_atomically

_NAME = "start.json"


class Choice(msgspec.Struct, frozen=True):
    """
    What an agent was started on; both None is the default file.

    Args:
        config: A configuration file, absolute.
        watch: A directory, absolute.
    """

    config: str | None = None
    watch: str | None = None


def choose(args: argparse.Namespace) -> Choice:
    """Take the choice from the command line."""
    return Choice(
        config=os.path.abspath(args.config) if args.config else None,
        watch=os.path.abspath(args.watch) if args.watch else None,
    )


def read_config(choice: Choice, paths: Paths) -> Config:
    """
    Read the chosen configuration and have its drivers check their part.

    Raises:
        BadConfig: Anything is wrong with it.
    """
    if choice.watch is not None:
        return check(draft_watch(choice.watch))
    return check(read(Path(choice.config) if choice.config else paths.config))


def remember(choice: Choice, paths: Paths) -> None:
    """Keep the choice for `restart`."""
    # A path that is not UTF-8 cannot stand in JSON text; as escapes it can.
    kept = msgspec.structs.replace(choice, config=_escape(choice.config), watch=_escape(choice.watch))
    write_atomically(paths.state_dir / _NAME, msgspec.json.encode(kept))


def recall(paths: Paths) -> Choice:
    """Return the choice of the last start; the default if nothing readable is kept."""
    try:
        kept = msgspec.json.decode((paths.state_dir / _NAME).read_bytes(), type=Choice)
    except (OSError, msgspec.DecodeError):
        return Choice()
    return msgspec.structs.replace(kept, config=_unescape(kept.config), watch=_unescape(kept.watch))


def _escape(path: str | None) -> str | None:
    return None if path is None else os.fsencode(path).decode("latin-1")


def _unescape(path: str | None) -> str | None:
    return None if path is None else os.fsdecode(path.encode("latin-1"))
