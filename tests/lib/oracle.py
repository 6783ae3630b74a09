"""
What a tree holds and what a view says, and how the two differ.

Independent of the product on purpose: nothing of it is imported here, and the walk is
the plainest one that survives any depth, any length of path and any name.
"""

import base64
import dataclasses
import fnmatch
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping

DIRECTORY = "directory"
FILE = "file"
SYMLINK = "symlink"
OTHER = "other"

# What a change of its children does to a directory itself.
_MOVED_BY_CHILDREN = frozenset({"size", "mtime_ns", "ctime_ns", "nlink"})


@dataclasses.dataclass(frozen=True)
class Entry:
    """
    One name of a tree, or one row of a view.

    Args:
        type: `file`, `directory`, `symlink` or `other`.
        target: What a symbolic link says; None for everything else.
    """

    type: str
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int
    inode: int
    nlink: int
    target: bytes | None = None


def walk(root: bytes | str, pattern: bytes | str | None = None) -> dict[bytes, Entry]:
    """
    Look at every name below a root.

    One descriptor is open per directory and it goes up by `..`, so neither PATH_MAX nor
    the limit of open files ends the walk. The tree must not change meanwhile.

    Args:
        root: The directory; it is not part of the result.
        pattern: If given, a glob that names of anything but directories must match.

    Returns:
        Entries by their path below the root, with a leading `/`, depth first, names sorted by bytes.

    Raises:
        OSError: Something could not be read.
    """
    wanted = None if pattern is None else os.fsencode(pattern)
    entries: dict[bytes, Entry] = {}
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # For each directory on the way down: its path, its identity, and what of it is still to be looked at.
        way = [(b"", _identity(here), iter(sorted(os.fsencode(name) for name in os.listdir(here))))]
        while way:
            path, _, names = way[-1]
            name = next(names, None)
            if name is None:
                way.pop()
                if way:
                    here = _step(here, b"..")
                    if _identity(here) != way[-1][1]:
                        raise OSError(f"the tree changed during the walk: {path!r} was moved")
                continue
            entry = _look(here, name)
            if entry.type != DIRECTORY and wanted is not None and not fnmatch.fnmatchcase(name, wanted):
                continue
            below = path + b"/" + name
            entries[below] = entry
            if entry.type == DIRECTORY:
                here = _step(here, name)
                way.append((below, _identity(here), iter(sorted(os.fsencode(child) for child in os.listdir(here)))))
    finally:
        os.close(here)
    return entries


def parse_export(lines: Iterable[bytes | str]) -> dict[bytes, Entry]:
    """
    Read the export of a view.

    Returns:
        Entries by path, in the order of the lines.

    Raises:
        ValueError: A path stands there twice, or has no leading `/`, or is the root.
        KeyError: A field is missing.
    """
    view: dict[bytes, Entry] = {}
    for line in lines:
        if not line.strip():
            continue
        row = json.loads(line)
        path = base64.b64decode(row["raw"], validate=True) if row.get("raw") else row["path"].encode()
        if not path.startswith(b"/") or path == b"/":
            raise ValueError(f"not a path below the root: {path!r}")
        if path in view:
            raise ValueError(f"exported twice: {path!r}")
        view[path] = Entry(
            type=row["type"], size=row["size"], mtime_ns=row["mtime_ns"], ctime_ns=row["ctime_ns"], mode=row["mode"],
            uid=row["uid"], gid=row["gid"], inode=row["inode"], nlink=row["nlink"], target=_target(row),
        )
    return view


def differences(
    tree: Mapping[bytes, Entry],
    view: Mapping[bytes, Entry],
    *,
    directory_times: bool = True,
    limit: int = 20,
) -> list[str]:
    """
    Say how a view differs from a tree.

    Args:
        tree: What is true.
        view: What is claimed.
        directory_times: False leaves out what a change of its children does to a directory:
            times, size and link count.
        limit: How many lines at most; a last one says how many more there are.

    Returns:
        One line per difference, sorted by path; empty when there is none.
    """
    found = list(_compare(tree, view, directory_times=directory_times))
    if len(found) > limit:
        return [*found[:limit], f"... and {len(found) - limit} more"]
    return found


def misplaced(view: Mapping[bytes, Entry]) -> list[bytes]:
    """Return the paths that do not stand where an export has them: depth first, names sorted by bytes."""
    expected = sorted(view, key=lambda path: path.split(b"/"))
    return [path for path, right in zip(view, expected, strict=True) if path != right]


def _compare(
    tree: Mapping[bytes, Entry], view: Mapping[bytes, Entry], *, directory_times: bool
) -> Iterator[str]:
    for path in sorted(tree.keys() | view.keys()):
        name = os.fsdecode(path).encode(errors="backslashreplace").decode()
        if path not in view:
            yield f"{name}: missing in the view (a {tree[path].type})"
        elif path not in tree:
            yield f"{name}: only in the view (a {view[path].type})"
        else:
            true, claimed = dataclasses.asdict(tree[path]), dataclasses.asdict(view[path])
            leave_out = frozenset[str]()
            if true["type"] == DIRECTORY and not directory_times:
                leave_out = _MOVED_BY_CHILDREN
            parts = [
                f"{field} is {claimed[field]!r}, should be {true[field]!r}"
                for field in true
                if field not in leave_out and claimed[field] != true[field]
            ]
            if parts:
                yield f"{name}: " + ", ".join(parts)


def _look(directory: int, name: bytes) -> Entry:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    kind = (
        DIRECTORY if stat.S_ISDIR(found.st_mode)
        else FILE if stat.S_ISREG(found.st_mode)
        else SYMLINK if stat.S_ISLNK(found.st_mode)
        else OTHER
    )
    return Entry(
        type=kind, size=found.st_size, mtime_ns=found.st_mtime_ns, ctime_ns=found.st_ctime_ns, mode=found.st_mode,
        uid=found.st_uid, gid=found.st_gid, inode=found.st_ino, nlink=found.st_nlink,
        target=os.readlink(name, dir_fd=directory) if kind == SYMLINK else None,
    )


def _identity(directory: int) -> tuple[int, int]:
    found = os.fstat(directory)
    return found.st_dev, found.st_ino


def _step(here: int, name: bytes) -> int:
    there = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    os.close(here)
    return there


def _target(row: Mapping[str, str]) -> bytes | None:
    if row.get("target_raw"):
        return base64.b64decode(row["target_raw"], validate=True)
    return row["target"].encode() if row.get("target") is not None else None
