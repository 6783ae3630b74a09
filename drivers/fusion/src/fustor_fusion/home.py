"""Where a standalone Fusion keeps its files: the names below `FUSTOR_FUSION_HOME`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from fustor_core.program.home import find_home, prepare_home
from fustor_core.program.pidfile import Program

HOME_VARIABLE: Final = "FUSTOR_FUSION_HOME"
FUSION: Final = Program(name="Fusion", command="fustor-fusion")


class Home(msgspec.Struct, frozen=True):
    """
    The names of all files; nothing is created by asking for a name.

    Args:
        folder: The directory that holds them all; absolute.
    """

    folder: Path

    @property
    def config(self) -> Path:
        """The configuration, unless `--config` names another."""
        return self.folder / "fusion.yaml"

    @property
    def pid(self) -> Path:
        """The PID file, locked while it runs."""
        return self.folder / "fusion.pid"

    @property
    def log(self) -> Path:
        """The log of both processes."""
        return self.folder / "logs" / "fusion.log"

    @property
    def state_dir(self) -> Path:
        """The databases, and what stands beside them."""
        return self.folder / "state"

    @property
    def status(self) -> Path:
        """The last published status, the same JSON as `status --json`."""
        return self.state_dir / "status.json"

    @property
    def deaths(self) -> Path:
        """How the last processes of the server ended."""
        return self.state_dir / "deaths.json"

    @property
    def keys(self) -> Path:
        """The keys, unless `keys_file` names another file."""
        return self.state_dir / "keys.json"

    def prepare(self) -> None:
        """
        Create the directories, readable by their owner only.

        Raises:
            ProgramError: They cannot be created or written to.
        """
        prepare_home(HOME_VARIABLE, (self.folder, self.log.parent, self.state_dir))


def find_fusion_home(environ: Mapping[str, str] = os.environ) -> Home:
    """
    Find the home.

    Args:
        environ: `FUSTOR_FUSION_HOME` names it; default `~/.fustor-fusion`.
    """
    return Home(find_home(HOME_VARIABLE, "~/.fustor-fusion", environ))
