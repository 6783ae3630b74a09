"""Secrets that are made on the first start and kept in a file of their own, which only its owner can read."""

import os
import secrets
from pathlib import Path

from fustor_core.program.errors import ProgramError

_BYTES = 32
_PRIVATE = 0o600


def ensure_secret(path: Path) -> str:
    """
    Read the secret in a file, or make one if there is no such file; what is there is never overwritten.

    Args:
        path: One line; mode 0600.

    Returns:
        The secret, 43 characters of base64url when it is ours.

    Raises:
        ProgramError: The file cannot be read or made, holds no secret, or others may read it.
    """
    try:
        return _create(path)
    except FileExistsError:
        return read_secret(path)
    except OSError as err:
        remedy = "correct the permissions of its folder"
        raise ProgramError(f'"{path}" cannot be written ({err.strerror}); {remedy}') from err


def read_secret(path: Path) -> str:
    """
    Read the secret in a file.

    Raises:
        ProgramError: It cannot be read, holds no secret, or others may read it.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.readline().strip()
    except FileNotFoundError as err:
        raise ProgramError(f'"{path}" is missing; the next start makes it') from err
    except OSError as err:
        raise ProgramError(f'"{path}" cannot be read ({err.strerror}); correct its owner and mode') from err
    if mode & 0o077:
        raise ProgramError(f'"{path}" can be read by others (mode {mode & 0o777:04o}); run `chmod 600` on it')
    if not secret:
        raise ProgramError(f'"{path}" is empty; delete it, the next start makes a new one')
    # It becomes the value of a header (RFC 9110, section 5.5).
    if not all(32 < byte < 127 for byte in secret):
        raise ProgramError(f'"{path}" holds characters that no key has; put only the key there, or delete it')
    return secret.decode("ascii")


def _create(path: Path) -> str:
    # Linked into place: a process that starts at the same time reads all of it, never half.
    secret = secrets.token_urlsafe(_BYTES)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE)
    try:
        os.write(descriptor, secret.encode() + b"\n")
        os.fsync(descriptor)
        os.link(beside, path)
    finally:
        os.close(descriptor)
        os.unlink(beside)
    return secret
