"""Where the agent keeps its files: the names below `FUSTOR_HOME`."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fustor_agent.errors import AgentError
from fustor_agent.problems import make_encodable

HOME_VARIABLE = "FUSTOR_HOME"
_PRIVATE = 0o700


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
            AgentError: They cannot be created or written to.
        """
        for directory in (self.home, self.log_dir, self.state_dir):
            try:
                directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            except OSError as err:
                reason = "is in the way" if isinstance(err, FileExistsError) else f"cannot be created ({err.strerror})"
                remedy = f"set {HOME_VARIABLE} to a directory that you may write to"
                raise AgentError(f'{HOME_VARIABLE}: "{directory}" {reason}; {remedy}') from err
            if not os.access(directory, os.W_OK | os.X_OK):
                remedy = f"correct its permissions or set {HOME_VARIABLE} to another directory"
                raise AgentError(f'{HOME_VARIABLE}: "{directory}" cannot be written to; {remedy}')


def find_paths(environ: Mapping[str, str] = os.environ) -> Paths:
    """
    Find the agent's home.

    Args:
        environ: `FUSTOR_HOME` names it; default `~/.fustor`.

    Raises:
        AgentError: Its name is not UTF-8, which databases cannot open.
    """
    home = os.path.abspath(os.path.expanduser(environ.get(HOME_VARIABLE, "").strip() or "~/.fustor"))
    if make_encodable(home) != home:
        raise AgentError(f'{HOME_VARIABLE}: "{make_encodable(home)}" is not UTF-8; name another directory')
    return Paths(home=Path(home))
