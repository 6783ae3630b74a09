"""
What travels over a control link.

Every message is a frozen, tagged Struct in msgpack, `[tag, field, field, ...]`. Fields
are only ever added at the end, with a default. What a worker sends carries its
generation; the supervisor drops what another generation sent.
"""

from typing import TypeAlias

import msgspec

from fustor_supervisor.channel import encode_frame

MAX_CONTROL_FRAME_BYTES = 4 * 1024 * 1024


class Message(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Base of all control messages."""


# -- supervisor to worker ----------------------------------------------------------------


class Attach(Message, frozen=True, array_like=True, tag="attach", kw_only=True):
    """A new end of a data link; its descriptor travels in the same sendmsg."""

    link: str
    epoch: int


class Ping(Message, frozen=True, array_like=True, tag="ping", kw_only=True):
    """Asks for a Pong with the same number."""

    n: int


class Command(Message, frozen=True, array_like=True, tag="command", kw_only=True):
    """Asks the worker to do something; it owes a Reply with the same id."""

    id: int
    action: str
    target: str = ""


class Status(Message, frozen=True, array_like=True, tag="status", kw_only=True):
    """The published status, as rendered by the program."""

    snapshot: bytes


class DumpStacks(Message, frozen=True, array_like=True, tag="dump_stacks", kw_only=True):
    """Asks for the stacks of all threads on standard error."""


class Stop(Message, frozen=True, array_like=True, tag="stop", kw_only=True):
    """Asks the worker to end; SIGKILL follows after `grace_s`."""

    grace_s: float


class Answer(Message, frozen=True, array_like=True, tag="answer", kw_only=True):
    """Answers a worker's Request."""

    id: int
    result: str
    ok: bool = True


# -- worker to supervisor ----------------------------------------------------------------


class FromWorker(Message, frozen=True, array_like=True, kw_only=True):
    """Base of what a worker sends."""

    generation: int


class Ready(FromWorker, frozen=True, array_like=True, tag="ready", kw_only=True):
    """The worker does its work now."""


class Progress(FromWorker, frozen=True, array_like=True, tag="progress", kw_only=True):
    """
    How far the worker is.

    `owed` says that it has work which it should be doing, `patience_s` for how long that may rightly
    show no movement, if this is longer than the limits say.
    """

    counters: dict[str, int]
    phase: str = ""
    detail: bytes = b""
    owed: bool = False
    patience_s: float = 0.0


class Pong(FromWorker, frozen=True, array_like=True, tag="pong", kw_only=True):
    """Answers a Ping; its progress is inside."""

    n: int
    progress: Progress


class Reply(FromWorker, frozen=True, array_like=True, tag="reply", kw_only=True):
    """Answers a Command; also what `Runtime.request` makes of the supervisor's Answer."""

    id: int
    result: str
    ok: bool = True


class Request(FromWorker, frozen=True, array_like=True, tag="request", kw_only=True):
    """Asks the supervisor's program to do something. `worker` is filled in on arrival."""

    id: int
    action: str
    target: str = ""
    worker: str = ""


class Failed(FromWorker, frozen=True, array_like=True, tag="failed", kw_only=True):
    """Says why the worker is about to exit."""

    error: str
    permanent: bool = False


ToWorkerMessage: TypeAlias = Attach | Ping | Command | Status | DumpStacks | Stop | Answer
FromWorkerMessage: TypeAlias = Ready | Progress | Pong | Reply | Request | Failed

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorkerMessage] = msgspec.msgpack.Decoder(ToWorkerMessage)
_from_worker: msgspec.msgpack.Decoder[FromWorkerMessage] = msgspec.msgpack.Decoder(FromWorkerMessage)


def encode(message: ToWorkerMessage | FromWorkerMessage) -> bytes:
    """Encode a message as a payload, without its frame; text that quotes bytes which are no UTF-8 has them escaped."""
    try:
        return _encoder.encode(message)
    except UnicodeEncodeError:
        return _encoder.encode(_make_encodable(message))


def encode_framed(message: ToWorkerMessage | FromWorkerMessage) -> bytes:
    """Encode a message as one whole frame."""
    return encode_frame(encode(message))


def _make_encodable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Message):
        fields = {name: _make_encodable(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **fields)
    return value


def decode_to_worker(payload: bytes) -> ToWorkerMessage:
    """
    Decode what the supervisor sent.

    Raises:
        msgspec.DecodeError: The payload is no such message.
    """
    return _to_worker.decode(payload)


def decode_from_worker(payload: bytes) -> FromWorkerMessage:
    """
    Decode what a worker sent.

    Raises:
        msgspec.DecodeError: The payload is no such message.
    """
    return _from_worker.decode(payload)
