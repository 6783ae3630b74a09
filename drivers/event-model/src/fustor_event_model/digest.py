"""What a directory's rows amount to, so that two sides can compare them without sending them."""

from collections.abc import Iterable
from hashlib import blake2b
from itertools import islice
from typing import Final

import msgspec

from fustor_event_model.rows import FsRow

FEW_ROWS: Final = 4_096
_BYTES: Final = 16
_encode = msgspec.msgpack.Encoder().encode


class RowsDigest:
    """
    The number of rows, and 128 bits that are the same in whatever order they come, however they are cut.

    Every field of a row is part of its encoding. Of up to FEW_ROWS rows it is the BLAKE2b hash of
    their encodings, sorted; of more, which nobody is to hold in memory, the sum of the hashes of each.
    """

    __slots__ = ("_few", "_sum", "count")

    def __init__(self) -> None:
        self.count = 0
        self._few: list[bytes] = []
        self._sum = 0

    def add(self, rows: Iterable[FsRow]) -> None:
        """Add rows; each `path` is a name, as in an event whose prefix is the directory."""
        left = iter(rows)
        while some := list(map(_encode, islice(left, FEW_ROWS))):
            self.count += len(some)
            self._few += some
            if self.count > FEW_ROWS:
                self._sum += sum(int.from_bytes(_hash(row), "big") for row in self._few)
                self._few.clear()

    def finish(self) -> bytes:
        """Return the digest of all that was added so far, as bytes or as a sum modulo 2**128, big endian."""
        if self.count <= FEW_ROWS:
            return _hash(b"".join(sorted(self._few)))
        return (self._sum % (1 << 8 * _BYTES)).to_bytes(_BYTES, "big")


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=_BYTES).digest()
