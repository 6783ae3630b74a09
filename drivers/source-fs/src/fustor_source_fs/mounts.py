"""Mount points below a root: mounting causes no inotify event, so they are compared."""

import os
import re
from typing import Final

MOUNTINFO: Final = "/proc/self/mountinfo"
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
SILENT: Final = frozenset(
    b"nfs nfs4 cifs smb3 smbfs 9p afs ceph coda beegfs gfs2 gpfs lustre ocfs2 orangefs panfs virtiofs vboxsf fuse"
    b" proc sysfs cgroup cgroup2 debugfs tracefs devpts securityfs configfs pstore bpf"
    b" binfmt_misc efivarfs mqueue nfsd rpc_pipefs".split()
)
"""File systems on which others change things without a record here: of networks, and of the kernel itself."""


class Mounts:
    """
    What is mounted at and below a root.

    Args:
        root: The root; symbolic links in it are followed.
    """

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._known: dict[bytes, bytes] = {}
        self.silent_devices: frozenset[int] = frozenset()
        """Devices of mounted file systems whose files others change without a record."""
        self.compare()

    def compare(self) -> list[bytes]:
        """Read what is mounted; returns the paths below the root at which that has changed."""
        try:
            with open(MOUNTINFO, "rb") as file:
                mountinfo = file.read()
        except FileNotFoundError:  # no /proc: nothing is watched either, and all is looked at
            mountinfo = b""
        before, self._known = self._known, parse_mounts(mountinfo, os.path.realpath(self._root))
        self.silent_devices = find_silent(mountinfo)
        return find_changed(before, self._known)


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


def find_silent(mountinfo: bytes) -> frozenset[int]:
    """Return the devices of mounted file systems that are silent by their type, as stat(2) names devices."""
    silent: set[int] = set()
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(b" - ")
        kind = rest.split(b" ")[0]
        if kind in SILENT or kind.startswith(b"fuse."):
            major, _, minor = fields.split(b" ")[2].partition(b":")
            silent.add(os.makedev(int(major), int(minor)))
    return frozenset(silent)


def find_changed(before: dict[bytes, bytes], after: dict[bytes, bytes]) -> list[bytes]:
    """Return the paths at which something was mounted, unmounted or mounted anew."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
