"""Look at directories and names by descriptor, and make rows of what is there."""

import errno
import os
import sys
from collections.abc import Sequence
from stat import S_ISDIR, S_ISLNK
from typing import Final

from fustor_event_model import FsRow

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEAST_NS: Final = -(1 << 63)
_MOST_NS: Final = (1 << 63) - 1
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()


def open_directory(root: bytes, path: bytes, *, above: tuple[int, int] | None = None) -> int:
    """
    Open a directory below the root, following no symbolic link below it.

    Step by step, so that a path may be of any length and none of its parts can lead out.

    Args:
        root: The source's root; links in it are followed.
        path: Below the root, with a leading slash; `b"/"` is the root.
        above: Device and inode of the directory in which it must be; None takes any.

    Returns:
        A readable descriptor.

    Raises:
        OSError: ENOENT, ENOTDIR and ELOOP say that the path is not that of such a directory (any more).
    """
    names = [name for name in path.split(b"/") if name]
    if not names:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK)
    parent = _open_step_by_step(root, names[:-1])
    try:
        if above is not None:
            found = os.fstat(parent)
            if (found.st_dev, found.st_ino) != above:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return os.open(names[-1], _DIRECTORY, dir_fd=parent)
    finally:
        os.close(parent)


def stat_directory(root: bytes, path: bytes) -> os.stat_result:
    """
    Look at a directory below the root, which need not be readable.

    Args, Raises: as for `open_directory`.
    """
    names = [name for name in path.split(b"/") if name] or [b"."]
    above = _open_step_by_step(root, names[:-1])
    try:
        status = os.stat(names[-1], dir_fd=above, follow_symlinks=False)
    finally:
        os.close(above)
    if not S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return status


def encode_names(names: Sequence[str]) -> list[bytes]:
    """Return names as the kernel gave them; scandir on a descriptor gives text."""
    return "/".join(names).encode(_ENCODING, _ERRORS).split(b"/") if names else []  # no name holds a slash


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
    mode, inode, device, nlink, uid, gid, size, _, _, _ = status  # faster than by their names
    mtime_ns = status.st_mtime_ns
    if not _LEAST_NS <= mtime_ns <= _MOST_NS:  # some file systems know times beyond the year 2262
        mtime_ns = max(_LEAST_NS, min(mtime_ns, _MOST_NS))
    target = os.readlink(os.fsencode(name), dir_fd=directory_fd) if S_ISLNK(mode) else None
    return FsRow(path, size, mtime_ns, status.st_ctime_ns, mode, uid, gid, device, inode, nlink, target, closed)


def _open_step_by_step(root: bytes, names: list[bytes]) -> int:
    current = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            below = os.open(name, _STEP, dir_fd=current)
            os.close(current)
            current = below
    except BaseException:
        os.close(current)
        raise
    return current
