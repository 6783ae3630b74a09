"""
The file of keys: what each key may do, by the digest of its secret; never a secret.

It is replaced as a whole, under a lock of its own, so that two commands never lose each other's
change and a running server reads all of it or the one before.
"""

import contextlib
import enum
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fustor_core.program.atomic import write_atomically

_ID_BYTES = 4
_SECRET_BYTES = 32


class Role(enum.Enum):
    """What a key may do."""

    AGENT = "agent"
    """Push, and read."""

    READER = "reader"
    """Only read."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One key.

    Args:
        id: Its name, no secret.
        sha256: The digest of its secret, in hexadecimal digits.
        role: What it may do.
        views: The views it is for.
        created_at: UTC, ISO 8601.
        note: For people.
    """

    id: str
    sha256: str
    role: Role
    views: tuple[str, ...]
    created_at: str = ""
    note: str = ""


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in the file."""

    keys: tuple[Key, ...] = ()


class BadKeyFile(Exception):
    """The file is there, but cannot be read or is no key file; nothing is known about its keys."""


class UnknownKey(Exception):
    """No key has this id."""


def digest(secret: bytes) -> str:
    """Return what is kept of a secret; a plain digest will do, since secrets are random and long."""
    return hashlib.sha256(secret).hexdigest()


def read_keys(path: Path) -> tuple[Key, ...]:
    """
    Read the keys; none when there is no such file.

    Raises:
        BadKeyFile: It cannot be read, or is no key file.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Content).keys
    except FileNotFoundError:
        return ()
    except OSError as err:
        raise BadKeyFile(f'"{path}" cannot be read ({err.strerror}); correct its permissions') from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise BadKeyFile(f'"{path}" is no key file ({err}); put back a copy, or delete it and make new keys') from err


def add_key(path: Path, role: Role, views: tuple[str, ...], *, note: str, created_at: str) -> tuple[Key, str]:
    """
    Make a key.

    Returns:
        The key, and its secret, which is kept nowhere.

    Raises:
        BadKeyFile: The file is no key file; nothing is changed.
        OSError: It cannot be written; nothing is changed.
    """
    with _lock(path):
        keys = read_keys(path)
        known = {key.id for key in keys}
        id_ = next(name for name in iter(lambda: secrets.token_hex(_ID_BYTES), "") if name not in known)
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        key = Key(id_, digest(secret.encode()), role, views, created_at, note)
        _write(path, (*keys, key))
    return key, secret


def revoke_key(path: Path, id_: str) -> Key:
    """
    Forget a key, and return it.

    Raises:
        UnknownKey: There is none of this id.
        BadKeyFile, OSError: As for `add_key`.
    """
    with _lock(path):
        keys = read_keys(path)
        for key in keys:
            if key.id == id_:
                _write(path, tuple(other for other in keys if other is not key))
                return key
    raise UnknownKey(id_)


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    write_atomically(path, msgspec.json.format(msgspec.json.encode(_Content(keys)), indent=1) + b"\n")


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
