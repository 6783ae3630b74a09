"""Who this agent is: its id, its secrets, and the seed of its index clocks."""

import logging
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
# The year 2116: a number above it is damage, and would leave an index of 64 bits little room to grow.
_RESERVE_END_NS: Final = 2**62

_log = logging.getLogger(__name__)


class IndexReserve:
    """
    Keeps, on disk, a number that no index of this run reaches before it is renewed.

    The next run's seed is chosen above it, so a new process never stamps below its
    predecessor, whatever the wall clock says by then.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._renew_at_s = 0.0
        self._is_failing = False
        boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.seed_ns = choose_seed(wall_ns=time.time_ns(), boottime_ns=boottime_ns, reserve_ns=self._read())
        self._write()

    def renew(self) -> None:
        """
        Write a new reserve if the last is a minute old; call it more often than every five minutes.

        A write that fails is logged and tried again with the next call. Nothing that happens now depends on
        it, only a later start on a clock that was set back.
        """
        if time.monotonic() < self._renew_at_s:
            return
        try:
            self._write()
        except OSError as err:
            if not self._is_failing:
                _log.error("index reserve not renewed error=%s", err)
            self._is_failing = True
        else:
            self._is_failing = False

    def _write(self) -> None:
        index_ns = self.seed_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        write_atomically(self._path, b"%d\n" % (index_ns + _RESERVE_NS))
        self._renew_at_s = time.monotonic() + _RENEW_EVERY_S

    def _read(self) -> int:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return 0  # the first run: the wall clock alone decides
        try:
            reserve_ns = int(content)
        except ValueError:
            reserve_ns = -1
        if 0 <= reserve_ns < _RESERVE_END_NS:
            return reserve_ns
        _log.error("index reserve damaged, set aside and made anew path=%s", self._path)
        self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
        return 0


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
