"""Where the agent keeps its files: the names below `FUSTOR_HOME`."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fustor_core.program.home import find_home, prepare_home
from fustor_core.program.pidfile import Program

HOME_VARIABLE = "FUSTOR_HOME"
AGENT = Program(name="the agent", command="fustor-agent")


class Paths(msgspec.Struct, frozen=True):
    """
    The names of all files of one agent; nothing is created by asking for a name.

    Args:
        home: The directory that holds them all; absolute.
    """

    home: Path

    @property
    def config(self) -> Path:
        """The configuration, unless `--config` names another."""
        return self.home / "agent-config.yaml"

    @property
    def pid(self) -> Path:
        """The PID file, locked while the agent runs."""
        return self.home / "agent.pid"

    @property
    def token(self) -> Path:
        """What a request that changes something must present."""
        return self.home / "token"

    @property
    def reader_key(self) -> Path:
        """The embedded Fusion's key that may only read."""
        return self.state_dir / "fusion-reader.key"

    @property
    def log_dir(self) -> Path:
        """The directory of the logs."""
        return self.home / "logs"

    @property
    def log(self) -> Path:
        """The log of all processes of the agent."""
        return self.log_dir / "agent.log"

    @property
    def state_dir(self) -> Path:
        """What the agent remembers between starts."""
        return self.home / "state"

    @property
    def status(self) -> Path:
        """The last published status, the same JSON as `/api/status`."""
        return self.state_dir / "status.json"

    @property
    def deaths(self) -> Path:
        """How the last processes of each worker ended."""
        return self.state_dir / "deaths.json"

    @property
    def reload(self) -> Path:
        """The outcome of the last reload."""
        return self.state_dir / "reload.json"

    @property
    def refused(self) -> Path:
        """Rows that a receiver refused for good."""
        return self.state_dir / "refused.ndjson"

    def prepare(self) -> None:
        """
        Create the directories, readable by their owner only.

        Raises:
            ProgramError: They cannot be created or written to.
        """
        prepare_home(HOME_VARIABLE, (self.home, self.log_dir, self.state_dir))


def find_paths(environ: Mapping[str, str] = os.environ) -> Paths:
    """
    Find the agent's home.

    Args:
        environ: `FUSTOR_HOME` names it; default `~/.fustor`.

    Raises:
        ProgramError: Its name is not UTF-8, which databases cannot open.
    """
    return Paths(home=find_home(HOME_VARIABLE, "~/.fustor", environ))
