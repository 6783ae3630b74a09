"""
The log: one file that all processes of a program append to.

Every record is one `write` to a descriptor opened with O_APPEND, so lines of several
processes never mix. Whoever finds the file full rotates it under a lock; the others see
by the inode that their descriptor is not the log any more, and open it again.
"""

import contextlib
import fcntl
import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 10_000_000
KEPT: Final = 5
# POSIX promises no torn writes up to this length, on pipes as well as on files.
_PIPE_BUF: Final = 4096
_CUT: Final = "…".encode()


class AppendHandler(logging.Handler):
    """
    Writes records to a file that other processes write to as well.

    Args:
        path: The log; its directory exists.
        max_bytes: Rotate when it has grown to this size.
        kept: How many old files are kept, as `NAME.1` (newest) and so on.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
        super().__init__()
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._descriptor = self._open()
        self._owner = os.getpid()
        self._is_torn = False
        self._is_failing = False

    def emit(self, record: logging.LogRecord) -> None:
        """
        Write one record; a full disk or a removed folder loses it, but never stops the program.

        Standard error hears of it once, until the log can be written again.
        """
        try:
            data = self.format(record).encode(errors="backslashreplace") + b"\n"
            for chunk in split_record(data):
                self._renew()
                self._write(chunk)
        except OSError as err:
            if not self._is_failing:
                with contextlib.suppress(OSError, ValueError):
                    print(f'"{self._path}" cannot be written: {err.strerror}', file=sys.stderr)
            self._is_failing = True
        else:
            self._is_failing = False

    def _write(self, chunk: bytes) -> None:
        """Write lines, on a line of their own: the disk may have had no room for the end of the last one."""
        if self._is_torn:
            chunk = b"\n" + chunk
        self._is_torn = os.write(self._descriptor, chunk) < len(chunk)

    def reopen(self) -> None:
        """Open the file again, as after someone else rotated it."""
        old = self._descriptor
        self._descriptor = self._open()
        self._redirect_stdio(old)
        os.close(old)

    def close(self) -> None:
        """Close the file."""
        super().close()
        if self._owner == os.getpid():
            os.close(self._descriptor)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self._path, flags, 0o600)

    def _renew(self) -> None:
        """Make sure that the descriptor is the file of this name, and that the file is not full."""
        if self._owner != os.getpid():
            # After a fork the number may have been closed, and given to something else.
            self._descriptor, self._owner = self._open(), os.getpid()
        elif not self._is_current():
            self.reopen()
        if os.fstat(self._descriptor).st_size < self._max_bytes:
            return
        lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have rotated while this one waited.
            if self._is_current():
                self._rotate()
        finally:
            os.close(lock)
        self.reopen()

    def _rotate(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n + 1}") for n in range(self._kept))]
        for younger, older in zip(reversed(names[:-1]), reversed(names[1:]), strict=True):
            with contextlib.suppress(FileNotFoundError):
                os.replace(younger, older)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _redirect_stdio(self, old: int) -> None:
        """In a daemon, standard output and error are the log too, and must move on with it."""
        before = os.fstat(old)
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(descriptor), before):
                    os.dup2(self._descriptor, descriptor)


def split_record(data: bytes) -> list[bytes]:
    """
    Split a record into pieces that can each be written at once.

    Args:
        data: One or more lines, the last one ended.

    Returns:
        Pieces of whole lines, each at most 4096 bytes; a longer line is cut and says so.
    """
    if len(data) <= _PIPE_BUF:
        return [data]
    pieces: list[bytes] = []
    for line in data.splitlines(keepends=True):
        if len(line) > _PIPE_BUF:
            line = line[: _PIPE_BUF - len(_CUT) - 1] + _CUT + b"\n"
        if pieces and len(pieces[-1]) + len(line) <= _PIPE_BUF:
            pieces[-1] += line
        else:
            pieces.append(line)
    return pieces


def configure(
    path: Path, *, process: str, stderr_level: int | None = None, level: int = logging.INFO
) -> AppendHandler:
    """
    Send all logging of this process, and of those forked from it, to the log.

    Args:
        path: The log.
        process: As in `name_process`.
        stderr_level: Lines from this level up go to standard error as well; None is none of them.
        level: The lowest level that is written.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        # Only what an earlier call installed: other handlers belong to whoever runs us.
        if type(handler) in (AppendHandler, logging.StreamHandler):
            root.removeHandler(handler)
            handler.close()
    appender = AppendHandler(path)
    root.addHandler(appender)
    if stderr_level is not None:
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setLevel(stderr_level)
        root.addHandler(terminal)
    root.setLevel(level)
    logging.captureWarnings(True)
    name_process(process)
    return appender


def reopen() -> None:
    """Open the log again, after someone else moved it away."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, AppendHandler):
            handler.reopen()


def name_process(process: str) -> None:
    """
    Change what the lines name as their origin; for a worker right after its fork.

    Args:
        process: The program's name, or the worker's.
    """
    # A "%" in a name would be taken for a field.
    origin = process.replace("%", "%%")
    line = f"%(asctime)s.%(msecs)03dZ %(levelname)-7s {origin}[%(process)d] %(name)s: %(message)s"
    for handler in logging.getLogger().handlers:
        if type(handler) not in (AppendHandler, logging.StreamHandler):
            continue
        # On a terminal the line may stand behind a progress line that has no end yet.
        clear = "\r\x1b[K" if type(handler) is logging.StreamHandler and handler.stream.isatty() else ""
        formatter = logging.Formatter(clear + line, datefmt="%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
