"""Mount points below a root: mounting causes no inotify event, so they are compared."""

import re
from typing import Final

MOUNTINFO: Final = "/proc/self/mountinfo"
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


def parse_mounts(mountinfo: bytes, root: bytes) -> dict[bytes, bytes]:
    """
    Find what is mounted below a root.

    Args:
        mountinfo: Content of /proc/self/mountinfo (man 5 proc_pid_mountinfo).
        root: Absolute path without symbolic links.

    Returns:
        Path below the root, with a leading slash, to what identifies the mount.
    """
    prefix = b"/" if root == b"/" else root + b"/"
    found: dict[bytes, bytes] = {}
    for line in mountinfo.splitlines():
        fields = line.split(b" ")
        point = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), fields[4])
        if point.startswith(prefix) and point != root:
            found[b"/" + point[len(prefix) :]] = b" ".join((fields[0], fields[2], fields[3]))
    return found


def find_changed(before: dict[bytes, bytes], after: dict[bytes, bytes]) -> list[bytes]:
    """Return the paths at which something was mounted, unmounted or mounted anew."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
