"""Moving a directory from one place to another with all below it, as the one agent says that sent all of it."""

from collections.abc import Sequence

from fustor_event_model import Moved
from fustor_fusion.errors import RequestRefused
from fustor_fusion.paths import BadPath, split_path
from fustor_fusion.removal import remove_node
from fustor_fusion.rules import PLACEHOLDER, Seen, is_moved
from fustor_fusion.schema import ROOT_ID
from fustor_fusion.tree import Directory, Tree

_MAX_INDEX = (1 << 63) - 1


def move_directory(tree: Tree, item: Moved, seen: Seen) -> tuple[Directory, bytes]:
    """
    Move a directory; collected writes must have been flushed.

    What is at the new place, and was not seen later, goes.

    Returns:
        The directory in which it is now, and its name there.

    Raises:
        RequestRefused: 412 it cannot be; some of it may be done, roll back.
    """
    try:
        before, after = split_path(item.before), split_path(item.path)
    except BadPath as err:
        raise refuse(item, str(err)) from err
    shared = min(len(before), len(after))
    if not 0 <= item.index <= _MAX_INDEX or not shared or before[:shared] == after[:shared]:
        raise refuse(item, "no directory can be moved so")  # not into itself, nor over one that it is in
    above, parent = _find(tree, before[:-1]), _find(tree, after[:-1])
    if above is None or parent is None or (parent.flags & PLACEHOLDER and parent.id != ROOT_ID):
        raise refuse(item, "one of the two directories in which it was and is, is not known")
    directory, stored = tree.get_directory(above.id, before[-1]), tree.find_one(above, before[-1])
    if directory is None or stored is None or not is_moved(stored, item, seen):
        raise refuse(item, "another directory, or none, is stored there")
    there = tree.find_one(parent, after[-1])
    if there is not None and (there.idx > seen.idx or not remove_node(
            tree, parent.id, there.name, id_=there.id, floor=there.floor, flags=there.flags, size=there.size,
            limit=seen.idx)):
        raise refuse(item, "something else was seen at the new place later")
    tree.clear_tombstone(parent, after[-1])
    tree.move(directory, parent, after[-1], seen)
    return parent, after[-1]


def refuse(item: Moved, reason: str) -> RequestRefused:
    """Make the answer to a move that cannot be made: the agent lists the directory instead."""
    return RequestRefused(412, f"{item.before!r:.200} cannot be moved to {item.path!r:.200}: {reason}")


def _find(tree: Tree, names: Sequence[bytes]) -> Directory | None:
    directory: Directory | None = tree.get_root()
    for name in names:
        directory = tree.get_directory(directory.id, name) if directory is not None else None
    return directory
