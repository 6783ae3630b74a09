"""How much every directory holds, with all below it: kept up to date by what changes, never counted again."""

import heapq
from collections.abc import Callable
from typing import Any

import apsw
import msgspec

_MAX_REMEMBERED = 20_000
_MAX_INT = (1 << 63) - 1
LOW = (1 << 32) - 1
_ADD = (
    "UPDATE totals SET files=files+?1, directories=directories+?2,"
    f" bytes_high=bytes_high+?3+((bytes_low+?4)>>32), bytes_low=(bytes_low+?4)&{LOW} WHERE id=?5"
)


class Sums(msgspec.Struct, frozen=True):
    """
    What is below a directory.

    Args:
        files: Names that are no directories; a file with several names counts for each.
        directories: Without the directory itself, and without placeholders.
        bytes: The sizes of the files, each name's; from 2⁶³ on, 2⁶³ - 1.
    """

    files: int
    directories: int
    bytes: int


def read_sums(db: apsw.Connection, id_: int) -> Sums:
    """Return what is below a stored directory, by its number."""
    row: Any
    row, = db.execute("SELECT files, directories, bytes_high, bytes_low FROM totals WHERE id=?", (id_,)).fetchall()
    files, directories, high, low = row
    return Sums(files, directories, max(-_MAX_INT, min((high << 32) + low, _MAX_INT)))


def find_path(id_: int, known: dict[int, bytes], get_place: Callable[[int], tuple[int, bytes]]) -> bytes:
    """
    Return the path of a directory by its number, the root's being empty.

    Args:
        id_: The number.
        known: Paths by number, at least the root's; gets those that were found.
        get_place: Returns the number of the directory in which a directory is, and its name there.
    """
    below: list[tuple[int, bytes]] = []
    while id_ not in known:
        parent, name = get_place(id_)
        below.append((id_, name))
        id_ = parent
    path = known[id_]
    for number, name in reversed(below):
        path = known[number] = path + b"/" + name
    return path


class Totals:
    """
    Collects, inside the writer's transaction, by how much directories changed, and adds it up to the root.

    The table also says where each directory is, by its number, which is never changed.
    A sum of sizes can exceed 63 bits (two sparse files are enough), so it is stored in two parts.

    Args:
        connection: The writing connection.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute: Callable[..., Any] = connection.execute
        self._execute_many: Callable[..., Any] = connection.executemany
        self._deltas: dict[int, list[int]] = {}
        self._made: dict[int, tuple[int, bytes]] = {}
        self._dropped: set[int] = set()
        self._places: dict[int, tuple[int, bytes]] = {}

    def add(self, id_: int, *, files: int = 0, directories: int = 0, size: int = 0) -> None:
        """Note by how much the children of a directory became more."""
        delta = self._deltas.get(id_)
        if delta is None:
            self._deltas[id_] = [files, directories, size]
            return
        delta[0] += files
        delta[1] += directories
        delta[2] += size

    def make(self, id_: int, parent: int, name: bytes) -> None:
        """Note a new directory, which holds nothing yet."""
        self._made[id_] = self._places[id_] = parent, name

    def drop(self, id_: int) -> None:
        """Note that a directory is no more; what it held must be taken off it too, for those above."""
        self._dropped.add(id_)

    def move(self, id_: int, parent: int, name: bytes) -> None:
        """Put a directory to another place, with what it holds; nothing may be noted and not saved."""
        sums = self._execute("SELECT files, directories, bytes_high, bytes_low FROM totals WHERE id=?", (id_,))
        (files, directories, high, low), = sums.fetchall()
        size = (high << 32) + low
        self.add(self.get_place(id_)[0], files=-files, directories=-directories - 1, size=-size)
        self.add(parent, files=files, directories=directories + 1, size=size)
        self._execute("UPDATE totals SET parent=?, name=? WHERE id=?", (parent, name, id_))
        self._places[id_] = parent, name

    def forget(self) -> None:
        """Drop what was noted, after a rollback."""
        self._clear()
        self._places.clear()

    def get_place(self, id_: int) -> tuple[int, bytes]:
        """Return the number of the directory in which a directory is or, until `save`, was, and its name there."""
        place = self._places.get(id_)
        if place is None:
            place, = self._execute("SELECT parent, name FROM totals WHERE id=?", (id_,)).fetchall()
            self._places[id_] = place
        return place

    def save(self) -> None:
        """Write what was noted; every change of the transaction must have been carried out."""
        self._add_up()
        lasting = [id_ for id_ in self._deltas if id_ not in self._dropped and id_ not in self._made]
        self._execute_many("INSERT INTO totals VALUES(?,?,?,?,?,?,?)", [
            (id_, parent, name, *_split(self._deltas.get(id_, (0, 0, 0))))
            for id_, (parent, name) in self._made.items() if id_ not in self._dropped])
        self._execute_many(_ADD, [(*_split(self._deltas[id_]), id_) for id_ in lasting if any(self._deltas[id_])])
        self._execute_many("DELETE FROM totals WHERE id=?", [(id_,) for id_ in self._dropped])
        self._clear()
        if len(self._places) > _MAX_REMEMBERED:
            for id_ in list(self._places)[: _MAX_REMEMBERED // 2]:
                del self._places[id_]

    def _add_up(self) -> None:
        """Add every delta to the directories above, the deepest first."""
        deltas = self._deltas
        left = [(-self._get_depth(id_), id_) for id_ in deltas]
        heapq.heapify(left)
        while left:
            depth, id_ = heapq.heappop(left)
            parent, _ = self.get_place(id_)
            if not parent:
                continue
            if parent not in deltas:
                heapq.heappush(left, (depth + 1, parent))
            files, directories, size = deltas[id_]
            self.add(parent, files=files, directories=directories, size=size)

    def _get_depth(self, id_: int) -> int:
        depth = 0
        while id_ := self.get_place(id_)[0]:
            depth += 1
        return depth

    def _clear(self) -> None:
        self._deltas.clear()
        self._made.clear()
        self._dropped.clear()


def _split(delta: "list[int] | tuple[int, int, int]") -> tuple[int, int, int, int]:
    files, directories, size = delta
    return files, directories, size >> 32, size & LOW
