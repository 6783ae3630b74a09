"""How the calling thread's reads stand back behind those of others while it does work that has time."""

import logging
import threading
from typing import Final, Literal

import psutil

_log: Final = logging.getLogger(__name__)

Level = Literal["normal", "low", "idle"]
_CLASSES: Final = {"low": (psutil.IOPRIO_CLASS_BE, 7), "idle": (psutil.IOPRIO_CLASS_IDLE, None)}


class IoPriority:
    """
    Sets the I/O priority of the thread that uses it, which is the one that makes it.

    Where it cannot be set, as without /proc, it stays as it is, and a line in the log says so, once.

    Args:
        level: For work that has time; `normal` changes nothing.
    """

    def __init__(self, level: Level) -> None:
        self._level: Level = level
        self._id = threading.get_native_id()
        self._usual: tuple[int, int | None] | None = None
        """What it was before it was lowered; None while it is that."""

    def lower(self) -> None:
        """What is read from here on has time."""
        if self._level == "normal" or self._usual is not None:
            return
        try:
            thread = psutil.Process(self._id)
            usual = thread.ionice()
            if usual.ioclass != psutil.IOPRIO_CLASS_IDLE:  # as somebody started it: lower there is not
                thread.ionice(*_CLASSES[self._level])
            takes_value = usual.ioclass in (psutil.IOPRIO_CLASS_BE, psutil.IOPRIO_CLASS_RT)
            self._usual = usual.ioclass, usual.value if takes_value else None
        except (OSError, psutil.Error) as err:
            self._give_up(err)

    def restore(self) -> None:
        """What is read from here on is waited for."""
        if self._usual is None:
            return
        usual, self._usual = self._usual, None
        try:
            psutil.Process(self._id).ionice(*usual)
        except (OSError, psutil.Error) as err:
            self._give_up(err)

    def _give_up(self, err: Exception) -> None:
        _log.warning("the I/O priority cannot be set; it stays as it is level=%s error=%s", self._level, err)
        self._level = "normal"
