"""Who this agent is: its id, its secrets, and the seed of its index clocks."""

import time
from pathlib import Path
from typing import Final

from fustor_agent.atomic import write_atomically
from fustor_agent.paths import Paths
from fustor_agent.plan import Identity
from fustor_agent.secretfile import ensure_secret
from fustor_core.clock import choose_seed

_RESERVE_NS: Final = 300 * 10**9
_RENEW_EVERY_S: Final = 60.0


class IndexReserve:
    """
    Keeps, on disk, a number that no index of this run reaches before it is renewed.

    The next run's seed is chosen above it, so a new process never stamps below its
    predecessor, whatever the wall clock says by then.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._renew_at_s = 0.0
        boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.seed_ns = choose_seed(wall_ns=time.time_ns(), boottime_ns=boottime_ns, reserve_ns=self._read())
        self.renew()

    def renew(self) -> None:
        """Write a new reserve if the last is a minute old; call it more often than every five minutes."""
        now_s = time.monotonic()
        if now_s < self._renew_at_s:
            return
        index_ns = self.seed_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        write_atomically(self._path, b"%d\n" % (index_ns + _RESERVE_NS))
        self._renew_at_s = now_s + _RENEW_EVERY_S

    def _read(self) -> int:
        try:
            return int(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return 0  # the first run, or a damaged file: the wall clock alone decides


def make_identity(paths: Paths, reserve: IndexReserve) -> Identity:
    """
    Read the agent's id and secrets, making those that are missing.

    Raises:
        AgentError: A file cannot be read or made.
    """
    return Identity(
        agent_id=ensure_secret(paths.state_dir / "agent-id")[:16],
        seed_ns=reserve.seed_ns,
        token=ensure_secret(paths.token),
        agent_key=ensure_secret(paths.state_dir / "fusion-agent.key"),
        reader_key=ensure_secret(paths.state_dir / "fusion-reader.key"),
    )
