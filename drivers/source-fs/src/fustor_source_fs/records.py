"""Bytes as read from inotify into records; pure."""

import itertools
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from fustor_source_fs import bindings as b
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


def join_reads(reads: Sequence[tuple[int, Sequence[Record]]]) -> list[Record]:
    """
    Join what was read at one time, shard by shard: those first that directories left for others.

    The order within a shard is the kernel's. Between shards there is none, so that one is chosen in
    which most renames of directories from one shard to another can be paired.
    """
    shards = {shard: [record for each, records in reads if each == shard for record in records] for shard, _ in reads}
    left = {
        record.cookie: shard
        for shard, records in shards.items() for record in records
        if record.mask & b.IN_MOVED_FROM and record.mask & b.IN_ISDIR
    } if len(shards) > 1 else {}  # fmt: skip
    ways = [
        (left[record.cookie], shard)
        for shard, records in shards.items() for record in records
        if record.mask & b.IN_MOVED_TO and left.get(record.cookie, shard) != shard
    ] if left else []  # fmt: skip
    orders = itertools.permutations(shards) if ways else [tuple(shards)]
    best = min(orders, key=lambda order: sum(order.index(before) > order.index(after) for before, after in ways))
    return [record for shard in best for record in shards[shard]]
