"""Who this agent is: its id, its secrets, and the seed of its index clocks."""

import contextlib
import logging
import time
from pathlib import Path
from typing import Final, NamedTuple

from fustor_agent.paths import Paths
from fustor_agent.plan import Identity
from fustor_core.clock import choose_seed
from fustor_core.program.atomic import write_atomically
from fustor_core.program.secretfile import ensure_secret

_RESERVE_NS: Final = 300 * 10**9
_RENEW_EVERY_S: Final = 60.0
# The year 2116: a number above it is damage, and would leave an index of 64 bits little room to grow.
_RESERVE_END_NS: Final = 2**62
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")  # man 5 proc

_log = logging.getLogger(__name__)


class _Kept(NamedTuple):
    """What the last run left: the number it did not reach, its seed, and the boot in which it ran."""

    reserve_ns: int = 0
    seed_ns: int = 0
    boot_id: str = ""


class IndexReserve:
    """
    Keeps, on disk, a number that no index of this run reaches before it is renewed.

    A new process never stamps below its predecessor, whatever the wall clock says by then. In
    the same boot the clock itself goes on, so that its seed is enough; after another one, the
    seed is chosen above the reserve. Never ahead without need: where several agents push into
    one view, the indices of one that ran ahead would beat what the others see later.

    Args:
        path: The file.
        boot_id: Names this boot of the machine, empty when nobody can tell; None looks it up.

    Attributes:
        problem: Why it could not be renewed the last time, for people; None if it could.

    Raises:
        OSError: It cannot be read or written.
    """

    def __init__(self, path: Path, *, boot_id: str | None = None) -> None:
        self._path = path
        self._boot_id = _read_boot_id() if boot_id is None else boot_id
        self._renew_at_s = 0.0
        self.problem: str | None = None
        self.seed_ns = self._choose_seed(self._read())
        self._write()

    def _choose_seed(self, kept: _Kept) -> int:
        boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        went_on_ns = kept.seed_ns + boottime_ns
        is_same_clock = bool(kept.boot_id) and kept.boot_id == self._boot_id
        if is_same_clock and went_on_ns >= kept.reserve_ns - _RESERVE_NS:
            return choose_seed(wall_ns=time.time_ns(), boottime_ns=boottime_ns, reserve_ns=went_on_ns)
        return choose_seed(wall_ns=time.time_ns(), boottime_ns=boottime_ns, reserve_ns=kept.reserve_ns)

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
            if self.problem is None:
                _log.error("index reserve not renewed error=%s", err)
            self.problem = f'"{self._path}" cannot be written: {err.strerror}'
        else:
            self.problem = None

    def _write(self) -> None:
        index_ns = self.seed_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        words = f"{index_ns + _RESERVE_NS} {self.seed_ns} {self._boot_id}\n"
        write_atomically(self._path, words.encode())
        self._renew_at_s = time.monotonic() + _RENEW_EVERY_S

    def _read(self) -> _Kept:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return _Kept()  # the first run: the wall clock alone decides
        kept = _parse(content)
        if kept is not None:
            return kept
        _log.error("index reserve damaged, set aside and made anew path=%s", self._path)
        self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
        return _Kept()


def _parse(content: bytes) -> _Kept | None:
    """Read the file: the reserve, and mostly seed and boot; None when it is damaged."""
    try:
        reserve_ns, *more = content.decode().split()
        kept = _Kept(int(reserve_ns), int(more[0]), more[1]) if len(more) == 2 else _Kept(int(reserve_ns))
    except ValueError:
        return None
    return kept if all(0 <= number < _RESERVE_END_NS for number in kept[:2]) else None


def _read_boot_id() -> str:
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""


def make_identity(paths: Paths, reserve: IndexReserve) -> Identity:
    """
    Read the agent's id and secrets, making those that are missing.

    Raises:
        ProgramError: A file cannot be read or made.
    """
    return Identity(
        agent_id=ensure_secret(paths.state_dir / "agent-id")[:16],
        seed_ns=reserve.seed_ns,
        token=ensure_secret(paths.token),
        agent_key=ensure_secret(paths.state_dir / "fusion-agent.key"),
        reader_key=ensure_secret(paths.reader_key),
    )
