"""A batch on its way into the data link."""

from typing import Final, TypeAlias

import msgspec

from fustor_core.drivers import Item
from fustor_event_model import AuditEnd, EventBase, JobDone, SnapshotEnd, Unchanged, encode_item

BATCH_BYTES: Final = 4 << 20
"""A batch that is longer is sent with fewer rows: each item of a tree that is deep enough holds a path as long."""
_ENDS: Final = (SnapshotEnd, AuditEnd, JobDone)

End: TypeAlias = SnapshotEnd | AuditEnd | JobDone


class Outgoing:
    """
    Items of one lane, encoded as they are added: no more rows than those of one item are ever held.

    Attributes:
        items: The items, encoded.
        positions: Of those that have one.
        rows: How many rows they hold.
        compared: For how many more rows, which the receiver is to compare, they stand.
        ends: Those of them that end something.
        size_bytes: How long the items are together.
    """

    __slots__ = ("compared", "ends", "items", "positions", "rows", "size_bytes")

    def __init__(self) -> None:
        self.items: list[msgspec.Raw] = []
        self.positions: list[bytes] = []
        self.rows = 0
        self.compared = 0
        self.ends: list[End] = []
        self.size_bytes = 0

    def add(self, item: Item) -> None:
        """Add an item."""
        if isinstance(item, EventBase):
            self.rows += len(item.rows)
        elif isinstance(item, Unchanged):
            self.compared += item.count
        elif isinstance(item, _ENDS):
            self.ends.append(item)
        if item.position is not None:
            self.positions.append(item.position)
        encoded = encode_item(item)
        self.items.append(encoded)
        self.size_bytes += len(encoded)

    def is_full(self, rows: int) -> bool:
        """Tell whether it stands for so many rows, or is as long as a batch may be."""
        return self.rows + self.compared >= rows or self.size_bytes >= BATCH_BYTES
