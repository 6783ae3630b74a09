"""Paths of a view: bytes inside, text with an escape for bad bytes outside; pure."""

import base64
import binascii
import posixpath

ROOT = b"/"
_MISPLACED = frozenset((b"", b".", b".."))


class BadPath(ValueError):
    """A path that no tree can hold; the message says why."""


def split_path(path: bytes) -> list[bytes]:
    """
    Split an absolute path below the root into its names.

    Args:
        path: Begins with a slash; `b"/"` is the root. One slash at the end is ignored.

    Returns:
        The names, top first; empty for the root.

    Raises:
        BadPath: Not absolute, or it holds an empty name, `.`, `..` or a NUL.
    """
    if path == ROOT:
        return []
    if not path.startswith(b"/"):
        raise BadPath("the path does not begin with /")
    inner = path[1:-1] if path.endswith(b"/") else path[1:]
    names = inner.split(b"/")
    if b"\0" in inner or not _MISPLACED.isdisjoint(names):
        raise BadPath("the path holds an empty name, '.', '..' or a NUL")
    if max(map(len, names)) > 255 * 4:
        raise BadPath("a name is longer than any file system allows")
    return names


def are_plain_names(names: list[bytes]) -> bool:
    """Tell whether these are different names of entries of one directory, nothing else."""
    joined = b"/%b/" % b"/".join(names)
    return (
        joined.count(b"/") == len(names) + 1
        and b"\0" not in joined
        and b"//" not in joined
        and b"/./" not in joined
        and b"/../" not in joined
        and len(joined) < 255 * (len(names) + 3)
        and len(set(names)) == len(names)
    )


def normalise_text(path: str) -> bytes:
    """
    Normalise a path as a person or a public agent writes it.

    Raises:
        BadPath: Empty, or not representable.
    """
    if not path:
        raise BadPath("the path is empty")
    try:
        data = path.encode()
    except UnicodeEncodeError as err:
        raise BadPath(f"the path holds a lone surrogate at {err.start}") from err
    if b"\0" in data:
        raise BadPath("the path holds a NUL")
    return b"/" + posixpath.normpath(b"/" + data).lstrip(b"/")


def to_text(data: bytes) -> tuple[str, str | None]:
    """
    Give bytes as text.

    Returns:
        The text, bad bytes as U+FFFD, and None; or with bad bytes, also their exact base64.
    """
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return data.decode(errors="replace"), base64.b64encode(data).decode("ascii")


def encode_raw(data: bytes) -> str:
    """Give bytes as they stand in `raw=` parameters: base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_raw(text: str) -> bytes:
    """
    Read a `raw=` parameter.

    Raises:
        BadPath: Not base64.
    """
    try:
        data = text.encode("ascii").replace(b"+", b"-").replace(b"/", b"_")
        return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as err:
        raise BadPath("raw is not base64url") from err
