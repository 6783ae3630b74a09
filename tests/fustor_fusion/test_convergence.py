"""
Agents that look at a changing tree, and links that fail: in the end the view is the tree.

A simulation of seeded random steps. The tree changes; each agent learns of each change and looks
at its place when it comes to it; walks, audits and scans list directory by directory meanwhile;
batches of different lanes overtake each other, get lost, come twice, or die with their agent.
A leader with nothing under way tells the move of a directory as one event, if Fusion takes that.
At quiet points everything that is owed is delivered, and the view is compared with the tree.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from fustor_event_model import (
    DeleteEvent,
    FsItem,
    FsPath,
    FsRow,
    Listed,
    MessageSource,
    Moved,
    RowsDigest,
    SnapshotEnd,
    Unchanged,
    UpdateEvent,
    encode_items,
)
from fustor_fusion.arbiter import Applied
from fustor_fusion.errors import RequestRefused
from fustor_fusion.ingest import apply_push, note_clock
from fustor_fusion.positions import make_clock, read_newest
from fustor_fusion.schema import ROOT_ID, open_database
from fustor_fusion.store import Writer

Way = tuple[bytes, ...]

RT, SNAPSHOT, AUDIT = MessageSource.REALTIME, MessageSource.SNAPSHOT, MessageSource.AUDIT
ON_DEMAND, SENTINEL = MessageSource.ON_DEMAND, MessageSource.SENTINEL
NAMES = (b"a", b"b", b"c")
MS, S = 10**6, 10**9
MAX_DEPTH = 4
EMPTY_ROOT = FsRow(b"", 0, 0, 0, 0o040000, 0, 0, 0, 0, 1)


class Node(NamedTuple):
    """What there is at one path."""

    inode: int
    directory: bool
    size: int
    mtime_ns: int


class World:
    """The tree, and the true time."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.nodes: dict[Way, Node] = {}
        self.now = 1_000_000 * S
        self.inode = 1

    def tick(self) -> int:
        self.now += 10 * MS
        return self.now

    def change(self) -> list[Way]:
        """Do something; returns the names at which something happened."""
        verb = self.rng.choice((self.make, self.make, self.make, self.write, self.remove, self.move, self.move))
        self.tick()
        return verb()

    def make(self) -> list[Way]:
        way = self._any_way()
        if not self._is_directory(way[:-1]):
            return []
        self._drop(way)
        self.inode += 1
        directory = self.rng.random() < 0.5
        self.nodes[way] = Node(self.inode, directory, 0 if directory else self.inode, self._mtime())
        return [way]

    def write(self) -> list[Way]:
        """Change a node in place; its time may go back, as after a restored backup."""
        way = self._known_way()
        if way:
            node = self.nodes[way]
            size = node.size if node.directory else self.rng.randrange(1_000)
            self.nodes[way] = node._replace(size=size, mtime_ns=self._mtime())
        return [way] if way else []

    def remove(self) -> list[Way]:
        way = self._known_way()
        if way:
            self._drop(way)
        return [way] if way else []

    def move(self) -> list[Way]:
        way, to = self._known_way(), self._any_way()
        if not way or to[: len(way)] == way or way[: len(to)] == to or not self._is_directory(to[:-1]):
            return []
        self._drop(to)
        for other in [other for other in self.nodes if other[: len(way)] == way]:
            self.nodes[to + other[len(way) :]] = self.nodes.pop(other)
        return [way, to]

    def move_directory(self) -> tuple[Way, Way] | None:
        """Move a directory to a free place; None if there is none to be had."""
        directories = [way for way in sorted(self.nodes) if self.nodes[way].directory]
        way, to = self.rng.choice(directories) if directories else (), self._any_way()
        if not way or to in self.nodes or to[: len(way)] == way:
            return None
        self.tick()
        for other in [other for other in self.nodes if other[: len(way)] == way]:
            self.nodes[relocate(other, way, to)] = self.nodes.pop(other)
        return way, to

    def children(self, way: Way) -> list[Way]:
        return sorted(other for other in self.nodes if other[:-1] == way)

    def _mtime(self) -> int:
        return self.rng.choice((self.now, self.now, self.rng.randrange(self.now)))

    def _is_directory(self, way: Way) -> bool:
        return not way or (way in self.nodes and self.nodes[way].directory)

    def _drop(self, way: Way) -> None:
        for other in [other for other in self.nodes if other[: len(way)] == way]:
            del self.nodes[other]

    def _any_way(self) -> Way:
        """Name a place in a directory that is there, mostly a free one, so that the tree grows."""
        directories = [(), *(way for way in sorted(self.nodes) if self.nodes[way].directory and len(way) < MAX_DEPTH)]
        places = [(*above, name) for above in directories for name in NAMES]
        free = [way for way in places if way not in self.nodes]
        return self.rng.choice(free if free and self.rng.random() < 0.8 else places)

    def _known_way(self) -> Way:
        return self.rng.choice(sorted(self.nodes)) if self.nodes else ()


class Batch(NamedTuple):
    """What was sent and is not acknowledged."""

    body: bytes
    number: int
    """Grows with each batch of its agent: they are pushed in the order in which they were made, whatever the lane."""
    names: set[Way]
    """The names of which it says something; a directory's says that it was listed."""
    is_walk: bool
    """It is a part of a walk, which begins anew when the batch is lost."""
    again: set[Way]
    """The names that were looked at since, so that it may arrive after what was seen later."""


class View:
    """What Fusion's writing thread does, without the thread."""

    def __init__(self, folder: Path, world: World) -> None:
        self._folder = folder
        self._world = world
        self.present: dict[str, int] = {}
        """The agents that have a session, and their highest index before it."""
        self.moved = 0
        self.start()

    def start(self, *, error: int = 0, boot_id: str = "one") -> None:
        """Serve what is stored, in a boot of a machine whose wall clock is wrong by so much."""
        self.db, _ = open_database(self._folder / "view.db")
        self.db.execute("PRAGMA synchronous=OFF")  # nothing here is about the disk
        self.writer = Writer(self.db, make_clock(
            self.db, boot_id=boot_id, wall=lambda: self._world.now + error, boottime=lambda: self._world.now))

    def restart(self, *, error: int, boot_id: str) -> None:
        """End without a word, and serve again."""
        self.db.close()
        self.start(error=error, boot_id=boot_id)

    def fail(self) -> None:
        """Forget, as after a rollback, what is not in the database."""
        for each in (self.writer.tree, self.writer.arbiter, self.writer.positions):
            each.forget()

    def open(self, agent: str, *, clock: int) -> None:
        note_clock(self.writer, False, agent=agent, pipe="p", clock=clock, arrived=self.writer.arrivals.read())
        self.writer.positions.save()
        self.present[agent] = read_newest(self.db, agent, "p")
        self.db.execute("INSERT OR REPLACE INTO sessions VALUES(?, x'', 0)", (agent,))

    def push(self, body: bytes, *, agent: str, leads: bool, clock: int) -> Applied:
        self.db.execute("BEGIN")
        try:
            applied = apply_push(self.writer, False, body=body, agent=agent, pipe="p", session_id=agent, leads=leads,
                                 present=[(name, "p", before) for name, before in self.present.items()],
                                 clock=clock, arrived=self.writer.arrivals.read())
        except RequestRefused:
            self.db.execute("ROLLBACK")
            self.fail()
            raise
        self.writer.tree.save()
        self.writer.positions.save()
        self.db.execute("COMMIT")
        assert not applied.refused
        return applied

    def dump(self) -> dict[Way, tuple[object, ...]]:
        found: dict[Way, tuple[object, ...]] = {}
        todo: list[tuple[int, Way]] = [(ROOT_ID, ())]
        while todo:
            parent, above = todo.pop()
            for name, id_, flags, *values in self.db.execute(
                "SELECT name, id, flags, inode, size, mtime_ns FROM nodes WHERE parent=?", (parent,)
            ).fetchall():
                way = (*above, bytes(name))  # type: ignore[arg-type]
                if not int(flags) & 2:  # type: ignore[arg-type]
                    found[way] = (id_ is not None, *values)
                if id_ is not None:
                    todo.append((int(id_), way))  # type: ignore[arg-type]
        return found


class Agent:
    """
    One agent of ours and its link.

    Args:
        name: Its agent id.
        world: What it looks at.
        view: Where it pushes.
        skew: By how much its clock is wrong, at first; that of another process may differ as much in any way.
        delay: What a push may take at most; the clocks' difference is not known more exactly.
        overtakes: Batches of different lanes come in any order, and not in that in which they were made.
    """

    def __init__(
        self, name: str, world: World, view: View, *, skew: int = 0, delay: int = 0, overtakes: bool = False
    ) -> None:
        self.name = name
        self.world = world
        self.view = view
        self.skew = self.error = skew
        self.delay = delay
        self.overtakes = overtakes
        self.leads = False
        self.alive = True
        self.epoch = 0
        self.index = 0
        self.sent = 0
        self.begin()

    def begin(self) -> None:
        """Begin a new link, with nothing under way, perhaps after the machine's clock was set; indices only grow."""
        self.epoch += 1
        self.error = max(self.world.rng.choice((self.error, self.skew, -self.skew)), self.index + 1 - self.world.now)
        self.alive = True
        clock = max(self.index, self.world.now + self.error)
        self.view.open(self.name, clock=clock)
        self.pending: dict[Way, None] = {}
        self.known: dict[int, Way] = {}
        self.walks: dict[MessageSource, deque[Way]] = {}
        self.differing: set[Way] = set()
        self.lanes: dict[MessageSource, deque[Batch]] = {}
        self.seqs: dict[MessageSource, int] = {}
        self.said: list[tuple[str, bytes]] = []
        self._walk_quietly(())

    def _walk_quietly(self, way: Way) -> None:
        for child in self.world.children(way):
            if self.world.nodes[child].directory:
                self.known[self.world.nodes[child].inode] = child
                self._walk_quietly(child)

    def note(self, ways: list[Way]) -> None:
        """Learn that something happened; a directory that has come or gone is listed again, though it be back."""
        if self.alive:
            self.pending.update(dict.fromkeys(ways))
            self.known = {inode: way for inode, way in self.known.items()
                          if not any(way[: len(each)] == each for each in ways)}

    def walk(self, lane: MessageSource, top: Way = ()) -> None:
        """Begin to list everything below a directory, unless that lane does so already."""
        self.walks.setdefault(lane, deque([top]))

    # -- steps --------------------------------------------------------------------------------

    def look(self) -> None:
        """Look at one place of which something was heard."""
        if not self.pending:
            return
        way = self.world.rng.choice(list(self.pending))
        del self.pending[way]
        index = self._stamp()
        # What an unacknowledged walk says of this place may arrive after this: look again then.
        for queue in self.lanes.values():
            for batch in queue:
                if batch.is_walk and (way in batch.names or way[:-1] in batch.names):
                    batch.again.add(way)
        node = self.world.nodes.get(way)
        if node is None:
            self._send(RT, [self._gone(index, way)], {way})
            return
        self._send(RT, [self._row(index, RT, way[:-1], [way])], {way})
        if node.directory and self.known.get(node.inode) != way:
            self.known[node.inode] = way
            self.walks.setdefault(RT, deque()).append(way)

    def list_one(self, lane: MessageSource) -> None:
        """List the next directory of a walk."""
        walk = self.walks[lane]
        if not walk:
            del self.walks[lane]
            if lane is SNAPSHOT:
                end = SnapshotEnd(index=self._stamp(), message_source=lane, complete=True)
                self._send(lane, [end], set(), is_walk=True)
            return
        way = walk.popleft()
        if way and not (way in self.world.nodes and self.world.nodes[way].directory):
            return
        index = self._stamp()
        children = self.world.children(way)
        items: list[FsItem]
        if lane in (SNAPSHOT, AUDIT) and way not in self.differing and self.world.rng.random() < 0.5:
            items = [self._unchanged(index, lane, way, children)]
        else:
            self.differing.discard(way)
            items = [self._row(index, lane, way, children)] if children else []
            items.append(Listed(index=index, message_source=lane, path=to_path(way)))
        below = [child for child in children if self.world.nodes[child].directory]
        for child in below:
            self.known[self.world.nodes[child].inode] = child
        walk.extend(below)
        self._send(lane, items, {way, *children}, is_walk=True)

    def sentinel(self) -> None:
        """Say how one known file is."""
        files = [way for way, node in self.world.nodes.items() if not node.directory]
        if files:
            way = self.world.rng.choice(files)
            self._send(SENTINEL, [self._row(self._stamp(), SENTINEL, way[:-1], [way])], {way}, is_walk=True)

    def deliver(self, lane: MessageSource) -> None:
        """Push the next batch of a lane; mostly its acknowledgement arrives."""
        queue = self.lanes[lane]
        batch = queue[0]
        applied = self._push(batch.body)
        if self.world.rng.random() < 0.15:
            return  # the answer is lost: the same bytes come again
        queue.popleft()
        for way in [to_way(differing.position) for differing in applied.differing]:
            self.differing.add(way)
            self.walks.setdefault(lane, deque()).append(way)
        if self.world.rng.random() < 0.1:
            assert self._push(batch.body).rows == 0
        self.pending.update(dict.fromkeys(sorted(batch.again)))

    def tell_move(self, way: Way, to: Way) -> None:
        """Say that a directory has moved, if nothing else is under way; or have it listed like a new one."""
        node = self.world.nodes[to]
        is_known = self.known.get(node.inode) == way and not self.differing and SNAPSHOT not in self.walks
        if not self.alive or not self.leads or not is_known or any(self.lanes.values()):
            self.note([way, to])
            return
        item = Moved(index=self._stamp(), message_source=RT, path=to_path(to), before=to_path(way), device=1,
                     inode=node.inode)
        self._send(RT, [item], {way, to})
        dice = self.world.rng.random()
        try:
            if dice > 0.1:
                self._push(self.lanes[RT].popleft().body)
        except RequestRefused:
            self.note([way, to])
            return
        if dice < 0.2:  # whether or not it was made, nobody knows
            self.lose_link()
            self.note([way, to])
            return
        self.view.moved += 1
        self.pending = {relocate(each, way, to): None for each in self.pending} | {way: None, to: None}
        self.known = {inode: relocate(each, way, to) for inode, each in self.known.items()}
        self.walks = {lane: deque(relocate(each, way, to) for each in walk) for lane, walk in self.walks.items()}
        for lane in (AUDIT, ON_DEMAND):
            if lane in self.walks:
                self.walks[lane].append(to)  # it may have come to where the walk has passed

    def lose_link(self) -> None:
        """Lose all that is not acknowledged: its places are looked at again, its walks begin anew."""
        lost = [(lane, batch) for lane, queue in self.lanes.items() for batch in queue]
        self.epoch += 1
        self.lanes, self.seqs = {}, {}
        for lane, batch in lost:
            self.pending.update(dict.fromkeys(way for way in sorted(batch.names) if way))
            # What was listed below a directory whose row was lost may go with what the row replaces.
            self.known = {inode: way for inode, way in self.known.items() if way not in batch.names}
            if batch.is_walk:
                self.walks[lane if lane in (SNAPSHOT, AUDIT) else RT] = deque([()])

    def die(self) -> None:
        """End without a word; what was pushed stays pushed."""
        self.alive = self.leads = False
        del self.view.present[self.name]
        self.pending, self.walks, self.lanes = {}, {}, {}

    def owes(self) -> bool:
        return bool(self.pending or self.walks or any(self.lanes.values()))

    def step(self) -> None:
        """Do one of the things that it owes."""
        todo: list[Callable[[], None]] = [self.look] * bool(self.pending)
        todo += [lambda lane=lane: self.list_one(lane) for lane in self.walks]  # type: ignore[misc]
        waiting = {lane: queue[0].number for lane, queue in self.lanes.items() if queue}
        if waiting:
            lane = self.world.rng.choice(list(waiting)) if self.overtakes else min(waiting, key=waiting.__getitem__)
            todo.append(lambda: self.deliver(lane))
        if todo:
            self.world.rng.choice(todo)()

    # -- what it says ---------------------------------------------------------------------------

    def _stamp(self) -> int:
        self.index = max(self.index + 1, self.world.tick() + self.error)
        return self.index

    def _push(self, body: bytes) -> Applied:
        """Push something, with what the clock said when that began."""
        clock = max(self.index, self.world.now - self.world.rng.randrange(self.delay + 1) + self.error)
        return self.view.push(body, agent=self.name, leads=self.leads, clock=clock)

    def _send(self, lane: MessageSource, items: list[FsItem], names: set[Way], *, is_walk: bool = False) -> None:
        seq = self.seqs[lane] = self.seqs.get(lane, 0) + 1
        head = b"".join(map(msgspec.msgpack.encode, (self.epoch, lane.value, seq)))
        self.sent += 1
        batch = Batch(b"\x94" + head + encode_items(items), self.sent, names, is_walk, set())
        self.lanes.setdefault(lane, deque()).append(batch)

    def _gone(self, index: int, way: Way) -> FsItem:
        return DeleteEvent(index=index, message_source=RT, event_schema="fs", table="files",
                           rows=[FsPath(to_path(way))])

    def _unchanged(self, index: int, lane: MessageSource, way: Way, children: list[Way]) -> FsItem:
        digest = RowsDigest()
        digest.add(self._rows([way]) if way else [EMPTY_ROOT])
        digest.add(self._rows(children))
        path = to_path(way)
        return Unchanged(index=index, message_source=lane, path=path, position=path, count=digest.count,
                         digest=digest.finish())

    def _rows(self, ways: list[Way]) -> list[FsRow]:
        rows = []
        for way in ways:
            node = self.world.nodes[way]
            mode = 0o040755 if node.directory else 0o100644
            rows.append(FsRow(way[-1], node.size, node.mtime_ns, 0, mode, 0, 0, 1, node.inode, 1))
        return rows

    def _row(self, index: int, lane: MessageSource, above: Way, ways: list[Way]) -> FsItem:
        rows = self._rows(ways)
        prefix = to_path(above) + (b"/" if above else b"")
        return UpdateEvent(index=index, message_source=lane, event_schema="fs", table="files", rows=rows, prefix=prefix)


def relocate(way: Way, before: Way, after: Way) -> Way:
    """Return where something is after a directory, in which it may be, has moved."""
    return after + way[len(before) :] if way[: len(before)] == before else way


def to_path(way: Way) -> bytes:
    return b"/" + b"/".join(way)


def to_way(path: bytes) -> Way:
    return tuple(name for name in path.split(b"/") if name)


class Simulation:
    """
    A world, a view, and agents.

    Args:
        folder: For the database.
        seed: Decides everything.
        skews: One agent each.
        delay: What a push may take at most.
        overtakes: As in `Agent`.
        fails: Fusion fails, too: its transactions, and its process, and its clock may be set meanwhile.
    """

    def __init__(
        self, folder: Path, seed: int, skews: tuple[int, ...], *, delay: int = 0, overtakes: bool = False,
        fails: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        self.world = World(self.rng)
        self.view = View(folder, self.world)
        self.delay = delay
        self.fails = fails
        self.agents = [Agent(f"agent-{number}", self.world, self.view, skew=skew, delay=delay, overtakes=overtakes)
                       for number, skew in enumerate(skews)]
        self.promote()

    def promote(self) -> None:
        """Make an agent the leader where there is none: it owes a snapshot."""
        living = [agent for agent in self.agents if agent.alive]
        if living and not any(agent.leads for agent in living):
            living[0].leads = True
            living[0].walk(SNAPSHOT)

    def step(self) -> None:
        agent = self.rng.choice(self.agents)
        dice = self.rng.random()
        if dice < 0.2:
            ways = self.world.change()
            for each in self.agents:
                each.note(ways)
        elif dice < 0.30:
            places = self.world.move_directory()
            for each in self.agents if places else ():
                each.tell_move(*places)
        elif not agent.alive:
            if dice < 0.40:
                agent.begin()
                self.promote()
        elif dice < 0.33:
            agent.walk(AUDIT if agent.leads else ON_DEMAND)
        elif dice < 0.36:
            agent.sentinel()
        elif dice < 0.37:
            agent.lose_link()
        elif dice < 0.38:
            agent.die()
            self.promote()
        elif dice < 0.40 and self.fails:
            self.view.fail()
        elif dice < 0.41 and self.fails:
            self.view.restart(error=self.rng.choice((0, 3600 * S, -3600 * S)), boot_id=self.rng.choice(("one", "two")))
        else:
            agent.step()

    def settle(self) -> None:
        """Let everything arrive; where looks cannot be put in order exactly, an audit has the last word."""
        for agent in self.agents:
            if not agent.alive and not any(each.alive for each in self.agents):
                agent.begin()
        self.promote()
        self._deliver()
        if self.delay:
            self.world.now += 10 * self.delay
            next(agent for agent in self.agents if agent.leads).walk(AUDIT)
            self._deliver()

    def _deliver(self) -> None:
        while owing := [agent for agent in self.agents if agent.owes()]:
            self.rng.choice(owing).step()

    def compare(self) -> list[str]:
        expected = {way: (node.directory, node.inode, node.size, node.mtime_ns)
                    for way, node in self.world.nodes.items()}
        found = self.view.dump()
        return [f"{to_path(way)!r}: is {found.get(way)}, should be {expected.get(way)}"
                for way in sorted(found.keys() | expected.keys()) if found.get(way) != expected.get(way)]

    def run(self, steps: int, *, quiet_every: int) -> None:
        for number in range(1, steps + 1):
            self.step()
            if number % quiet_every == 0:
                self.settle()
                wrong = self.compare()
                assert not wrong, f"step {number}\n" + "\n".join(wrong)


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Callable[..., Simulation]]:
    made: list[Simulation] = []

    def make(*skews: int, seed: int | None = None, **how: Any) -> Simulation:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        seed = random.randrange(1 << 30) if seed is None else seed
        print(f"seed {seed}")
        made.append(Simulation(folder, seed, skews, **how))
        return made[-1]

    yield make
    for simulation in made:
        simulation.view.db.close()


LONG = [pytest.mark.chaos, pytest.mark.timeout(3600)]
STEPS = [3_000, pytest.param(150_000, marks=LONG)]


@pytest.mark.parametrize("steps", STEPS)
def test_one_agent_converges_to_the_tree(simulate, steps: int) -> None:
    simulation = simulate(0)
    simulation.run(steps, quiet_every=40)
    assert simulation.view.moved > 0


@pytest.mark.parametrize("steps", STEPS)
def test_two_agents_of_which_each_may_die_converge_to_the_tree(simulate, steps: int) -> None:
    simulate(0, 0, overtakes=True).run(steps, quiet_every=40)


@pytest.mark.parametrize("steps", STEPS)
def test_agents_whose_clocks_differ_by_minutes_converge(simulate, steps: int) -> None:
    simulate(600 * S, -200 * S, 3600 * S).run(steps, quiet_every=40)


@pytest.mark.parametrize("steps", STEPS)
def test_agents_converge_while_fusion_fails_and_its_clock_is_set(simulate, steps: int) -> None:
    simulate(600 * S, -200 * S, 3600 * S, overtakes=True, fails=True).run(steps, quiet_every=40)


@pytest.mark.parametrize("steps", STEPS)
def test_agents_whose_clocks_differ_by_what_is_not_quite_known_converge_with_an_audit(simulate, steps: int) -> None:
    simulate(600 * S, -200 * S, 3600 * S, delay=20 * MS).run(steps, quiet_every=40)
