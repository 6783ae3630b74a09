"""Row types, one group per schema."""

import stat
from typing import Final

import msgspec

FS_SCHEMA: Final = "fs"
FS_TABLE: Final = "files"


class FsPath(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    The key of an `fs` row, as it stands in a `DeleteEvent`.

    Args:
        path: Bytes that, behind the event's prefix, give the path below the root.
    """

    path: bytes


class FsRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    One name of a file tree, with what one `lstat` tells about it.

    Args:
        path: Bytes that, behind the event's prefix, give the path below the root.
        size: `st_size`, bytes.
        mtime_ns: Last change of the content, nanoseconds since the epoch; may be negative.
        ctime_ns: Last change of the inode, nanoseconds since the epoch.
        mode: `st_mode`, type and permission bits.
        uid: Owner.
        gid: Group.
        device: `st_dev`.
        inode: `st_ino`.
        nlink: Number of names of the inode.
        target: What a symbolic link says, unresolved; None for everything else.
        is_atomic_write: False when the file was seen being written and not closed yet.
        parent_mtime_ns: Audit rows only: the parent directory's mtime at the listing.
        audit_skipped: Audit rows of directories only: unchanged, its files were not listed.
    """

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int
    device: int
    inode: int
    nlink: int
    target: bytes | None = None
    is_atomic_write: bool = True
    parent_mtime_ns: int | None = None
    audit_skipped: bool = False

    @property
    def is_directory(self) -> bool:
        """Tell whether the row is a directory."""
        return stat.S_ISDIR(self.mode)
