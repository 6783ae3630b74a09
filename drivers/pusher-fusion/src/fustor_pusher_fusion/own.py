"""Push to a Fusion of this project: batches go as the source encoded them, each is applied once."""

import msgspec

from fustor_core.drivers import Batch, RefusedRow
from fustor_core.errors import SessionLost, Unavailable
from fustor_event_model import DeleteEvent, InsertEvent, UpdateEvent, decode_fs_items
from fustor_pusher_fusion.answers import explain, read_pushed
from fustor_pusher_fusion.client import MSGPACK, Channel

_encoder = msgspec.msgpack.Encoder()


def encode_batch(batch: Batch) -> bytes:
    """Join a batch: the msgpack array `[epoch, lane, seq, items]`, its items not encoded again."""
    return b"".join(
        (
            b"\x94",
            _encoder.encode(batch.epoch),
            _encoder.encode(batch.lane.value),
            _encoder.encode(batch.seq),
            bytes(batch.items),
        )
    )


def push_batch(channel: Channel, session_id: str, batch: Batch) -> list[RefusedRow]:
    """
    Push one batch; it is committed when this returns.

    Raises:
        Unavailable: Push the same again; what was applied is not applied twice.
        SessionLost, ConfigError.
    """
    answer = channel.call(
        "POST", f"ingest/{session_id}/batch", body=encode_batch(batch), content_type=MSGPACK, idempotent=True
    )
    if answer.ok:
        refused = read_pushed(answer)
        if refused is None:
            raise Unavailable("push: the answer is not Fusion's; check endpoint")
        return refused
    if answer.status in (404, 419):
        raise SessionLost(f"push: Fusion answers {answer.reason}")
    if answer.status in (400, 413, 422):
        # The sequence number names the whole batch, so it cannot be cut; Fusion names single rows itself.
        return [RefusedRow(path, answer.reason) for path in _names(batch)]
    raise explain(answer, "push")


def _names(batch: Batch) -> list[bytes]:
    """Return the names of all rows, as far as they can be read."""
    try:
        items = decode_fs_items(batch.items)
    except msgspec.DecodeError:
        return [b""]
    events = (item for item in items if isinstance(item, InsertEvent | UpdateEvent | DeleteEvent))
    return [event.prefix + row.path for event in events for row in event.rows]
