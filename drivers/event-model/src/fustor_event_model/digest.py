"""What a directory's rows amount to, so that two sides can compare them without sending them."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from fustor_event_model.rows import FsRow

_BYTES: Final = 16
_encode = msgspec.msgpack.Encoder().encode


class RowsDigest:
    """
    The number of rows, and the sum of their hashes: in whatever order they come, however they are cut.

    A row's hash is the BLAKE2b of its encoding, 128 bits; every field is part of it.
    """

    __slots__ = ("_sum", "count")

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, rows: Iterable[FsRow]) -> None:
        """Add rows; each `path` is a name, as in an event whose prefix is the directory."""
        count, total = 0, self._sum
        for row in rows:
            total += int.from_bytes(blake2b(_encode(row), digest_size=_BYTES).digest(), "big")
            count += 1
        self._sum = total
        self.count += count

    def finish(self) -> bytes:
        """Return the sum so far, modulo 2**128, big endian."""
        return (self._sum % (1 << 8 * _BYTES)).to_bytes(_BYTES, "big")
