"""A source driver that yields what a test gives it, and notes what it is told."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from fustor_core.clock import IndexClock
from fustor_core.drivers import Barrier, Item, SourceContext, SourceDriver, SourceStatus
from fustor_core.errors import Unavailable
from fustor_event_model import DeleteEvent, FsPath, MessageSource, SnapshotEnd, Unchanged


class FakeSourceConfig(msgspec.Struct, frozen=True):
    uri: str = "/"


def make_gone(position: bytes, *, rows: int = 1, lane: MessageSource = MessageSource.REALTIME) -> Item:
    """Make an event of small rows."""
    paths = [FsPath(b"/%d" % number) for number in range(rows)]
    return DeleteEvent(
        index=1, message_source=lane, event_schema="fs", table="files", rows=paths, position=position
    )


def make_unchanged(position: bytes, *, count: int) -> Item:
    """Make the word that a directory with so many rows is unchanged."""
    return Unchanged(
        index=1, message_source=MessageSource.SNAPSHOT, path=b"/", position=position, count=count, digest=bytes(16)
    )


def make_end(position: bytes, *, complete: bool = True) -> Item:
    """Make the end of a snapshot."""
    return SnapshotEnd(index=1, message_source=MessageSource.SNAPSHOT, complete=complete, position=position)


class FakeSource(SourceDriver):
    """
    Yields what stands in `messages`, and per phase what its list holds.

    Args:
        on_wait: Called instead of waiting.
    """

    Config: ClassVar[type[FakeSourceConfig]] = FakeSourceConfig
    schema: ClassVar[str] = "fs"

    def __init__(self, on_wait: Callable[[], None] | None = None) -> None:
        context = SourceContext(pipe_id="p", clock=IndexClock(0), state_dir=Path("/nonexistent"))
        super().__init__(FakeSourceConfig(), context)
        self.messages: deque[Item | Barrier | None] = deque()
        self.snapshot: list[Item | None] = []
        self.audit: list[Item | None] | None = None
        self.scan: list[Item | None] = []
        self.check: list[Item | None] = []
        self.told: list[tuple[Any, ...]] = []
        self.refuses_barriers: str | None = None
        self.recording: Path | None = None
        self.waits: list[float] = []
        self.status = SourceStatus()
        self.woken = threading.Semaphore(0)
        self._awake = threading.Event()
        self._on_wait = on_wait

    def get_message_iterator(self) -> Iterator[Item | Barrier | None]:
        while True:
            yield self.messages.popleft() if self.messages else None

    def get_snapshot_iterator(self) -> Iterator[Item | None]:
        self.told.append(("snapshot",))
        return self._walk(list(self.snapshot))

    def get_comparing_iterator(self) -> Iterator[Item | None]:
        self.told.append(("comparing",))
        return self._walk(list(self.snapshot))

    def _walk(self, items: list[Item | None]) -> Iterator[Item | None]:
        try:
            yield from items
        except GeneratorExit:
            self.told.append(("snapshot cut off",))
            raise

    def follow(self) -> None:
        self.told.append(("follow",))

    def get_audit_iterator(self, kind: str) -> Iterator[Item | None]:
        if self.audit is None:
            return super().get_audit_iterator(kind)
        self.told.append(("audit", kind))
        return iter(list(self.audit))

    def scan_path(self, path: bytes, *, recursive: bool, job_id: str) -> Iterator[Item | None]:
        self.told.append(("scan", path, recursive, job_id))
        return iter(list(self.scan))

    def perform_sentinel_check(self, paths: Sequence[bytes]) -> Iterator[Item | None]:
        self.told.append(("check", tuple(paths)))
        return iter(list(self.check))

    def rescan(self, path: bytes, *, recursive: bool = True) -> None:
        self.told.append(("rescan", path, recursive))

    def barrier(self, token: str) -> None:
        if self.refuses_barriers is not None:
            raise Unavailable(self.refuses_barriers)
        self.messages.append(Barrier(token))

    def acknowledge(self, position: bytes) -> None:
        self.told.append(("acknowledge", position))

    def differs(self, position: bytes, *, known: bool) -> None:
        self.told.append(("differs", position, known))

    def recover(self, position: bytes) -> None:
        self.told.append(("recover", position))

    def wait(self, timeout_s: float) -> None:
        self.waits.append(timeout_s)
        if self._on_wait is not None:
            self._on_wait()
        else:
            self._awake.wait(timeout_s)
            self._awake.clear()

    def wake(self) -> None:
        self._awake.set()
        self.woken.release()

    def get_status(self) -> SourceStatus:
        return self.status

    def record(self) -> Path:
        self.told.append(("record",))
        if self.recording is None:
            return super().record()
        return self.recording

    def close(self) -> None:
        self.told.append(("close",))

    def get_told(self, *kinds: str) -> list[Any]:
        """Return what it was told of these kinds, in order: the position, or the whole entry if there is none."""
        return [entry[1] if len(entry) == 2 else entry for entry in self.told if entry[0] in kinds]

    @classmethod
    def test_connection(cls, config: Any) -> None:
        pass

    @classmethod
    def check_privileges(cls, config: Any) -> Sequence[str]:
        return ()

    @classmethod
    def get_available_fields(cls) -> frozenset[str]:
        return frozenset()
