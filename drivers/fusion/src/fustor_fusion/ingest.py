"""Pieces of work for the writing thread: what a pushed body does."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec

from fustor_event_model import (
    FS_SCHEMA,
    FS_TABLE,
    FsItem,
    FsRow,
    MessageSource,
    Unchanged,
    UpdateEvent,
    decode_fs_items,
)
from fustor_fusion.arbiter import MAX_INDEX, Applied
from fustor_fusion.comparison import Differing
from fustor_fusion.errors import RequestRefused
from fustor_fusion.paths import BadPath, normalise_text, split_path
from fustor_fusion.positions import NEWEST, Owner
from fustor_fusion.protocol import SentinelUpdate
from fustor_fusion.rules import SUSPECT
from fustor_fusion.store import Writer
from fustor_fusion.times import to_ns

_Positive = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class PushBody(msgspec.Struct, frozen=True, array_like=True):
    """The body of a push of our own protocol; see docs/protocol.md."""

    epoch: _Positive
    lane: Literal["realtime", "on_demand_job", "sentinel", "snapshot", "audit"]
    seq: _Positive
    items: msgspec.Raw


LEADERS_LANES = frozenset(("snapshot", "audit"))
"""What speaks for the whole tree."""

_FLOAT_NS = 1_000
"""As near as floats of seconds are to each other that were made of one time in different ways."""

Present = Sequence[tuple[str, str, int]]

_push_decoder = msgspec.msgpack.Decoder(PushBody)


def peek_priority(body: bytes) -> int:
    """Return the priority of a push from its first bytes, without decoding it: realtime goes first."""
    return 0 if b"realtime" in body[:32] else 1


def note_clock(writer: Writer, _: bool, *, agent: str, pipe: str, clock: int, arrived: int) -> None:
    """Compare the clock of an agent that begins a session with Fusion's, before it says anything by it."""
    owner = writer.positions.get_owner(agent, pipe)
    owner.timeline.begin()
    writer.positions.compare(owner, clock=clock, arrived=arrived, first=clock)


def apply_push(writer: Writer, careful: bool, *, body: bytes, agent: str, pipe: str, session_id: str, leads: bool,
               present: Present | None = None, clock: int = 0, arrived: int = 0) -> Applied:
    """
    Apply one batch of our own protocol, once.

    Args:
        writer: The writing thread's.
        careful: As in `Arbiter.apply`.
        body: As it came.
        agent: The agent.
        pipe: Its pipe.
        session_id: The session that pushes.
        leads: The session is the leader.
        present: Of every session of the view its agent, its pipe, and the highest time of what they
            had sent before; None when that is not known.
        clock: What the agent's index clock said when it sent this; 0 when it did not say.
        arrived: What Fusion's clock said when it arrived; 0 when that is not known.

    Raises:
        RequestRefused: 422 the body is malformed; 409 its epoch is over, or it is not a follower's to push;
            412 a directory cannot be moved as it says.
        OverflowError: Call again, carefully.
    """
    try:
        push = _push_decoder.decode(body)
        items = decode_fs_items(push.items)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise RequestRefused(422, f"malformed batch: {err}") from err
    if not leads and push.lane in LEADERS_LANES:
        raise RequestRefused(409, f"this session follows; only the leader may push on the lane {push.lane}")
    owner = writer.positions.get_owner(agent, pipe)
    if not writer.positions.advance(owner, epoch=push.epoch, lane=push.lane, seq=push.seq):
        # The verdicts went with an answer that was lost: what was said to be unchanged is to be sent whole.
        return Applied(differing=[Differing(item.position or b"", True) for item in items
                                  if isinstance(item, Unchanged)])

    timeline = owner.timeline
    newest = min(max((item.index for item in items), default=0), MAX_INDEX)
    if clock or 0 < arrived < newest:  # nothing is seen after it was sent
        first = min((item.index for item in items), default=clock)
        writer.positions.compare(owner, clock=max(clock, newest), arrived=arrived, first=first)

    def takes_moves() -> bool:
        if not leads or present is None or len(present) > 1:
            return False  # what others saw below it may still come, under its old path
        (done,), = writer.db.execute("SELECT ifnull(max(snapshot_done), 0) FROM sessions WHERE id=?", (session_id,))
        return bool(done)

    applied = writer.arbiter.apply(items, owner=owner.id, careful=careful, present=_number(writer, present),
                                   takes_moves=takes_moves, place=timeline.place, peers=writer.positions.peers)
    writer.positions.note_index(owner, newest or timeline.newest)
    placed = min(timeline.place(newest), MAX_INDEX) if items else 0
    _finish(writer, owner, placed, applied, session_id=session_id, leads=leads)
    applied.realtime_at = placed if push.lane == "realtime" else 0
    return applied


def apply_public(writer: Writer, careful: bool, *, items: Callable[[Callable[[], int]], list[FsItem]], agent: str,
                 pipe: str, session_id: str, leads: bool, present: Present | None = None, since: int = 0) -> Applied:
    """
    Apply items of an agent without an index of its own; the order of arrival is their index.

    Args:
        writer: The writing thread's.
        careful: As in `Arbiter.apply`.
        items: Makes the items, given a clock that stamps each.
        agent: The agent.
        pipe: Its pipe.
        session_id: The session that pushes.
        leads: The session is the leader.
        present: As in `apply_push`.
        since: As in `Seen`.
    """
    owner = writer.positions.get_owner(agent, pipe)

    made = items(writer.arrivals.stamp)
    for item in made:
        if isinstance(item, UpdateEvent) and item.message_source is MessageSource.REALTIME:
            for row in item.rows:
                owner.skew.note(item.index - row.mtime_ns)
    owner.skew.settle()
    writer.positions.note_index(owner, 0)
    applied = writer.arbiter.apply(made, owner=owner.id, ordered=False, careful=careful,
                                   present=_number(writer, present), since=since, skew_ns=owner.skew.ns)
    _finish(writer, owner, max((item.index for item in made), default=0), applied, session_id=session_id, leads=leads)
    return applied


def _number(writer: Writer, present: Present | None) -> dict[int, int] | None:
    if present is None:
        return None
    numbered: dict[int, int] = {}
    for agent, pipe, before in present:
        id_ = writer.positions.get_owner(agent, pipe).id
        numbered[id_] = min(before, numbered.get(id_, before))
    return numbered


def apply_feedback(writer: Writer, careful: bool, *, updates: list[SentinelUpdate]) -> int:
    """
    Take what public agents found at suspects, each as a look of the one who saw the file last.

    Returns:
        How many of the files are suspects.
    """
    taken = 0
    for update in updates:
        try:
            way = split_path(normalise_text(update.path))
            mtime_ns = to_ns(update.mtime)
        except (BadPath, ValueError, OverflowError):
            continue
        stored = writer.arbiter.find_file(way)
        if stored is None or not stored.flags & SUSPECT:
            continue
        if abs(stored.mtime_ns - mtime_ns) < _FLOAT_NS:
            mtime_ns = stored.mtime_ns
        row = FsRow(
            b"/" + b"/".join(way), stored.size if update.size is None else update.size, mtime_ns, stored.ctime_ns,
            stored.mode, stored.uid, stored.gid, stored.device, stored.inode, stored.nlink, stored.target)
        event = UpdateEvent(index=stored.idx, message_source=MessageSource.SENTINEL, event_schema=FS_SCHEMA,
                            table=FS_TABLE, rows=[row])
        writer.arbiter.apply([event], owner=stored.owner, careful=careful)
        taken += 1
    return taken


def _finish(writer: Writer, owner: Owner, newest: int, applied: Applied, *, session_id: str, leads: bool) -> None:
    """Note what was applied, up to the highest time of it, 0 without items."""
    writer.rows_applied += applied.rows
    if newest > owner.newest:
        owner.newest = newest
        owner.changed.add(NEWEST)
    if applied.snapshot_complete:
        applied.snapshot_complete = leads
        if leads:
            writer.db.execute("UPDATE sessions SET snapshot_done=1 WHERE id=?", (session_id,))
