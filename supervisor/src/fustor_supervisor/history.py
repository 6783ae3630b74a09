"""How the workers of earlier runs ended; kept in a file, so that a crash-looper cannot hide behind a restart."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from fustor_supervisor.status import Death, StateFile

_log = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True):
    """What stands in the file."""

    workers: dict[str, list[Death]]


class History:
    """
    The deaths of each worker, across runs of the supervisor.

    A file that cannot be read is set aside under the name `NAME.damaged`.

    Args:
        path: The file; need not exist.

    Attributes:
        file: What is written.
    """

    def __init__(self, path: Path) -> None:
        self.file = StateFile(path)
        self._written: bytes | None = None
        self._kept = _load(path)

    def recall(self, name: str) -> Sequence[Death]:
        """Return how a worker's processes ended in the runs before, oldest first."""
        return self._kept.get(name, ())

    def save(self, deaths: Mapping[str, list[Death]]) -> None:
        """Write the deaths of all workers, if they are not those in the file; what fails is logged and tried again."""
        data = msgspec.json.encode(_Kept({name: each for name, each in deaths.items() if each}))
        if data != self._written and self.file.write(data):
            self._written = data


def _load(path: Path) -> dict[str, list[Death]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as err:
        _log.warning("history not read path=%s error=%s", path, err)
        return {}
    try:
        return msgspec.json.decode(data, type=_Kept).workers
    except msgspec.DecodeError as err:
        aside = path.with_name(path.name + ".damaged")
        _log.error("history damaged path=%s set_aside_as=%s error=%s", path, aside, err)
        with contextlib.suppress(OSError):
            path.replace(aside)
        return {}
