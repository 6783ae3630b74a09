"""
Tells the service manager how the program stands, in the protocol of systemd but without any of its libraries.

Where no service manager listens, nothing is told.

Source: man 3 sd_notify, man 3 sd_watchdog_enabled.
"""

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

_STATE: Final = "state"
_STATUS: Final = "status"
_WATCHDOG: Final = "watchdog"
_NEVER_US: Final = 2**64 - 1  # USEC_INFINITY
_SHORTEST_S: Final = 0.05  # who asks for less would have the program do nothing else


class Notifier:
    """
    The program's side of the protocol; holds no descriptor between two messages.

    What cannot be sent now, because no descriptor is left or the manager is busy, goes out with
    the next message, unless something newer has taken its place. Nothing here blocks.

    Args:
        environ: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are taken out of it: they are not
            for what the program starts.

    Attributes:
        watchdog_every_s: How often to call `alive`; None when nobody waits for it.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        limit_us, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        # "@" stands for the NUL byte of an address that is no file (man 7 unix).
        self._address = "\0" + path[1:] if path.startswith("@") else path
        is_watched = bool(path) and pid in ("", str(os.getpid()))
        self.watchdog_every_s: Final = _read_period_s(limit_us) if is_watched else None
        self._unsent: dict[str, str] = {}
        self._status = ""
        self._is_stopping = False

    def ready(self) -> None:
        """Tell that the start, or a reload, is over."""
        self._change("READY=1")

    def reloading(self) -> None:
        """Tell that a reload has begun; `ready` ends it."""
        self._change(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that the program ends; what `ready` and `reloading` would say afterwards is not true any more."""
        self._change("STOPPING=1")
        self._is_stopping = True

    def status(self, line: str) -> None:
        """Tell in one line for people how the program stands; the same line again is not told."""
        line = " ".join(line.encode("utf-8", "backslashreplace").decode().split())
        if line != self._status:
            self._status = line
            self._send(_STATUS, f"STATUS={line}")

    def alive(self) -> None:
        """Tell that the program is not stuck; at least every `watchdog_every_s`."""
        self._send(_WATCHDOG, "WATCHDOG=1")

    def _change(self, text: str) -> None:
        if not self._is_stopping:
            self._send(_STATE, text)

    def _send(self, kind: str, text: str) -> None:
        if not self._address:
            return
        self._unsent[kind] = text
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(self._unsent.values()).encode(), self._address)
        except OSError:  # nobody listens, it is busy, or no descriptor is left: told with the next message
            return
        self._unsent.clear()


def _read_period_s(limit_us: str) -> float | None:
    """Return half of a limit in microseconds; None where it is none."""
    if not (limit_us.isascii() and limit_us.isdigit() and len(limit_us) <= len(str(_NEVER_US))):
        return None
    return max(_SHORTEST_S, int(limit_us) / 2e6) if 0 < int(limit_us) < _NEVER_US else None
