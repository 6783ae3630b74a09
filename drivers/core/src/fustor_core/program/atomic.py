"""Write a file so that readers see all of it or none of it."""

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """
    Replace a file: written beside its target, fsynced and renamed.

    Args:
        path: The file; its directory exists.
        data: The whole content.
        mode: Permissions of the new file.

    Raises:
        OSError: Names the file. Nothing was replaced; no temporary file is left.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        try:
            os.fchmod(descriptor, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, path)
    except OSError as err:
        beside.unlink(missing_ok=True)
        # A failed write names no file by itself.
        raise OSError(err.errno, err.strerror, str(path)) from err
