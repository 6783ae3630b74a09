"""The public agent 0.8.17, as released, in an environment of its own."""

import json
import signal
from pathlib import Path
from typing import Final

from released import Program, install, pin

REQUIREMENTS: Final = (
    *pin("fustor-agent", "fustor-agent-sdk", "fustor-core", "fustor-fusion-sdk", "fustor-schema-fs",
         "fustor-sender-echo", "fustor-sender-http", "fustor-source-fs"),
    "watchdog<6",  # the release that its own requirements let in has another interface than it calls
)  # fmt: skip


class PublicAgent:
    """
    One public agent with one pipe; owns its process until `stop` or `kill`.

    Args:
        home: For its configuration and log; made if missing. A second one there has the same agent id.
        tree: The directory that it watches.
        endpoint: Of the Fusion.
        key: That may push there.
        audit_interval_s: The first audit comes that long after it leads.
        session_timeout_s: What it asks for.
    """

    def __init__(
        self, home: Path, *, tree: Path, endpoint: str, key: str, audit_interval_s: float, session_timeout_s: int = 30
    ) -> None:
        self.home = home
        self._config = {
            "sources": {"tree": {"driver": "fs", "uri": str(tree), "driver_params": {"file_pattern": "*"}}},
            "senders": {"fusion": {"driver": "fusion", "uri": endpoint, "credential": {"key": key}}},
            "pipes": {
                "pipe": {
                    "source": "tree",
                    "sender": "fusion",
                    "audit_interval_sec": audit_interval_s,
                    "session_timeout_seconds": session_timeout_s,
                }
            },
        }
        self._program = Program(home)

    def start(self) -> "PublicAgent":
        """
        Start it; returns at once.

        Raises:
            NotInstallable: The registry does not give it.
        """
        program = install("public-agent", REQUIREMENTS) / "fustor-agent"
        (self.home / "agent-config").mkdir(parents=True, exist_ok=True)
        (self.home / "agent-config" / "default.yaml").write_text(json.dumps(self._config))  # JSON is YAML
        self._program.start(str(program), "start")
        return self

    def stop(self) -> None:
        """End it as an operator does: it closes its session."""
        self._program.end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does: its session lives on without it."""
        self._program.end(signal.SIGKILL)

    def pids(self) -> list[int]:
        """Return its processes."""
        return self._program.pids()

    def log(self) -> str:
        """Return what it printed."""
        return self._program.log()
