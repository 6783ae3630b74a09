"""
Push to a Fusion of this project: batches go as the source encoded them, each is applied once.

A batch that Fusion, or a proxy before it, cannot take whole is cut in halves, down to the row
that is refused. Each part needs a name of its own, between those of the batches before and
after, and the same one when the batch is pushed again: batch n is named n * 2**20, and a part
by where in it it ends.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from fustor_core.drivers import Batch, Differing, NotTaken, RefusedRow
from fustor_core.errors import SessionLost, Unavailable, Uncertain
from fustor_event_model import FsItem, Listed, Moved, Unchanged, decode_fs_items, encode_items
from fustor_event_model.models import EventBase
from fustor_pusher_fusion.answers import explain, read_pushed
from fustor_pusher_fusion.client import MSGPACK, Answer, Channel

NAMES_IN_BATCH: Final = 1 << 20

_encoder = msgspec.msgpack.Encoder()


def encode_batch(batch: Batch) -> bytes:
    """Encode a batch under its own name: the msgpack array `[epoch, lane, seq, items]`, its items as they are."""
    return _encode(batch, batch.seq * NAMES_IN_BATCH, bytes(batch.items))


def push_batch(
    channel: Channel, session_id: str, batch: Batch, *, read_clock: Callable[[], int] | None = None
) -> list[NotTaken]:
    """
    Push one batch; it is committed when this returns.

    Args:
        channel: Where to.
        session_id: The session, fit for a URL.
        batch: The batch.
        read_clock: As in `PusherContext`.

    Raises:
        Unavailable: Push the same again; what was applied is not applied twice.
        Uncertain: It holds a move of a directory that Fusion does not have there; its places must be looked at.
        SessionLost, ConfigError.
    """

    def post(body: bytes) -> Answer:
        # Read for each request: Fusion compares it with its own clock when the request arrives.
        clock = "" if read_clock is None else f"?clock={read_clock()}"
        return _post(channel, f"ingest/{session_id}/batch{clock}", body)

    answer = post(encode_batch(batch))
    if answer.ok:
        return _read_not_taken(answer)
    try:
        items = decode_fs_items(batch.items)
    except msgspec.DecodeError:
        return [RefusedRow(b"", answer.reason)]
    last = batch.seq * NAMES_IN_BATCH
    not_taken: list[NotTaken] = []
    parts = [(items, last - NAMES_IN_BATCH, last)]
    while parts:
        part, after, last = parts.pop()
        # What was refused as a whole already is not tried again.
        if part is not items:
            answer = post(_encode(batch, last, encode_items(part)))
        if answer.ok:
            not_taken += _read_not_taken(answer)
            continue
        halves = _halve(part)
        if halves is None:
            not_taken.append(_leave_out(part, answer.reason))
            continue
        middle = (after + last) // 2
        parts += [(halves[1], middle, last), (halves[0], after, middle)]
    return not_taken


def _encode(batch: Batch, seq: int, items: bytes) -> bytes:
    encode = _encoder.encode
    return b"".join((b"\x94", encode(batch.epoch), encode(batch.lane.value), encode(seq), items))


def _post(channel: Channel, path: str, body: bytes) -> Answer:
    """Post a body; returns a success, or the answer to one that must be cut."""
    answer = channel.call("POST", path, body=body, content_type=MSGPACK, idempotent=True)
    if answer.ok or answer.status in (400, 413, 422):
        return answer
    if answer.status in (404, 419):
        raise SessionLost(f"push: Fusion answers {answer.reason}")
    if answer.status == 412:
        raise Uncertain(f"push: Fusion answers {answer.reason}")
    raise explain(answer, "push")


def _read_not_taken(answer: Answer) -> list[NotTaken]:
    not_taken = read_pushed(answer)
    if not_taken is None:
        raise Unavailable("push: the answer is not Fusion's; check endpoint")
    return not_taken


def _halve(items: Sequence[FsItem]) -> tuple[list[FsItem], list[FsItem]] | None:
    """Cut items, or the rows of a single event, into two halves; None when it is a single row or signal."""
    middle = len(items) // 2
    if middle:
        return list(items[:middle]), list(items[middle:])
    event = items[0] if items else None
    if not isinstance(event, EventBase) or len(event.rows) < 2:
        return None
    middle = len(event.rows) // 2
    first, second = (
        msgspec.structs.replace(event, rows=rows) for rows in (event.rows[:middle], event.rows[middle:])
    )
    return [first], [second]


def _leave_out(items: Sequence[FsItem], reason: str) -> NotTaken:
    """
    Say what a single row or signal is about, as far as it is about a path; what cannot be compared differs.

    Raises:
        Uncertain: It is a move, so all that is below the directory would be left out with it.
    """
    for item in items:
        if isinstance(item, Moved):
            raise Uncertain(f"push: Fusion answers {reason}")
        if isinstance(item, EventBase):
            return RefusedRow(item.prefix + (item.rows[0].path if item.rows else b""), reason)
        if isinstance(item, Listed):
            return RefusedRow(item.path, reason)
        if isinstance(item, Unchanged):
            return Differing(item.position or b"", True)
    return RefusedRow(b"", reason)
