"""Who pushes into a view, and up to where each of them has been applied."""

from collections.abc import Callable
from typing import Any

import apsw
import msgspec

from fustor_fusion.arrival import ArrivalClock
from fustor_fusion.errors import RequestRefused
from fustor_fusion.schema import read_meta
from fustor_fusion.skew import Skew
from fustor_fusion.timeline import Mark, Timeline

_decode_marks = msgspec.json.Decoder(list[Mark]).decode


NEWEST, CLOCK = "newest", "clock"
"""What may have changed of an owner besides the positions in its lanes."""


class Owner:
    """
    One agent and pipe as the writer remembers it.

    Args:
        id: Its number in the view.
        epoch: The newest epoch that pushed.
        newest: The highest time of what it has sent, by Fusion's clock.
        seqs: Per lane, the last sequence number of that epoch that was applied.
        timeline: What its indices mean.
        skew: What its files' times mean, if it has no index of its own.
        ruler: The state of Fusion's clock with which its own was compared last.
    """

    __slots__ = ("changed", "epoch", "id", "newest", "ruler", "seqs", "skew", "timeline")

    def __init__(
        self, id_: int, epoch: int, newest: int, seqs: dict[str, int], timeline: Timeline, skew: Skew, ruler: str
    ) -> None:
        self.id = id_
        self.epoch = epoch
        self.newest = newest
        self.seqs = seqs
        self.timeline = timeline
        self.skew = skew
        self.ruler = ruler
        self.changed: set[str] = set()


def read_newest(connection: apsw.Connection, agent: str, pipe: str) -> int:
    """Return the highest time of what an agent and pipe have sent, as it is committed; 0 when they are new."""
    rows: Any = connection.execute("SELECT newest FROM owners WHERE agent=? AND pipe=?", (agent, pipe)).fetchall()
    return int(rows[0][0]) if rows else 0


def make_clock(connection: apsw.Connection, **how: Any) -> ArrivalClock:
    """Make Fusion's clock, behind all that anybody has sent; the arguments are those of `ArrivalClock`."""
    execute: Callable[..., Any] = connection.execute
    (newest,), = execute("SELECT ifnull(max(newest), 0) FROM owners").fetchall()
    return ArrivalClock(newest, read_meta(connection).get("clock", ""), **how)


class Positions:
    """
    The owners of a view and their positions, written in the transaction of the rows.

    Args:
        connection: The writing connection.
        arrivals: Fusion's clock, which is kept with them.

    Attributes:
        peers: The owners that have an index of their own.
    """

    def __init__(self, connection: apsw.Connection, arrivals: ArrivalClock) -> None:
        self._execute: Callable[..., Any] = connection.execute
        self._owners: dict[tuple[str, str], Owner] = {}
        self._arrivals = arrivals
        self._keeps_clock = False
        self.peers = self._read_peers()

    def forget(self) -> None:
        """Drop what is remembered, after a rollback."""
        self._owners.clear()
        self._keeps_clock = False
        self.peers = self._read_peers()

    def _read_peers(self) -> set[int]:
        return {id_ for id_, in self._execute("SELECT id FROM owners WHERE newest_index > 0")}

    def note_index(self, owner: Owner, index: int) -> None:
        """Note the highest index of a batch; 0 says that the owner has none."""
        if index:
            owner.timeline.newest = max(owner.timeline.newest, index)
            self.peers.add(owner.id)
        elif owner.timeline.newest:
            owner.timeline.newest = 0
            owner.changed.add(NEWEST)
            self.peers.discard(owner.id)

    def get_owner(self, agent: str, pipe: str) -> Owner:
        """Return an owner, making it when it is new."""
        owner = self._owners.get((agent, pipe))
        if owner is not None:
            return owner
        execute = self._execute
        execute("INSERT OR IGNORE INTO owners(agent, pipe, epoch, newest) VALUES(?,?,0,0)", (agent, pipe))
        (id_, epoch, newest, newest_index, marks, skew_ns, ruler), = execute(
            "SELECT id, epoch, newest, newest_index, marks, skew_ns, ruler FROM owners WHERE agent=? AND pipe=?",
            (agent, pipe))
        seqs = dict(execute("SELECT lane, seq FROM positions WHERE owner=?", (id_,)).fetchall())
        timeline = Timeline(_decode_marks(marks), newest_index, goes_on=ruler == self._arrivals.state)
        owner = self._owners[agent, pipe] = Owner(id_, epoch, newest, seqs, timeline, Skew(skew_ns), ruler)
        return owner

    def compare(self, owner: Owner, *, clock: int, arrived: int, first: int) -> None:
        """Compare an owner's clock with Fusion's; as `Timeline.compare`."""
        if owner.timeline.compare(clock, arrived, first) or owner.ruler != self._arrivals.state:
            owner.ruler = self._arrivals.state
            owner.changed.add(CLOCK)

    def get_owners(self) -> list[Owner]:
        """Return every owner that pushed since the start."""
        return list(self._owners.values())

    def advance(self, owner: Owner, *, epoch: int, lane: str, seq: int) -> bool:
        """
        Take a batch's place in the order of its lane.

        Returns:
            False when it was applied already.

        Raises:
            RequestRefused: 409, a newer incarnation of the sender has pushed before.
        """
        if epoch < owner.epoch:
            raise RequestRefused(409, f"epoch {epoch} is over: epoch {owner.epoch} has pushed already")
        if epoch > owner.epoch:
            self._execute("DELETE FROM positions WHERE owner=?", (owner.id,))
            owner.epoch, owner.seqs = epoch, {}
        if seq <= owner.seqs.get(lane, 0):
            return False
        owner.seqs[lane] = seq
        owner.changed.add(lane)
        return True

    def save(self) -> None:
        """Write what has changed; call at the end of each piece of work."""
        if not self._keeps_clock:
            self._execute("INSERT OR REPLACE INTO meta VALUES('clock',?)", (self._arrivals.state,))
            self._keeps_clock = True
        for owner in self._owners.values():
            if not owner.changed:
                continue
            self._execute("UPDATE owners SET epoch=?, newest=?, newest_index=?, skew_ns=? WHERE id=?",
                          (owner.epoch, owner.newest, owner.timeline.newest, owner.skew.ns, owner.id))
            if CLOCK in owner.changed:
                self._execute("UPDATE owners SET marks=?, ruler=? WHERE id=?",
                              (msgspec.json.encode(owner.timeline.marks), owner.ruler, owner.id))
            for lane in owner.changed - {CLOCK, NEWEST}:
                self._execute("INSERT OR REPLACE INTO positions VALUES(?,?,?)", (owner.id, lane, owner.seqs[lane]))
            owner.changed = set()
