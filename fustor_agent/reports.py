"""What the workers of a pipe tell about themselves, in the `detail` of their progress messages."""

import msgspec


class SnapshotReport(msgspec.Struct, frozen=True):
    """
    The last or running snapshot of a source worker.

    Args:
        state: `none`, `running`, `done` (accepted by the receiver) or `failed`.
        rows: Rows sent so far.
        finished_at: When it was accepted, UTC, ISO 8601; None before.
        compared: Further rows, of which the receiver said, or is to say, whether it holds them already.
        progress: Which part of the running one is done, from 0 to 1, estimated; None if nobody can tell.
        left_s: In how many seconds it is over if it goes on as it did; None if nobody can tell.
    """

    state: str = "none"
    rows: int = 0
    finished_at: str | None = None
    compared: int = 0
    progress: float | None = None
    left_s: float | None = None


class AuditReport(msgspec.Struct, frozen=True):
    """
    The last or running audit of a source worker.

    Args:
        state: `none`, `running`, `done` (all was looked at, and accepted by the receiver) or `incomplete`.
        kind: `incremental` or `full`; "" before the first.
        directories_listed: Directories that were listed completely.
        directories_skipped: Directories that had not changed since their last listing.
        directories_unreadable: Directories that could not be listed, or moved meanwhile.
        rows: Rows sent.
        started_at: UTC, ISO 8601; None before the first.
        finished_at: When it was over, UTC, ISO 8601; None before.
    """

    state: str = "none"
    kind: str = ""
    directories_listed: int = 0
    directories_skipped: int = 0
    directories_unreadable: int = 0
    rows: int = 0
    started_at: str | None = None
    finished_at: str | None = None


class ScanReport(msgspec.Struct, frozen=True):
    """
    One on-demand scan of a source worker.

    Args:
        job_id: Names it.
        path: What is scanned, for people.
        state: `waiting`, `running`, `done` (all was looked at, and accepted by the receiver) or `incomplete`.
        directories: Directories that were listed completely so far.
        rows: Rows sent so far.
        complete: Whether all could be looked at, once that is known.
        asked_at: UTC, ISO 8601.
        finished_at: When it was over, UTC, ISO 8601; None before.
    """

    job_id: str
    path: str
    state: str = "waiting"
    directories: int = 0
    rows: int = 0
    complete: bool | None = None
    asked_at: str = ""
    finished_at: str | None = None


class SourceReport(msgspec.Struct, frozen=True, tag="source"):
    """
    A source worker's view of its pipe.

    Args:
        phase: `waiting` (no session yet), `snapshot`, `realtime` or `audit`.
        captured: Changes seen, this generation.
        pending: Changed places not sent yet.
        dirty: Subtrees to be read again.
        overflows: Happenings dropped by the system and replaced by rescans, this generation.
        sent: Rows handed to the pusher, this generation.
        lag_s: Age of the oldest change that is not acknowledged.
        not_current_because: Why the source does not cover everything; None when it does.
        snapshot: The last or running snapshot.
        refused: Rows that the receiver refused for good since the last accepted snapshot began.
        audit: The last or running audit.
        scans: On-demand scans, oldest first: the last ones that are over, and all that are not.
        skipped: Unreadable places (at most the first hundred) and why.
        details: Further numbers, for people.
    """

    phase: str = "waiting"
    captured: int = 0
    pending: int = 0
    dirty: int = 0
    overflows: int = 0
    sent: int = 0
    lag_s: float = 0.0
    not_current_because: str | None = "starting"
    snapshot: SnapshotReport = SnapshotReport()
    refused: int = 0
    audit: AuditReport = AuditReport()
    scans: list[ScanReport] = []
    skipped: dict[str, str] = {}
    details: dict[str, int] = {}


class PusherReport(msgspec.Struct, frozen=True, tag="pusher"):
    """
    A pusher worker's view of its pipe.

    Args:
        role: `leader`, `follower`, or None without a session.
        session: The first eight characters of the session's id (the whole of it may be a credential).
        pushed: Rows sent to the receiver, this generation.
        acknowledged: Rows accepted by the receiver, this generation.
        lost: Rows that the receiver refused for good, this generation; also in state/refused.ndjson.
        error: Why the receiver cannot be reached now; None when it can.
    """

    role: str | None = None
    session: str | None = None
    pushed: int = 0
    acknowledged: int = 0
    lost: int = 0
    error: str | None = None


class FusionReport(msgspec.Struct, frozen=True, tag="fusion"):
    """The embedded Fusion's totals per view: `{view: {"files": n, "directories": n, "bytes": n}}`."""

    views: dict[str, dict[str, int]] = {}


WorkerReport = SourceReport | PusherReport | FusionReport
