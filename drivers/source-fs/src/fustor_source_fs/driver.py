"""The fs source driver: ties reader, translator, work, looker and lister to the driver contract."""

import os
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from fustor_core.drivers import AuditCoverage, Barrier, Item, SourceContext, SourceDriver, SourceStatus
from fustor_core.errors import ConfigError, Unavailable
from fustor_event_model import FS_SCHEMA, FsRow, JobDone, Listed, MessageSource, SnapshotEnd
from fustor_source_fs import limits
from fustor_source_fs.audit import Audit
from fustor_source_fs.config import FsConfig
from fustor_source_fs.events import Events
from fustor_source_fs.inflight import Inflight
from fustor_source_fs.listing import Lister
from fustor_source_fs.looker import Looker
from fustor_source_fs.mounts import Mounts
from fustor_source_fs.moves import Moves
from fustor_source_fs.observer import Means
from fustor_source_fs.pace import Pace
from fustor_source_fs.pending import Group, Work
from fustor_source_fs.places import Places
from fustor_source_fs.polling import Polling
from fustor_source_fs.pressure import Pressure
from fustor_source_fs.priority import IoPriority
from fustor_source_fs.reader import Reader
from fustor_source_fs.recorder import Recorder
from fustor_source_fs.records import join_reads, parse_records
from fustor_source_fs.retries import Retries
from fustor_source_fs.shards import Shards
from fustor_source_fs.snapshot import Snapshot
from fustor_source_fs.translate import Translator
from fustor_source_fs.walk import Walk
from fustor_source_fs.watches import Node, Tree

_FED_AT_ONCE: Final = 100_000
_END_OF_SNAPSHOT: Final = "\0snapshot-end"


class FsSource(SourceDriver):
    """
    Watches a directory and everything below it with inotify.

    Owns the inotify instances and the thread that reads them; `close` ends both.
    """

    Config: ClassVar[type[FsConfig]] = FsConfig
    schema: ClassVar[str] = FS_SCHEMA

    def __init__(self, config: FsConfig, context: SourceContext) -> None:
        super().__init__(config, context)
        now = time.monotonic
        self._now = now
        self._root = config.get_root()
        self._wake_event = threading.Event()
        self._shards = Shards()
        self._reader = Reader(self._shards, config.driver_params.max_backlog_bytes, self._wake_event)
        self._tree = Tree()
        self._recorder = Recorder(self._tree)
        self._work = Work(context.max_pending, now)
        self._inflight = Inflight(now)
        takes = config.driver_params.make_filter()
        self._translator = Translator(
            self._tree,
            self._work,
            lambda gone, unheld: self._places.forget(gone, unheld),
            now,
            takes,
            self._tells_moves,
        )
        self._retries = Retries(self._tree, self._work, now, config.driver_params.retry_unreadable_s)
        self._places = Places(
            self._root,
            tree=self._tree,
            work=self._work,
            translator=self._translator,
            retries=self._retries,
            shards=self._shards,
            recorder=self._recorder,
        )
        self._events = Events(self._inflight, self._recorder)
        self._moves = Moves(
            tree=self._tree,
            translator=self._translator,
            places=self._places,
            inflight=self._inflight,
            events=self._events,
            clock=context.clock,
            now=now,
        )
        means = Means(
            takes,
            self._tree,
            self._work,
            self._retries,
            self._places,
            self._events,
            context.clock,
            context.on_progress,
        )
        self._looker = Looker(means)
        self._lister = Lister(means)
        self._barriers: list[tuple[int, str]] = []
        self._following: list[Node] = []
        self._followed_from = 0
        self._leads = False
        self._snapshot: Snapshot | None = None
        self._audit: Audit | None = None
        self._audit_goes_on_s: float | None = None
        self._watching = False
        self._is_closed = False
        self._mounts = Mounts(self._root)
        self._places.silent_devices = self._mounts.silent_devices
        self._pressure = Pressure(config.driver_params.pressure_limit_percent, now)
        self._io_priority = IoPriority(config.driver_params.io_priority)
        self._polling = Polling(
            self._places,
            self._tree,
            self._work,
            self._make_pace(),
            now,
            config.driver_params.poll_interval_s,
            context.on_progress,
        )
        self._reader.start()

    # -- what comes out --------------------------------------------------------------------

    def get_message_iterator(self) -> Iterator[Item | Barrier | None]:
        """Yield changes, listings of dirty directories, and fulfilled barriers; see the contract."""
        while True:
            self._absorb()
            yield from self._moves.tell()
            self._translator.expire()
            self._retries.retry_due()
            if not (self._work or self._following) and self._snapshot is None:
                self._polling.step()
            if not (self._work or self._following):
                yield from self._fulfil_barriers()
                yield None
                continue
            self._io_priority.restore()
            group = self._work.take_group()
            if group is not None:
                yield from self._moves.tell_between(self._looker.look(*group))
            if self._following:
                self._follow_one()
                yield None
            dirty = self._work.take_dirty()
            if dirty is not None:
                yield from self._moves.tell_between(self._list_dirty(*dirty))
            yield from self._fulfil_barriers()

    def get_snapshot_iterator(self) -> Iterator[Item | None]:
        """Yield everything in one pass: watch, list, look, send; see the contract."""
        return self._begin_snapshot(compares=False)

    def get_comparing_iterator(self) -> Iterator[Item | None]:
        """Yield what the receiver does not hold already; see the contract and `snapshot`."""
        return self._begin_snapshot(compares=True)

    def follow(self) -> None:
        """Walk the tree to set the watches, sending nothing; see the contract."""
        self._watching = True
        self._leads = False
        self._translator.give_up_moves()
        self._lister.forget_listings()
        self._snapshot = None
        self._following = [self._tree.root]
        self._followed_from = self.context.clock.stamp()

    def get_audit_iterator(self, kind: str) -> Iterator[Item | None]:
        """Yield what is there, or, if incremental, in directories that have changed; see the contract and `audit`."""
        self._audit = Audit(
            kind,
            walk=self._make_walk(self._tree.root),
            tree=self._tree,
            lister=self._lister,
            clock=self.context.clock,
            pace=self._make_pace(),
            absorb=self._go_on_with_audit,
            pause=self._pause_audit,
        )
        return self._moves.wait_between(self._audit.run())

    def scan_path(self, path: bytes, *, recursive: bool, job_id: str) -> Iterator[Item | None]:
        """Yield what is at and below a path; see the contract."""
        return self._moves.wait_between(self._scan(path, recursive=recursive, job_id=job_id))

    def _scan(self, path: bytes, *, recursive: bool, job_id: str) -> Generator[Item | None, None, None]:
        node, rest = self._tree.find(path)
        # First one look at its name, or at the topmost on the way that is no directory that is known: it may be gone.
        above, name = (node, rest[0]) if rest else (node.parent, node.name)
        complete = above is None
        if above is not None:
            for event in self._look_at(above, [name], MessageSource.ON_DEMAND):
                complete = True
                yield event
        directory, left = self._tree.find(path)
        walk = self._make_walk(directory)
        if len(left) < max(1, len(rest)):
            walk.begin()
        found = walk.add if recursive else self._mark_unlisted
        try:
            while walk:
                self._io_priority.restore()
                listed = False
                node, mark = walk.take()
                for item in self._lister.list_directory(node, MessageSource.ON_DEMAND, found, mark=mark):
                    listed = listed or isinstance(item, Listed)
                    yield item
                complete = complete and listed
                yield from self._absorb_and_wait()
        finally:
            walk.close()
        yield JobDone(
            index=self.context.clock.stamp(),
            message_source=MessageSource.ON_DEMAND,
            job_id=job_id,
            path=path,
            complete=complete,
        )

    def perform_sentinel_check(self, paths: Sequence[bytes]) -> Iterator[Item | None]:
        """Yield what is at these paths; directories, and names in directories that are not known, are left out."""
        return self._moves.wait_between(self._check(paths))

    def _check(self, paths: Sequence[bytes]) -> Generator[Item | None, None, None]:
        names: dict[Node, list[bytes]] = {}
        for path in paths:
            node, rest = self._tree.find(path)
            if len(rest) == 1:  # else it is a directory, or in one that is not known
                names.setdefault(node, []).append(rest[0])
        for node, members in names.items():
            yield from self._look_at(node, members, MessageSource.SENTINEL)
            yield from self._absorb_and_wait()

    # -- what goes in ----------------------------------------------------------------------

    def rescan(self, path: bytes, *, recursive: bool = True) -> None:
        """Look at a path again; see the contract."""
        node, rest = self._tree.find(path)
        if rest:
            self._work.look(node, rest[0])
        elif recursive:
            self._translator.mark_subtree_dirty(node)
        else:
            self._work.look_self(node)
            self._work.mark_dirty(node)
        self.wake()

    def barrier(self, token: str) -> None:
        """Read all that the kernel has queued and note what must be done before the answer."""
        if not self._watching:
            raise Unavailable("nothing is watched yet; the first snapshot has not been asked for")
        because = self._why_not_covered() or self._why_silent()
        if because is not None:
            raise Unavailable(because)
        self._reader.drain()
        self._absorb()
        self._translator.feed(())  # nothing more is to be waited for
        self._find_unrecorded()
        self._barriers.append((self._work.close_age(), token))

    def acknowledge(self, position: bytes) -> None:
        """Forget what the item covered, and remember a listing that it ended."""
        sent = self._inflight.take(position)
        self._settle_comparison(position, held=True)
        if sent is not None:
            sent.settle()
            if sent.node is not None and sent.moved:
                self._moves.settle(sent.node)

    def differs(self, position: bytes, *, known: bool) -> None:
        """Have a directory sent that the receiver does not hold as was said."""
        self._inflight.take(position)
        if self._snapshot is not None:
            self._snapshot.differs(position, known=known)

    def recover(self, position: bytes) -> None:
        """Look at what the item covered again, before any open barrier is fulfilled."""
        sent = self._inflight.take(position)
        self._settle_comparison(position, held=False)
        if sent is None:
            return
        if sent.node is None:
            self._barriers.append((self._work.close_age(), _END_OF_SNAPSHOT))
        elif sent.moved:
            self._moves.recover(sent.node)
        elif self._tree.get_path(sent.node) is not None or self._tree.is_detached(sent.node):
            if not sent.names:
                sent.node.arrived = True
                sent.node.void_listing()
                for child in sent.node.children.values():  # whose rows may have got lost with it
                    child.told = 0
                    child.arrived = True
                self._work.mark_dirty(sent.node, age=0)
            for name in sent.names:
                if name in sent.node.children:
                    sent.node.children[name].arrived = True
                self._work.look(sent.node, name, age=0)

    def wait(self, timeout_s: float) -> None:
        """Wait for records, `wake`, the next retry or the time-out, then take in the records."""
        for next_s in (self._retries.get_next_s(), self._polling.get_next_s() if self._snapshot is None else None):
            if next_s is not None:
                timeout_s = min(timeout_s, max(0.0, next_s - self._now()))
        if self._audit_goes_on_s is not None:
            timeout_s = min(timeout_s, max(0.0, self._audit_goes_on_s - self._now()))
            self._audit_goes_on_s = None  # waited for once: the lane may not be open yet
        goes_on = bool(self._following) or (self._snapshot is not None and self._snapshot.goes_on)
        self._wake_event.wait(0 if goes_on else timeout_s)
        self._wake_event.clear()
        self._absorb()

    def wake(self) -> None:
        """Make `wait` return."""
        self._wake_event.set()

    def get_status(self) -> SourceStatus:
        """Return how the source stands."""
        oldest = [age for age in (self._work.get_oldest_s(), self._inflight.get_oldest_s()) if age is not None]
        pressure = self._pressure.get_percent()
        return SourceStatus(
            pending=self._work.pending_count,
            dirty=self._work.dirty_count,
            captured=self._translator.captured,
            overflows=self._translator.overflows,
            rows=self._events.rows,
            lag_s=max(0.0, self._now() - min(oldest)) if oldest else 0.0,
            not_current_because=self._why_not_current(),
            progress=None if self._snapshot is None else self._snapshot.progress,
            audit=AuditCoverage() if self._audit is None else self._audit.coverage,
            skipped=self._retries.describe(),
            details={
                "directories": self._tree.size,
                "watches": self._tree.watch_count,
                "shards": len(self._shards),
                "shards_relisted": len(self._translator.relisted_shards),
                "relisted": self._translator.relisted,
                "unwatched": self._places.get_unwatched(),
                "polled": len(self._places.polled),
                "poll_round_ms": round(self._polling.round_s * 1000),
                "unreadable": len(self._retries.skipped),
                "listings": self._lister.listed,
                "moves": self._moves.told,
                "inflight": len(self._inflight),
                **({} if pressure is None else {
                    "pressure_percent": round(pressure), "audit_pace_percent": round(100 * self._pressure.get_share()),
                }),
            },
        )

    def record(self) -> Path:
        """Write the flight recorder out; see `recorder`."""
        path = self.context.state_dir / "recording.ndjson"
        self._recorder.write(path)
        return path

    def close(self) -> None:
        """End the reader and close the inotify instances; a second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._reader.stop()
            self._shards.close()

    # -- checks ----------------------------------------------------------------------------

    @classmethod
    def test_connection(cls, config: FsConfig) -> None:
        """Check that the root is a directory that can be listed."""
        root = config.get_root()
        try:
            with os.scandir(root) as entries:
                next(entries, None)
        except NotADirectoryError as err:
            raise ConfigError(f'uri "{config.uri}" is not a directory; name a directory') from err
        except OSError as err:
            raise Unavailable(f'uri "{config.uri}": {err.strerror}; create, mount or permit it') from err

    @classmethod
    def check_privileges(cls, config: FsConfig) -> Sequence[str]:
        """Compare the user's inotify limits and the root's permissions with what is needed."""
        return limits.check(config.get_root())

    @classmethod
    def get_available_fields(cls) -> frozenset[str]:
        """Return the fields of an fs row."""
        return frozenset(FsRow.__struct_fields__)

    # -- private ---------------------------------------------------------------------------

    def _absorb(self) -> None:
        if not self._reader.has_backlog():
            return
        backlog, overflowed = self._reader.take()
        for shard in overflowed:
            self._recorder.lost(shard)
            self._translator.overflow(shard)
        reads = []
        for left, (shard, data) in zip(reversed(range(len(backlog))), backlog, strict=True):
            records = parse_records(data, shard)
            self._recorder.read(shard, data, records, more=left > 0)
            reads.append((shard, records))
        joined = join_reads(reads)
        for start in range(0, len(joined), _FED_AT_ONCE):
            self.context.on_progress()  # a backlog may hold millions
            self._translator.feed(joined[start : start + _FED_AT_ONCE])
        if self._reader.take_mounts_changed():
            self._compare_mounts()

    def _go_on_in_background(self) -> None:
        """Take the next directory of a snapshot or an audit."""
        self._io_priority.lower()
        self._absorb()

    def _go_on_with_audit(self) -> Iterator[None]:
        self._go_on_in_background()
        yield from self._moves.wait()

    def _make_pace(self) -> Pace:
        return Pace(self.config.driver_params.audit_rows_per_s, self._now, get_share=self._pressure.get_share)

    def _absorb_and_wait(self) -> Iterator[None]:
        self._absorb()
        yield from self._moves.wait()

    def _tells_moves(self) -> bool:
        return self.takes_moves and self._leads and self._snapshot is None and self._moves.are_taken()

    def _make_walk(self, top: Node) -> Walk:
        return Walk(
            top,
            tree=self._tree,
            places=self._places,
            retries=self._retries,
            work=self._work,
            walks=self._moves.walks,
        )

    def _pause_audit(self, pause_s: float) -> None:
        self._audit_goes_on_s = self._now() + pause_s

    def _begin_snapshot(self, *, compares: bool) -> Iterator[Item | None]:
        self._watching = self._leads = True
        self._translator.give_up_moves()
        self._following.clear()
        self._lister.forget_listings()
        # Owed until one ends: one that is cut off leaves parts of the tree unseen.
        self._snapshot = Snapshot(
            self._tree,
            self._lister,
            self._inflight,
            self.context.clock,
            absorb=self._go_on_in_background,
            compares=compares,
        )
        return self._moves.wait_between(self._run_snapshot(self._snapshot))

    def _run_snapshot(self, snapshot: Snapshot) -> Generator[Item | None, None, None]:
        yield from snapshot.run()
        self._snapshot = None
        yield self._make_snapshot_end(complete=snapshot.is_complete())

    def _settle_comparison(self, position: bytes, *, held: bool) -> None:
        if self._snapshot is not None:
            self._snapshot.settle(position, held=held)

    def _look_at(self, node: Node, names: Sequence[bytes], lane: MessageSource) -> Iterator[Item]:
        self._io_priority.restore()
        group = self._work.open_group(None)
        group.names = dict.fromkeys(names, True)
        return self._looker.look(node, group, lane)

    def _mark_unlisted(self, node: Node) -> None:
        if self._places.needs_listing(node):
            self._work.mark_dirty(node, age=self._work.get_oldest_age())

    def _follow_one(self) -> None:
        node = self._following.pop()
        if self._tree.get_path(node) is None:
            return
        about_to_be_sent = self._work.is_dirty(node) or node.arrived or self._tree.get_arrived(node)
        if about_to_be_sent or node.listed > self._followed_from:
            self._following.extend(node.children.values())
            return
        for item in self._lister.list_directory(node, MessageSource.REALTIME, self._following.append):
            if item.position is not None:
                self._inflight.take(item.position)
        node.listed = -abs(node.listed)

    def _list_dirty(self, node: Node, mark: Group) -> Generator[Item, None, None]:
        def list_if_new(child: Node) -> None:
            if self._places.needs_listing(child):
                self._work.mark_dirty(child, age=mark.age)

        yield from self._lister.list_directory(node, MessageSource.REALTIME, list_if_new, mark=mark)

    def _fulfil_barriers(self) -> Iterator[Item | Barrier]:
        if self._snapshot is not None or self._following:
            return
        while self._barriers and self._work.is_done(self._barriers[0][0]):
            _, token = self._barriers.pop(0)
            yield self._make_snapshot_end(complete=True) if token == _END_OF_SNAPSHOT else Barrier(token)

    def _make_snapshot_end(self, *, complete: bool) -> SnapshotEnd:
        return SnapshotEnd(
            index=self.context.clock.stamp(),
            message_source=MessageSource.SNAPSHOT,
            complete=complete,
            position=self._inflight.add(None),
        )

    def _find_unrecorded(self) -> None:
        """
        Note what no record tells: another root, a mount, a place that may be readable by now.

        Raises:
            Unavailable: The root is not there.
        """
        root = self._tree.root
        try:
            status = os.stat(self._root)
        except OSError as err:
            self._work.mark_dirty(root)
            raise Unavailable(f'uri "{self.config.uri}": {err.strerror}; create, mount or permit it') from err
        if root.inode and not root.is_same(status.st_dev, status.st_ino):
            self._work.mark_dirty(root)
        self._compare_mounts()
        self._retries.retry_skipped()

    def _why_not_covered(self) -> str | None:
        root = self._retries.skipped.get(self._tree.root)
        if root is not None:
            return f'uri "{self.config.uri}": {root.reason}'
        count = self._places.get_unwatched()
        if count:
            every_s = self.config.driver_params.poll_interval_s
            return f"{count} directories are not watched but looked at every {every_s:g} s: {self._places.watch_error}"
        return None

    def _why_silent(self) -> str | None:
        if not self._places.polled:
            return None
        return f"{len(self._places.polled)} directories are on file systems that others change without an event here"

    def _why_not_current(self) -> str | None:
        if not self._watching:
            return "nothing is watched yet"
        if self._snapshot is not None:
            return "the snapshot is running"
        if self._following:
            return "watches are being set"
        if self._work.dirty_count:
            return f"{self._work.dirty_count} directories must be listed again"
        return self._why_not_covered()

    def _compare_mounts(self) -> None:
        changed = self._mounts.compare()
        self._places.silent_devices = self._mounts.silent_devices
        if changed:
            self._translator.give_up_moves()  # a directory that is under way is not found by its path
        for path in changed:
            node, rest = self._tree.find(path)
            if rest:
                self._work.look(node, rest[0])
            else:
                self._translator.mark_subtree_dirty(node)
