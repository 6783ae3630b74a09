"""
The driver contract: what a source and a pusher must do, and how they are called.

Drivers are found through the entry point groups `fustor.drivers.sources` and
`fustor.drivers.pushers`; the entry point's name is the `type` in the configuration.
They are imported only in their worker, after the fork.

A **source driver** is called from one thread, the worker's pump. Its iterators are
cooperative: they yield an item, or None for "nothing at this moment", and never block;
`wait` is the one method that may. So a driver needs no lock, and the order in which
items come out of all iterators together is the order of their indices.

A **pusher driver** is called from three threads at once: `push` and what is told between
pushes from one, `heartbeat` from one, `poll_commands` and `get_sentinel_tasks` from one.
It keeps one connection for each.

Drivers raise only from `fustor_core.errors`.
"""

import abc
import enum
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import msgspec

from fustor_core.clock import IndexClock
from fustor_core.errors import SessionLost
from fustor_event_model import AnyItem, FsItem, MessageSource

SOURCES_GROUP = "fustor.drivers.sources"
PUSHERS_GROUP = "fustor.drivers.pushers"

AUDIT_KINDS = ("incremental", "full")


class Role(enum.Enum):
    """What Fusion lets a session do."""

    LEADER = "leader"
    FOLLOWER = "follower"


class OnProgress(Protocol):
    """What a driver calls while a call of it takes long, so that its worker is not taken for stuck."""

    def __call__(self, quiet_s: float = 0.0) -> None:
        """
        Say that the present call moves; cheap, but not for every byte.

        Args:
            quiet_s: The next sign, or the return, may take so long, as the answer to a request does
                that has a time limit; counts where it is longer than the worker's own limit.
        """


def _ignore_progress(quiet_s: float = 0.0) -> None:
    """Nobody waits."""


# -- what travels between the worker and a pusher driver ---------------------------------


class Scan(msgspec.Struct, frozen=True, tag="scan"):
    """Command from Fusion: look at a path and report what is there."""

    path: bytes
    job_id: str
    recursive: bool = True


class Sync(msgspec.Struct, frozen=True, tag="sync"):
    """Command from Fusion: say when all that happened before now has been delivered."""

    token: str


class StartSnapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """Command from Fusion or an operator: send the whole tree again."""


class StartAudit(msgspec.Struct, frozen=True, tag="audit"):
    """Command from Fusion or an operator: compare the tree with what was sent; `kind` is one of `AUDIT_KINDS`."""

    kind: str = "incremental"


class Verify(msgspec.Struct, frozen=True, tag="verify"):
    """Command from Fusion: look at files that may still be written."""

    paths: tuple[bytes, ...]


class Look(msgspec.Struct, frozen=True, tag="look"):
    """Command from Fusion: look at names again; what is found comes as changes, before any later `Sync` is answered."""

    paths: tuple[bytes, ...]


Command: TypeAlias = Scan | Sync | StartSnapshot | StartAudit | Verify | Look


class Session(msgspec.Struct, frozen=True):
    """
    The pusher's business with a receiver.

    Args:
        id: The receiver's name for it; a secret where it is the credential for pushing.
        role: What the session may send.
        timeout_s: The receiver forgets the session when no heartbeat came for this long.
        audit_interval_s: As the receiver wishes; None keeps the configured value, 0 is never.
        sentinel_interval_s: How often `get_sentinel_tasks` is called while the session leads; None or 0 is never.
        commits: An accepted push is applied, durable, and idempotent by (epoch, lane, seq).
            False: accepted only means queued, and old bytes must never be sent again.
        has_commands: `poll_commands` works; otherwise commands come with heartbeats only.
        generation: Names the receiver's database; a new one holds nothing of what was sent.
        compares: The receiver takes `Unchanged`, and answers with `Differing` where it holds something else.
        takes_moves: The receiver takes `Moved`.
    """

    id: str
    role: Role
    timeout_s: float
    audit_interval_s: float | None = None
    sentinel_interval_s: float | None = None
    commits: bool = False
    has_commands: bool = False
    generation: str = ""
    compares: bool = False
    takes_moves: bool = False


class Heartbeat(msgspec.Struct, frozen=True):
    """A receiver's answer to a heartbeat."""

    role: Role
    commands: tuple[Command, ...] = ()


class Batch(msgspec.Struct, frozen=True):
    """
    Items of one message source under one name.

    Args:
        epoch: The data link's incarnation; grows for ever.
        lane: The message source.
        seq: 1, 2, 3 … within (epoch, lane).
        items: `encode_items` of the events and signals, in order.
        rows: How many rows the items hold.
    """

    epoch: int
    lane: MessageSource
    seq: int
    items: msgspec.Raw
    rows: int


class RefusedRow(msgspec.Struct, frozen=True):
    """A row that the receiver will never take."""

    path: bytes
    reason: str


class Differing(msgspec.Struct, frozen=True, array_like=True):
    """
    An `Unchanged` that does not hold: the receiver has something else there.

    Args:
        position: As in the signal.
        known: The receiver has something there; otherwise nothing can be below it either.
    """

    position: bytes
    known: bool


NotTaken: TypeAlias = RefusedRow | Differing


def make_session_name() -> str:
    """Return a name that nobody else has and nobody guesses: 32 hex digits."""
    return secrets.token_hex(16)


class PusherContext(msgspec.Struct, frozen=True):
    """
    What a pusher driver is given besides its configuration.

    Args:
        pipe_id: The pipe it works for.
        schema: Row type of the source.
        agent_id: Names this agent to the receiver, stable across restarts.
        state_dir: A directory of its own, mode 0700.
        propose_session: Returns a name for the session that is to be opened next, a secret of 32 hex digits.
            It is kept until the session is: who dies before the answer came is followed by one that gets the
            same. So a receiver that takes the name opens no second session.
        on_progress: To be called by a `push` that makes several requests, or waits for long.
        read_clock: Says what the clock that stamps the source's items says now. A receiver that is told with
            each push can compare the items of agents whose clocks differ.
    """

    pipe_id: str
    schema: str
    agent_id: str
    state_dir: Path
    propose_session: Callable[[], str] = make_session_name
    on_progress: OnProgress = _ignore_progress
    read_clock: Callable[[], int] | None = None


class PusherDriver(abc.ABC):
    """
    Sends batches to one receiver, under a session.

    Args:
        config: The sender's `config` mapping, converted to `Config`.
        context: What the worker provides.
    """

    Config: ClassVar[type[msgspec.Struct]]

    def __init__(self, config: Any, context: PusherContext) -> None:
        self.config = config
        self.context = context

    @abc.abstractmethod
    def open_session(self) -> Session:
        """
        Open a new session.

        Raises:
            Unavailable: Try again later.
            ConfigError: The receiver refuses the credential or the view; a person must act.
        """

    def resume_session(self, session: Session) -> Session:
        """
        Go on with a session of a predecessor, as if it had never ended.

        Raises:
            SessionLost: The receiver does not know it any more (also the default).
            Unavailable: Try again later.
        """
        raise SessionLost(f"session {session.id[:8]}… cannot be resumed")

    @abc.abstractmethod
    def heartbeat(self, session: Session, *, can_realtime: bool) -> Heartbeat:
        """
        Keep the session alive, learn the role and take commands.

        Raises:
            SessionLost, Unavailable.
        """

    @abc.abstractmethod
    def close_session(self, session: Session) -> None:
        """End the session, so that a follower can lead at once. Never raises Unavailable twice for one call."""

    @abc.abstractmethod
    def push(self, session: Session, batch: Batch) -> Sequence[NotTaken]:
        """
        Deliver one batch; returns when the receiver has accepted it.

        Returns:
            Rows that the receiver refuses for good, and, if `session.compares`, what differs at the
            receiver; all else was accepted.

        Raises:
            Unavailable: Nothing was applied; the same batch may be pushed again.
            Uncertain: Unknown whether it was applied, or it holds a `Moved` that the receiver cannot follow.
                If `session.commits`, raised only for the latter.
            SessionLost: Open a new session first.
        """

    def poll_commands(self, session: Session, *, wait_s: float) -> Sequence[Command]:
        """Wait up to `wait_s` for commands; called only if `session.has_commands`."""
        return ()

    def report_barrier(self, session: Session, token: str, *, error: str | None) -> None:
        """Tell the receiver that a `Sync` is fulfilled, or why it cannot be."""

    def begin_audit(self, session: Session) -> None:
        """
        Tell the receiver that an audit begins, before anything that it finds is pushed.

        Raises:
            As `push`; after Unavailable it is called again.
        """

    def end_audit(self, session: Session, *, complete: bool) -> None:
        """
        Tell the receiver that an audit is over, once all that it said was accepted or given up.

        Called for each audit that began in the session, perhaps on a successor of this driver.

        Args:
            session: The session.
            complete: All was looked at and accepted. An audit that failed or was cut off must delete nothing.

        Raises:
            As `push`; after Unavailable it is called again.
        """

    def get_sentinel_tasks(self, session: Session) -> Sequence[bytes]:
        """
        Return paths that the receiver wants to have looked at, absolute below the root.

        What is there comes as batches of the lane `sentinel`.

        Raises:
            SessionLost, Unavailable.
        """
        return ()

    def get_needed_fields(self) -> frozenset[str]:
        """Return the names of the row fields that the receiver uses; empty means all."""
        return frozenset()

    @classmethod
    def digest_files(cls, config: Any) -> str:
        """
        Return a digest of the files that the configuration names and the driver reads at its start; optional.

        A reload that finds another one than the last start or reload starts the driver again. Raises nothing for a
        file that cannot be read: that is a digest too.
        """
        return ""

    @abc.abstractmethod
    def test_connection(self) -> None:
        """
        Check that the receiver answers and takes the credential, without opening a session.

        Raises:
            Unavailable, ConfigError.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Release connections and files; the session is not closed by this."""


# -- sources ------------------------------------------------------------------------------

Item: TypeAlias = AnyItem | FsItem


class Barrier(msgspec.Struct, frozen=True):
    """Yielded by a message iterator once all that was before the barrier has been yielded."""

    token: str


class AuditCoverage(msgspec.Struct, frozen=True):
    """
    What the running audit, or the last one, has looked at.

    Args:
        listed: Directories that were listed completely.
        skipped: Directories that were passed over, since nothing in them was made, removed or renamed.
        unreadable: Directories that could not be listed, or moved meanwhile.
        rows: Rows that were sent for them.
    """

    listed: int = 0
    skipped: int = 0
    unreadable: int = 0
    rows: int = 0


class SourceStatus(msgspec.Struct, frozen=True):
    """
    How a source stands now.

    Args:
        pending: Places that are known to have changed and were not sent yet.
        dirty: Subtrees or tables that must be read again.
        captured: Changes seen since the driver started.
        overflows: How often happenings were dropped by the system and replaced by a rescan.
        rows: Rows produced since the driver started, all lanes.
        lag_s: Age of the oldest change that was seen and not acknowledged.
        not_current_because: Why not everything is covered; None when all is.
        audit: What the running or last audit covers.
        skipped: Places that could not be read, with the reason; at most the first hundred.
        details: Further numbers, for people.
        progress: Which part of the running snapshot is done, from 0 to 1, as far as can be told; None without one.
    """

    pending: int = 0
    dirty: int = 0
    captured: int = 0
    overflows: int = 0
    rows: int = 0
    lag_s: float = 0.0
    not_current_because: str | None = None
    audit: AuditCoverage = AuditCoverage()
    skipped: Mapping[str, str] = {}
    details: Mapping[str, int] = {}
    progress: float | None = None


class SourceContext(msgspec.Struct, frozen=True):
    """
    What a source driver is given besides its configuration.

    Args:
        pipe_id: The pipe it works for.
        clock: Stamps observations.
        state_dir: A directory of its own, mode 0700.
        max_pending: How many changed places to remember one by one.
        on_progress: To be called, in the thread that called the driver, by what looks at much and yields little.
    """

    pipe_id: str
    clock: IndexClock
    state_dir: Path
    max_pending: int = 100_000
    on_progress: OnProgress = _ignore_progress


class SourceDriver(abc.ABC):
    """
    Watches one source and says what is there.

    Args:
        config: The source's `config` mapping, converted to `Config`.
        context: What the worker provides.
    """

    Config: ClassVar[type[msgspec.Struct]]
    schema: ClassVar[str]
    takes_moves: bool = False
    """The receiver takes `Moved`; set before a snapshot or `follow` is asked for, whenever a session begins."""

    def __init__(self, config: Any, context: SourceContext) -> None:
        self.config = config
        self.context = context
        self.log = logging.getLogger(type(self).__module__)

    @abc.abstractmethod
    def get_message_iterator(self) -> Iterator[Item | Barrier | None]:
        """
        Start watching and yield changes as they happen, and fulfilled barriers.

        Before a snapshot or `follow` nothing is watched and only None comes. Never ends.
        """

    @abc.abstractmethod
    def get_snapshot_iterator(self) -> Iterator[Item | None]:
        """
        Yield everything that is there, once, ending with a `SnapshotEnd`.

        What is being listed is watched before it is listed, so that nothing falls between
        the snapshot and the messages. Closing the iterator cuts the snapshot off.
        """

    def get_comparing_iterator(self) -> Iterator[Item | None]:
        """
        Yield what `get_snapshot_iterator` does, for a receiver that may hold it already; optional.

        Instead of its rows and `Listed`, a directory may be `Unchanged`. The iterator does not end before
        all of these were acknowledged, recovered, or yielded whole since the receiver `differs`.
        """
        return self.get_snapshot_iterator()

    @abc.abstractmethod
    def follow(self) -> None:
        """Begin to watch without a snapshot: yields changes only (a follower's part)."""

    def get_audit_iterator(self, kind: str) -> Iterator[Item | None]:
        """
        Look at the source again, between `AuditStart` and `AuditEnd`; optional.

        An audit that could not look at all of its part ends with `complete=False`. One that is
        closed before its end says nothing more.

        Args:
            kind: `full` looks at everything; `incremental` may pass over what it can tell to be unchanged
                since the receiver acknowledged it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no audit")

    def perform_sentinel_check(self, paths: Sequence[bytes]) -> Iterator[Item | None]:
        """
        Look at files that may still be written and yield what is there, on the sentinel lane.

        The default marks them, so that what is found comes out of the message iterator.
        """
        for path in paths:
            self.rescan(path, recursive=False)
        return iter(())

    @abc.abstractmethod
    def scan_path(self, path: bytes, *, recursive: bool, job_id: str) -> Iterator[Item | None]:
        """Yield what is at and below a path, on the on-demand lane, ending with a `JobDone`."""

    @abc.abstractmethod
    def rescan(self, path: bytes, *, recursive: bool = True) -> None:
        """Mark a place to be read again; what is found comes out of the message iterator."""

    @abc.abstractmethod
    def barrier(self, token: str) -> None:
        """
        Take in all that has happened until now; the message iterator then yields
        `Barrier(token)` behind everything that this changed.

        Raises:
            Unavailable: Coverage is not complete, so the promise cannot be made; says why.
        """

    @abc.abstractmethod
    def acknowledge(self, position: bytes) -> None:
        """The receiver has accepted everything up to and with this item of its lane."""

    @abc.abstractmethod
    def recover(self, position: bytes) -> None:
        """
        The item of this position will never be acknowledged: what it covered must be
        looked at and yielded again.
        """

    def differs(self, position: bytes, *, known: bool) -> None:
        """
        The receiver does not hold what the `Unchanged` of this position says: it must be yielded whole.

        Args:
            position: As in the signal.
            known: As in `Differing`.
        """
        self.recover(position)

    def is_position_available(self, position: bytes) -> bool:
        """Tell whether the source can still go on from a position of an earlier run."""
        return False

    @abc.abstractmethod
    def wait(self, timeout_s: float) -> None:
        """
        Block until there may be something to yield, `wake` was called, or the time is over.
        Takes in happenings while it waits. Returns at once if something is there already.
        An iterator that has yielded None is asked again only after a `wait`, so a walk that
        goes at a bounded rate yields None and has `wait` return when it may go on.
        """

    @abc.abstractmethod
    def wake(self) -> None:
        """Make a running or the next `wait` return; the one method any thread may call."""

    @abc.abstractmethod
    def get_status(self) -> SourceStatus:
        """Return how the source stands."""

    def record(self) -> Path:
        """
        Write what happened last into a file in `context.state_dir` and return its path; optional.

        For finding out later what went wrong. It holds nothing that the source's files hold, and no secret.
        """
        raise NotImplementedError(f"{type(self).__name__} records nothing")

    @abc.abstractmethod
    def close(self) -> None:
        """Stop watching and release everything."""

    @classmethod
    @abc.abstractmethod
    def test_connection(cls, config: Any) -> None:
        """
        Check that the source is there and can be read.

        Raises:
            Unavailable: Not there now.
            ConfigError: It can never work as configured.
        """

    @classmethod
    @abc.abstractmethod
    def check_privileges(cls, config: Any) -> Sequence[str]:
        """Return one line for each privilege or limit that is missing; empty when all is well."""

    @classmethod
    @abc.abstractmethod
    def get_available_fields(cls) -> frozenset[str]:
        """Return the names of the fields of its rows."""
