"""A service manager's end of the notification socket (man 3 sd_notify)."""

import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from waiting import until


class ServiceManager:
    """
    Listens on a notification socket and keeps what it is told.

    Args:
        path: Where; a leading "@" means an address that is no file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        self.told: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind("\0" + self.path[1:] if self.path.startswith("@") else self.path)

    @property
    def environment(self) -> dict[str, str]:
        """What a service is started with."""
        return {"NOTIFY_SOCKET": self.path}

    def listen(self) -> list[dict[str, str]]:
        """Take in what was said; returns all that was ever said, one mapping for each message."""
        while True:
            try:
                message = self._socket.recv(65536)
            except BlockingIOError:
                return self.told
            self.told.append(dict(line.split("=", 1) for line in message.decode().splitlines()))

    def states(self) -> list[str]:
        """Return the changes of state so far, `READY`, `RELOADING` and `STOPPING`."""
        names = ("READY", "RELOADING", "STOPPING")
        return [name for message in self.listen() for name in names if message.get(name) == "1"]

    def count(self, name: str) -> int:
        """Return how many messages held a name so far."""
        return sum(name in message for message in self.listen())

    def wait_for(self, *states: str) -> None:
        """Wait until these are the changes of state so far."""
        until(lambda: self.states() == list(states), within_s=60, what=f"{states}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()
