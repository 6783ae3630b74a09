"""Removing what is gone: nodes and subtrees, as far as no later observation says otherwise."""

from fustor_fusion.rules import PLACEHOLDER
from fustor_fusion.totals import LOW
from fustor_fusion.tree import Tree


def clear_subtree(tree: Tree, directory_id: int, floor: int, limit: int) -> bool:
    """
    Remove everything below a directory that was last seen at or before an index.

    A node that was seen later survives; so do the directories on the way to it, as
    placeholders if they themselves were not seen later. A tombstone or a listing above the
    limit proves just as much. Collected writes must have been flushed.

    Args:
        tree: The nodes.
        directory_id: The top; itself left alone.
        floor: Its floor.
        limit: The index.

    Returns:
        True when something below survived.
    """
    tree.changes.list(directory_id)
    return _clear(tree, directory_id, floor, limit)


def _clear(tree: Tree, directory_id: int, floor: int, limit: int, *, by_file: bool = False) -> bool:
    order = [(directory_id, floor)]
    for current, _ in order:  # grows while it runs: parents before children
        order += tree.execute("SELECT id, ifnull(floor, 0) FROM nodes WHERE parent=? AND id IS NOT NULL", (current,))
    survivors: set[int] = set()
    for current, floor in reversed(order):
        if _clear_directory(tree, current, floor, limit, survivors, by_file=by_file):
            survivors.add(current)
    tree.removals += 1
    return directory_id in survivors


def _clear_directory(
    tree: Tree, current: int, seen: int, limit: int, survivors: set[int], *, by_file: bool
) -> bool:
    """Remove the children of one directory, its floor being `seen`, after theirs; tell whether it must stay."""
    tree.execute("DELETE FROM tombstones WHERE parent=? AND idx<=?", (current, limit))
    # What is missing later is below a file too.
    stays = not by_file and bool(tree.execute("SELECT 1 FROM tombstones WHERE parent=? LIMIT 1", (current,)).fetchall())
    for name, id_, idx, floor, flags in tree.execute(
        "SELECT name, id, idx, ifnull(floor, 0), flags FROM nodes WHERE parent=? AND id IS NOT NULL", (current,)
    ).fetchall():
        tree.uncache(current, name)
        if max(idx, seen, floor) > limit or id_ in survivors:
            stays = True
            _keep_directory(tree, current, name, max(idx, seen), limit, flags)
        else:
            _drop_directory_row(tree, current, name, id_, flags)
    if seen <= limit:
        _drop_files(tree, current, limit)
    return stays or bool(tree.execute("SELECT 1 FROM nodes WHERE parent=? LIMIT 1", (current,)).fetchall())


def _drop_files(tree: Tree, current: int, limit: int) -> None:
    (count, high, low, links), = tree.execute(
        f"SELECT count(*), ifnull(sum(size >> 32), 0), ifnull(sum(size & {LOW}), 0), ifnull(max(nlink), 0)"
        " FROM nodes WHERE parent=? AND id IS NULL AND idx<=?", (current, limit))
    if links > 1:
        for inode, device in tree.execute(
            "SELECT inode, device FROM nodes WHERE parent=? AND id IS NULL AND idx<=? AND nlink>1", (current, limit)
        ).fetchall():
            tree.note_unlinked(inode, device, limit)
    if count:
        tree.execute("DELETE FROM nodes WHERE parent=? AND id IS NULL AND idx<=?", (current, limit))
        tree.totals.add(current, files=-count, size=-((high << 32) + low))


def _keep_directory(tree: Tree, parent: int, name: bytes, idx: int, limit: int, flags: int) -> None:
    if idx > limit:
        tree.execute("UPDATE nodes SET floor=max(floor, ?) WHERE parent=? AND name=?", (limit, parent, name))
    else:
        make_placeholder(tree, parent, name, limit, flags)


def make_placeholder(tree: Tree, parent: int, name: bytes, limit: int, flags: int) -> None:
    """Keep a directory only as the way to what is below it; it was gone at the limit."""
    tree.execute(
        "UPDATE nodes SET idx=?1, floor=max(floor, ?1), flags=?2, size=0, mtime_ns=0, ctime_ns=0, mode=16384,"
        " uid=0, gid=0, device=0, inode=0, nlink=1, target=NULL WHERE parent=?3 AND name=?4",
        (limit, PLACEHOLDER, parent, name),
    )
    tree.uncache(parent, name)
    if not flags & PLACEHOLDER:
        tree.totals.add(parent, directories=-1)


def _drop_directory_row(tree: Tree, parent: int, name: bytes, id_: int, flags: int) -> None:
    tree.execute("DELETE FROM nodes WHERE parent=? AND name=?", (parent, name))
    tree.execute("DELETE FROM tombstones WHERE parent=?", (id_,))
    tree.uncache(parent, name)
    tree.totals.drop(id_)
    if not flags & PLACEHOLDER:
        tree.totals.add(parent, directories=-1)


def remove_node(
    tree: Tree, parent: int, name: bytes, *, id_: int | None, floor: int, flags: int, size: int, limit: int,
    by_file: bool = False,
) -> bool:
    """
    Remove one node, and below a directory all that was last seen at or before the limit.

    Args:
        tree: The nodes.
        parent, name, id_, floor, flags, size: The node.
        limit: The index.
        by_file: A file was seen at its place.

    Returns:
        False when it stays as a placeholder, because something below it was seen later.
    """
    if id_ is None:
        (inode, device, links), = tree.execute(
            "DELETE FROM nodes WHERE parent=? AND name=? RETURNING inode, device, nlink", (parent, name)).fetchall()
        if links > 1:
            tree.note_unlinked(inode, device, limit)
        tree.totals.add(parent, files=-1, size=-size)
        tree.changes.remove(parent, name)
        return True
    tree.changes.remove(parent, name)
    if _clear(tree, id_, floor, limit, by_file=by_file) or floor > limit:
        make_placeholder(tree, parent, name, limit, flags)
        tree.changes.list(id_)
        return False
    _drop_directory_row(tree, parent, name, id_, flags)
    return True


def purge(tree: Tree, owner: int, limit: int) -> int:
    """
    Forget the tombstones of one owner below an index, and placeholders that lead nowhere.

    Returns:
        How many tombstones were forgotten.
    """
    tree.execute("DELETE FROM tombstones WHERE owner=? AND idx<?", (owner, limit))
    purged = int(tree.db.changes())
    for parent, name, id_ in tree.execute(
        "SELECT parent, name, id FROM nodes AS n WHERE flags & 3 AND flags & 2 AND idx < ?1 AND floor < ?1"
        " AND parent > 0 AND NOT EXISTS (SELECT 1 FROM nodes WHERE parent = n.id)"
        " AND NOT EXISTS (SELECT 1 FROM tombstones WHERE parent = n.id)", (limit,)
    ).fetchall():
        _drop_directory_row(tree, parent, name, id_, PLACEHOLDER)
    return purged
