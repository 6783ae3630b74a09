"""
Arbitration: what an incoming row, deletion or listing does to what is stored; pure.

The rules, by their names in docs/CONSISTENCY_DESIGN.md:

    higher-index-wins     agents with an index: the higher one wins; equal: the later arrival
    realtime-beats-scans  otherwise: realtime wins; a scan needs a later mtime than a realtime
                          row, and the same or a later one than another agent's scan
    outlived              what an agent said before its session, or without one now, is older than any scan;
                          so is all that came before an audit without an index began
    buried                a row below a tombstone's or a listing's index is dropped
    gone-by-listing       a child with a lower index than the listing is gone
    new-identity          another (device, inode) with a higher index is another directory
    moved                 the one agent that sent a directory saw it at another place: all below it is there
    suspect               seen being written, until it was seen closed, or unchanged for half a minute
    blind-spot            seen by an audit or an on-demand scan only, until realtime says something of it
"""

import enum
import stat
from collections.abc import Collection, Mapping

import msgspec

from fustor_event_model import FsRow, Moved

SUSPECT = 1
PLACEHOLDER = 2
REALTIME = 4
BLIND = 8

HOT_S = 30.0
"""A suspect that was seen with the same size and mtime for so long is written no more."""


class Seen(msgspec.Struct, frozen=True, gc=False):
    """
    How an observation came about.

    Args:
        idx: The time of its index, by Fusion's clock.
        owner: The agent and pipe, as a number.
        realtime: It came on the realtime lane.
        ordered: The index is the agent's own and says when it looked; False when it is
            only the order of arrival.
        blind: It came by an audit or an on-demand scan, of which no change told.
        present: Of each owner that has a session, the time of its highest index before that; None when
            that is not known.
        since: When `ordered` is False, the scan saw it at this time or later; 0 when that is not known.
        peers: The owners that stamp what they see with indices of their own.
        skew_ns: When `ordered` is False, what is to be added to the times of its files to get Fusion's.
    """

    idx: int
    owner: int
    realtime: bool
    ordered: bool
    blind: bool = False
    present: Mapping[int, int] | None = None
    since: int = 0
    skew_ns: int = 0
    peers: Collection[int] = ()


class Stored(msgspec.Struct, frozen=True, gc=False):
    """
    A stored node; the fields are columns of the store.

    Its index is at least the floor of its directory: what that listing had not found is gone.
    """

    name: bytes
    idx: int
    owner: int
    flags: int
    id: int | None
    floor: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int
    device: int
    inode: int
    nlink: int
    target: bytes | None


class Verdict(enum.Enum):
    """What a row does to a node of the same path."""

    DROP = "drop"
    CONFIRM = "confirm"  # the node stays as it is, but was seen to exist
    UPDATE = "update"
    NEW_IDENTITY = "new identity"
    FILE_OVER_DIRECTORY = "file over directory"
    DIRECTORY_OVER_FILE = "directory over file"


def judge_row(stored: Stored, row: FsRow, seen: Seen) -> Verdict:
    """Decide what a row does to the node that is stored at its path."""
    if not _wins(stored, row, seen):
        return Verdict.DROP if is_comparable(stored, seen) or seen.idx <= stored.idx else Verdict.CONFIRM
    was_directory = stored.id is not None
    is_directory = stat.S_ISDIR(row.mode)
    if was_directory != is_directory:
        return Verdict.DIRECTORY_OVER_FILE if is_directory else Verdict.FILE_OVER_DIRECTORY
    if is_directory and is_new_identity(stored, row, seen):
        return Verdict.NEW_IDENTITY
    return Verdict.UPDATE


def is_comparable(stored: Stored, seen: Seen) -> bool:
    """Tell whether the times of what is stored and of what was seen both say when an agent looked."""
    return seen.ordered and (stored.owner == seen.owner or stored.owner in seen.peers)


def _wins(stored: Stored, row: FsRow, seen: Seen) -> bool:
    if stored.flags & PLACEHOLDER or is_comparable(stored, seen):
        return seen.idx >= stored.idx  # higher-index-wins
    if seen.realtime or is_outlived(stored, seen):
        return True  # realtime-beats-scans
    if stored.flags & REALTIME:
        return row.mtime_ns > stored.mtime_ns
    return stored.owner == seen.owner or row.mtime_ns >= stored.mtime_ns  # an agent scans one thing after the other


def is_outlived(stored: Stored, seen: Seen) -> bool:
    """
    Tell whether what is stored is older than what was seen, by how each came about (outlived).

    Its agent said it before its session began, or has none any more; or a scan without an index began later.
    """
    if not seen.realtime and stored.idx < seen.since:
        return True
    if seen.present is None:
        return False
    before = seen.present.get(stored.owner)
    return before is None or stored.idx <= before


def is_new_identity(stored: Stored, row: FsRow, seen: Seen) -> bool:
    """
    Tell whether a directory row means another directory than the stored one (new-identity).

    One of the two may be of an agent that tells no inode: that says nothing of it.
    """
    return (
        not stored.flags & PLACEHOLDER
        and seen.idx > stored.idx
        and bool(row.inode and stored.inode)
        and (row.inode != stored.inode or row.device != stored.device)
    )


def keep_identity(stored: Stored, row: FsRow) -> FsRow:
    """Return a directory's row with the stored inode and device if its agent tells none (new-identity)."""
    if row.inode or not stored.inode:
        return row
    return msgspec.structs.replace(row, inode=stored.inode, device=stored.device)


def is_moved(stored: Stored, item: Moved, seen: Seen) -> bool:
    """Tell whether a stored node is the directory that an agent, which has sent all below it, saw move (moved)."""
    return (
        stored.id is not None
        and not stored.flags & PLACEHOLDER
        and seen.ordered
        and stored.owner == seen.owner
        and stored.idx <= seen.idx
        # The store's numbers are signed, those of the file system are not.
        and (item.device - stored.device) % (1 << 64) == (item.inode - stored.inode) % (1 << 64) == 0
    )


def is_buried(tombstone: int | None, floor: int, row: FsRow, seen: Seen) -> bool:
    """
    Tell whether a row for a name that is not stored must be dropped (buried).

    Args:
        tombstone: Index at which the name was seen to be gone; None when it was not.
        floor: Index of the parent's last listing, which did not name it.
        row: The row.
        seen: How it came about.
    """
    if seen.ordered:
        return seen.idx < max(tombstone or 0, floor)
    if seen.realtime or tombstone is None:
        return False
    return row.mtime_ns + seen.skew_ns <= tombstone


def is_way_buried(tombstone: int | None, floor: int, seen: Seen) -> bool:
    """Tell whether an observation below a name that is not stored must be dropped (buried); as for `is_buried`."""
    if not seen.ordered and not seen.realtime:
        return tombstone is not None and tombstone >= seen.since
    return seen.idx < max(tombstone or 0, floor)


def disproves_file(stored: Stored, seen: Seen) -> bool:
    """Tell whether an observation below a name means that the file stored there is a directory by now."""
    if seen.idx < stored.idx:
        return False
    return is_comparable(stored, seen) or seen.realtime or is_outlived(stored, seen) or not stored.flags & REALTIME


def deletes(stored: Stored, seen: Seen) -> bool:
    """Tell whether an observed absence removes a node."""
    if seen.idx >= stored.idx:
        return True
    if is_comparable(stored, seen) or stored.owner == seen.owner or not seen.realtime:
        return False
    return not stored.flags & REALTIME or is_outlived(stored, seen)


def first_flags(seen: Seen) -> int:
    """Compute the flags of a node that was not stored, from how it was seen (blind-spot)."""
    return REALTIME if seen.realtime else BLIND if seen.blind else 0


def next_blind(stored: Stored | None, row: FsRow, seen: Seen) -> int:
    """Compute whether a node of which a row is taken is a blind spot: `BLIND` or 0 (blind-spot)."""
    if seen.realtime:
        return 0
    known = stored is not None and not stored.flags & PLACEHOLDER
    if stored is None or not known or (stored.size, stored.mtime_ns) != (row.size, row.mtime_ns):
        return BLIND if seen.blind else stored.flags & BLIND if stored is not None else 0
    return stored.flags & BLIND


def is_hot(stored: Stored | None, row: FsRow, seen: Seen) -> bool:
    """Tell whether a row that is taken is of a file that may still be written (suspect)."""
    if stat.S_ISDIR(row.mode):
        return False
    if seen.realtime:
        return not row.is_atomic_write
    return stored is not None and bool(stored.flags & SUSPECT)


def next_flags(stored: Stored | None, row: FsRow, seen: Seen, *, unchanged_s: float = 0.0) -> int:
    """
    Compute the flags of a node from a row that is taken (suspect, blind-spot).

    Args:
        stored: What is there.
        row: What was seen.
        seen: How.
        unchanged_s: For how many seconds a file that may still be written has been seen as it is now.
    """
    flags = REALTIME if seen.realtime else next_blind(stored, row, seen)
    if is_hot(stored, row, seen) and (seen.realtime or unchanged_s < HOT_S):
        flags |= SUSPECT
    return flags
