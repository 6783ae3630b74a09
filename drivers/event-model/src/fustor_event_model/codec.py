"""Encode and decode events; the only place that names the wire format of a batch."""

from collections.abc import Sequence

import msgspec

from fustor_event_model.models import AnyItem, FsItem

_encoder = msgspec.msgpack.Encoder()
_fs_decoder = msgspec.msgpack.Decoder(list[FsItem])


def encode_item(item: AnyItem | FsItem) -> msgspec.Raw:
    """Encode one event or signal, to be given to `encode_items` with others."""
    return msgspec.Raw(_encoder.encode(item))


def encode_items(items: Sequence[AnyItem | FsItem | msgspec.Raw]) -> bytes:
    """
    Encode events and signals, in order, as one msgpack array.

    Args:
        items: Any number, as they are or as `encode_item` made them; empty gives the one byte of an empty array.

    Returns:
        The array. Positions are part of it.
    """
    return _encoder.encode(items)


def decode_fs_items(data: bytes | memoryview | msgspec.Raw) -> list[FsItem]:
    """
    Decode what `encode_items` made of `fs` events.

    Raises:
        msgspec.DecodeError: The bytes are not such an array; the message says where.
    """
    try:
        return _fs_decoder.decode(data)
    except UnicodeDecodeError as err:  # a text that is none; msgspec lets it through
        raise msgspec.DecodeError(str(err)) from err
