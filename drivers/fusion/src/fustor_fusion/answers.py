"""What readers are answered; nodes and changes are described where they are read."""

import msgspec
from msgspec import UNSET, UnsetType

from fustor_fusion.queries import TreeNode


class Refusal(msgspec.Struct, frozen=True):
    """Why a request was refused."""

    detail: str


class Subtree(TreeNode, frozen=True, kw_only=True, omit_defaults=True):
    """A node with what is below it."""

    children: "list[Subtree] | UnsetType" = UNSET


class TreeAnswer(Subtree, frozen=True, kw_only=True):
    """A subtree; `next` and `next_raw` name the last child of a page, `job_id` the scan that was asked for."""

    job_id: str | None
    job_pending: bool
    next: str | UnsetType | None = UNSET
    next_raw: str | UnsetType = UNSET


class ScanPending(msgspec.Struct, frozen=True):
    """A path is not known, but agents were asked to look at it."""

    job_id: str
    message: str = "Path not found, but a find has been triggered and is pending."
    job_pending: bool = True


class DryRun(msgspec.Struct, frozen=True):
    """A question could be answered."""

    view_id: str
    message: str = "dry-run"


class BlindSpots(msgspec.Struct, frozen=True):
    """What only an audit or an on-demand scan saw."""

    additions_count: int
    additions: list[TreeNode]
    deletion_count: int
    deletions: list[str]


class StatsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a view holds, and how it stands.

    The first thirteen are the public protocol's; `staleness_seconds` and `oldest_item_path` would need
    a look at every directory, and say nothing.
    """

    item_count: int
    total_files: int
    total_directories: int
    total_size: int
    latency_ms: float
    staleness_seconds: float = 0.0
    oldest_item_path: None = None
    has_blind_spot: bool
    suspect_file_count: int
    logical_now: float
    last_audit_finished_at: float | None
    audit_cycle_count: int
    is_auditing: bool
    files: int
    directories: int
    bytes: int
    blind_spot_count: int
    newest_index: int
    generation: str
    rows_applied: int
    lag_s: float | None
    leader_silent_s: float | None
    current: bool
    not_current_because: str | None
    damage: str | None


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A live session; `last_activity` is in seconds of Fusion's monotonic clock."""

    session_id: str
    task_id: str
    agent_id: str
    client_ip: str | None
    source_uri: str | None
    last_activity: float
    created_at: float
    allow_concurrent_push: bool = True
    session_timeout_seconds: float
    role: str
    can_snapshot: bool
    can_audit: bool
    can_realtime: bool
    can_send: bool = True


class SessionList(msgspec.Struct, frozen=True):
    """The live sessions of a view, oldest first."""

    view_id: str
    active_sessions: list[SessionInfo]
    count: int


class JobProgress(msgspec.Struct, frozen=True):
    """How many of the agents that were asked have reported."""

    completed_pipes: int
    total_pipes: int
    percentage: float


class JobInfo(msgspec.Struct, frozen=True):
    """An on-demand scan: `PENDING` or `COMPLETED`; what it has found so far, and whether all was looked at."""

    job_id: str
    view_id: str
    path: str
    status: str
    progress: JobProgress
    created_at: float
    completed_at: float | None
    rows: int
    complete: bool | None


class JobList(msgspec.Struct, frozen=True):
    """The on-demand scans of a view, oldest first."""

    jobs: list[JobInfo]


class SuspectsUpdated(msgspec.Struct, frozen=True):
    """How many of the files in an update were suspects."""

    view_id: str
    updated_count: int
    status: str = "ok"
