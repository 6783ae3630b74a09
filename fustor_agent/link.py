"""
The messages of a data link, between a pipe's source worker and its pusher worker.

Both sides begin with a hello whenever the supervisor attaches a new link. A batch is
named (epoch, lane, seq): the epoch grows with every link, each lane is a message source
and counts its own batches from 1. Events travel encoded; the pusher need not decode them.
"""

from typing import Final, TypeAlias

import msgspec

from fustor_core.drivers import Command, Differing, Role
from fustor_event_model import MessageSource

LANES: Final = tuple(MessageSource)
"""All lanes, first to last in priority."""


class SourceHello(msgspec.Struct, frozen=True, array_like=True, tag="source_hello"):
    """
    First message of a source.

    Args:
        epoch: As the supervisor named the link.
        schema: Row type of the source.
    """

    epoch: int
    schema: str


class BatchMessage(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    """
    Events and signals of one lane, in order.

    Args:
        lane: Their message source.
        seq: 1, 2, 3 … within epoch and lane.
        rows: How many rows they hold.
        items: What `encode_items` made of them.
        session: The session for which it was made; under another one it must not be delivered.
    """

    lane: MessageSource
    seq: int
    rows: int
    items: msgspec.Raw
    session: str = ""


class BarrierReached(msgspec.Struct, frozen=True, array_like=True, tag="barrier"):
    """
    Everything before the barrier was sent before this message.

    Args:
        token: As in the `Sync` that asked for it.
        error: Why the promise cannot be made; None when it is kept.
    """

    token: str
    error: str | None = None


class AuditBegins(msgspec.Struct, frozen=True, array_like=True, tag="audit_begins"):
    """An audit begins; what it finds is sent after this message, under the same session."""

    session: str


class AuditEnds(msgspec.Struct, frozen=True, array_like=True, tag="audit_ends"):
    """
    An audit is over, and all that it said is settled.

    Args:
        session: Under which it began.
        complete: All was looked at, and the receiver has accepted what was said.
    """

    session: str
    complete: bool


class ScanOver(msgspec.Struct, frozen=True, array_like=True, tag="scan_over"):
    """The receiver has accepted the last word of a scan that it asked for; a source that comes later need not do it."""

    job_id: str


class PusherHello(msgspec.Struct, frozen=True, array_like=True, tag="pusher_hello"):
    """First message of a pusher."""

    epoch: int


class SessionNews(msgspec.Struct, frozen=True, array_like=True, tag="session"):
    """
    The pusher has a session, or its role changed.

    Args:
        id: Names the session; a new name means that the receiver may hold nothing.
        role: What the source owes: a leader a snapshot, a follower only changes.
        audit_interval_s: As the receiver wishes; None keeps the configured value, 0 is never.
        compares: The receiver may hold what there is already, and says where it does not.
        takes_moves: The receiver takes `Moved`.
    """

    id: str
    role: Role
    audit_interval_s: float | None = None
    compares: bool = False
    takes_moves: bool = False


class Ack(msgspec.Struct, frozen=True, array_like=True, tag="ack"):
    """
    The receiver has accepted a batch and all before it on its lane.

    Args:
        epoch: As the batch.
        lane: As the batch.
        seq: As the batch.
        refused: How many of its rows the receiver refused for good.
        differing: Which of its directories the receiver does not hold as `Unchanged` said.
    """

    epoch: int
    lane: MessageSource
    seq: int
    refused: int = 0
    differing: tuple[Differing, ...] = ()


class LookAgain(msgspec.Struct, frozen=True, array_like=True, tag="look_again"):
    """A batch will not be delivered: what it covers must be looked at anew."""

    epoch: int
    lane: MessageSource
    seq: int


class Do(msgspec.Struct, frozen=True, array_like=True, tag="do"):
    """A command for the source, from the receiver."""

    command: Command


Entry: TypeAlias = BatchMessage | BarrierReached | AuditBegins | AuditEnds
"""What the pusher delivers, in the order in which the source sent it."""

FromSource: TypeAlias = SourceHello | Entry | ScanOver
FromPusher: TypeAlias = PusherHello | SessionNews | Ack | LookAgain | Do

_encoder: Final = msgspec.msgpack.Encoder()
_from_source: Final[msgspec.msgpack.Decoder[FromSource]] = msgspec.msgpack.Decoder(FromSource)
_from_pusher: Final[msgspec.msgpack.Decoder[FromPusher]] = msgspec.msgpack.Decoder(FromPusher)


def encode(message: FromSource | FromPusher) -> bytes:
    """Encode a message as one payload."""
    return _encoder.encode(message)


def decode_from_source(payload: bytes) -> FromSource:
    """
    Decode what a source sent.

    Raises:
        msgspec.DecodeError: It is no such message.
    """
    return _from_source.decode(payload)


def decode_from_pusher(payload: bytes) -> FromPusher:
    """
    Decode what a pusher sent.

    Raises:
        msgspec.DecodeError: It is no such message.
    """
    return _from_pusher.decode(payload)
