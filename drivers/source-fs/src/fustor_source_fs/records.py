"""Bytes as read from inotify into records; pure."""

import struct
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct("iIII")


class Record(NamedTuple):
    """
    One `struct inotify_event` (man 7 inotify).

    Args:
        watch: Watch descriptor, -1 for an overflow.
        mask: What happened.
        cookie: Connects the two halves of a rename.
        name: Name within the watched directory, any bytes; empty for the directory itself.
    """

    watch: int
    mask: int
    cookie: int
    name: bytes


def parse_records(data: bytes) -> list[Record]:
    """
    Split what one read(2) returned; the kernel never cuts a record.

    Consecutive equal records are one record: each only names a place to look at.
    """
    records: list[Record] = []
    unpack = _HEADER.unpack_from
    offset, end = 0, len(data)
    last: Record | None = None
    while offset < end:
        watch, mask, cookie, length = unpack(data, offset)
        offset += 16
        name = data[offset : offset + length].rstrip(b"\0") if length else b""
        offset += length
        record = Record(watch, mask, cookie, name)
        if record != last:
            records.append(record)
            last = record
    return records
