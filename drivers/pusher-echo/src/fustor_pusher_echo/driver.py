"""The pusher of type `echo`."""

import errno
import os
import secrets
import stat
from collections.abc import Sequence
from typing import Final

import msgspec

from fustor_core.drivers import Batch, Heartbeat, PusherContext, PusherDriver, RefusedRow, Role, Session
from fustor_core.errors import ConfigError, DriverError, SessionLost, Unavailable, Uncertain
from fustor_pusher_echo.config import EchoConfig
from fustor_pusher_echo.lines import encode_lines

STDOUT: Final = 1
SESSION_TIMEOUT_S: Final = 30.0
STDOUT_GENERATION: Final = "stdout"


class EchoPusher(PusherDriver):
    """
    Appends events to a file, or writes them to standard output, one JSON object a line.

    Accepted means handed to the operating system, or on the disk with `fsync`. The file is
    opened for each batch, so that it may be rotated at any time. Nothing remembers which
    batches are in the file, so the session does not claim to commit.

    Args:
        config: An `EchoConfig`.
        context: What the worker provides.
        stdout: Descriptor used when no path is configured.
    """

    Config = EchoConfig
    config: EchoConfig

    def __init__(self, config: EchoConfig, context: PusherContext, *, stdout: int = STDOUT) -> None:
        super().__init__(config, context)
        self._stdout = stdout

    def open_session(self) -> Session:
        """Open a session of its own; it always leads."""
        return Session(
            id=secrets.token_hex(8), role=Role.LEADER, timeout_s=SESSION_TIMEOUT_S, generation=self._generation()
        )

    def resume_session(self, session: Session) -> Session:
        """Go on with a predecessor's session while the file is the one that it wrote to."""
        if session.generation != self._generation():
            raise SessionLost(f"{self._place()} is not what the session {session.id[:8]}… wrote to")
        return session

    def heartbeat(self, session: Session, *, can_realtime: bool) -> Heartbeat:
        """Say that the session leads."""
        return Heartbeat(role=Role.LEADER)

    def close_session(self, session: Session) -> None:
        """End the session; nothing is left to do."""

    def push(self, session: Session, batch: Batch) -> Sequence[RefusedRow]:
        """Write one batch's lines at once."""
        try:
            data = encode_lines(batch.items, self.context.schema)
        except msgspec.DecodeError as err:
            raise DriverError(f"batch of lane {batch.lane.value} holds no {self.context.schema} items: {err}") from err
        if self.config.path is None:
            self._write(self._stdout, data)
            return []
        descriptor = self._open(self.config.path)
        try:
            self._write(descriptor, data)
            if self.config.fsync:
                self._sync(descriptor)
        finally:
            os.close(descriptor)
        return []

    def test_connection(self) -> None:
        """Check that the file can be appended to."""
        if self.config.path is not None:
            os.close(self._open(self.config.path))

    def close(self) -> None:
        """Release nothing: no file is kept open."""

    def _generation(self) -> str:
        if self.config.path is None:
            return STDOUT_GENERATION
        descriptor = self._open(self.config.path)
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return f"{status.st_dev}:{status.st_ino}"

    def _place(self) -> str:
        return "standard output" if self.config.path is None else f'path "{self.config.path}"'

    def _open(self, path: str) -> int:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        except OSError as err:
            if err.errno in (errno.EISDIR, errno.ENOTDIR):
                raise ConfigError(f'path "{path}": {err.strerror}; give the path of a file') from err
            raise Unavailable(f'path "{path}" cannot be opened: {err.strerror}') from err
        # Opening a FIFO must not wait for its reader, writing to it may.
        os.set_blocking(descriptor, True)
        return descriptor

    def _write(self, descriptor: int, data: bytes) -> None:
        """Write all of it; what cannot be written whole is taken back if the file allows."""
        written = 0
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError as err:
            message = f"{self._place()} takes no more: {err.strerror}"
            if written and not _take_back(descriptor, written):
                raise Uncertain(message) from err
            raise Unavailable(message) from err

    def _sync(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as err:
            # Whether the lines reach the disk is unknown from here on (man 2 fsync).
            raise Uncertain(f"{self._place()}: {err.strerror}") from err


def _take_back(descriptor: int, count: int) -> bool:
    """Cut the last bytes off a regular file."""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return False
        os.ftruncate(descriptor, status.st_size - count)
    except OSError:
        return False
    return True
