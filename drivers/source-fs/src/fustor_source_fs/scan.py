"""Look at directories and names by descriptor, and make rows of what is there."""

import os
import stat
import sys
from typing import Final

from fustor_event_model import FsRow

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEAST_NS: Final = -(1 << 63)
_MOST_NS: Final = (1 << 63) - 1
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()


def open_directory(root: bytes, path: bytes) -> int:
    """
    Open a directory below the root, following no symbolic link below it.

    Step by step, so that a path may be of any length and none of its parts can lead out.

    Args:
        root: The source's root; links in it are followed.
        path: Below the root, with a leading slash; `b"/"` is the root.

    Returns:
        A readable descriptor.

    Raises:
        OSError: ENOENT, ENOTDIR and ELOOP say that the path is not that of a directory (any more).
    """
    names = [name for name in path.split(b"/") if name]
    if not names:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK)
    current = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names[:-1]:
            below = os.open(name, _STEP, dir_fd=current)
            os.close(current)
            current = below
        return os.open(names[-1], _DIRECTORY, dir_fd=current)
    finally:
        os.close(current)


def encode_name(name: str) -> bytes:
    """Return a name as the kernel gave it; scandir on a descriptor gives text."""
    return name.encode(_ENCODING, _ERRORS)


def make_row(
    path: bytes, status: os.stat_result, directory_fd: int, name: str | bytes, *, closed: bool = True
) -> FsRow:
    """
    Make the row of a name.

    Args:
        path: The row's path, as it stands in the event.
        status: What lstat said.
        directory_fd: The directory, for reading a link.
        name: The name in it.
        closed: False while the file is seen being written.

    Raises:
        OSError: It is a symbolic link no more, or cannot be read.
    """
    mode = status.st_mode
    mtime_ns, ctime_ns = status.st_mtime_ns, status.st_ctime_ns
    if not _LEAST_NS <= mtime_ns <= _MOST_NS:  # some file systems know times beyond the year 2262
        mtime_ns = max(_LEAST_NS, min(mtime_ns, _MOST_NS))
    target = os.readlink(os.fsencode(name), dir_fd=directory_fd) if stat.S_ISLNK(mode) else None
    return FsRow(
        path,
        status.st_size,
        mtime_ns,
        ctime_ns,
        mode,
        status.st_uid,
        status.st_gid,
        status.st_dev,
        status.st_ino,
        status.st_nlink,
        target,
        closed,
    )
