"""Bytes as read from inotify into records; pure."""

import struct
from typing import Final, NamedTuple

from fustor_source_fs.shards import name_watch

_HEADER: Final = struct.Struct("iIII")


class Record(NamedTuple):
    """
    One `struct inotify_event` (man 7 inotify).

    Args:
        watch: The watch, as `name_watch` names it; of an overflow it says the shard only.
        mask: What happened.
        cookie: Connects the two halves of a rename.
        name: Name within the watched directory, any bytes; empty for the directory itself.
    """

    watch: int
    mask: int
    cookie: int
    name: bytes


def parse_records(data: bytes, shard: int = 0) -> list[Record]:
    """
    Split what one read(2) of a shard returned; the kernel never cuts a record.

    Consecutive equal records are one record: each only names a place to look at.
    """
    records: list[Record] = []
    unpack = _HEADER.unpack_from
    offset, end = 0, len(data)
    first = name_watch(shard, 0)
    last: Record | None = None
    while offset < end:
        descriptor, mask, cookie, length = unpack(data, offset)
        offset += 16
        name = data[offset : offset + length].rstrip(b"\0") if length else b""
        offset += length
        record = Record(first + descriptor, mask, cookie, name)
        if record != last:
            records.append(record)
            last = record
    return records
