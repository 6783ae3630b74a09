"""What requests and answers look like; see docs/protocol.md and the public protocol."""

from typing import Annotated, Literal

import msgspec

PROTOCOL = 1
COMPONENTS = "#/components/schemas/"


def _is_described_as(kind: type) -> msgspec.Meta:
    """Say in descriptions what a part is that is decoded later, for itself."""
    return msgspec.Meta(extra_json_schema={"$ref": COMPONENTS + kind.__name__})


class Hello(msgspec.Struct, frozen=True):
    """Answer to a look at whether the port is served."""

    message: str


class FustorHello(msgspec.Struct, frozen=True):
    """What our own agent adds when it creates a session."""

    protocol: int
    agent_id: str
    pipe_id: str
    schema: str = "fs"
    session_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32,64}$")] | None = None
    clock: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0


class ClientInfo(msgspec.Struct, frozen=True):
    """What an agent tells about itself."""

    source_uri: str | None = None
    client_ip: str | None = None


class CreateSession(msgspec.Struct, frozen=True):
    """Body of `POST session/`."""

    task_id: str
    session_timeout_seconds: float | None = None
    client_info: ClientInfo | None = None
    source_type: str | None = None
    fustor: FustorHello | None = None


class FustorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What our own agent learns about this Fusion."""

    protocol: int = PROTOCOL
    encodings: tuple[str, ...] = ("msgpack",)
    commits: bool = True
    commands: bool = True
    compares: bool = True
    moves: bool = True
    generation: str
    view_id: str


class SessionCreated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to `POST session/`."""

    session_id: str
    role: str
    session_timeout_seconds: float | int
    audit_interval_sec: float | None
    sentinel_interval_sec: float | None
    message: str
    fustor: FustorAnswer | None = None


class HeartbeatBody(msgspec.Struct, frozen=True):
    """Body of a heartbeat."""

    can_realtime: bool = False


class BarrierBody(msgspec.Struct, frozen=True):
    """Body of a barrier: the token is reached, or why it cannot be."""

    token: str
    error: str | None = None


class ScanCommand(msgspec.Struct, frozen=True, tag="scan"):
    """Look at a path and report what is there."""

    path: str
    raw: str
    recursive: bool
    job_id: str
    created_at: float


class SyncCommand(msgspec.Struct, frozen=True, tag="sync"):
    """Say when all that happened before now has been pushed."""

    token: str


class SnapshotCommand(msgspec.Struct, frozen=True, tag="snapshot"):
    """Send the whole tree again."""


class AuditCommand(msgspec.Struct, frozen=True, tag="audit"):
    """Compare the tree with what was sent."""

    kind: str = "full"


class VerifyCommand(msgspec.Struct, frozen=True, tag="verify"):
    """Look at files that may still be written; their paths' bytes in base64url."""

    paths: list[str]


class LookCommand(msgspec.Struct, frozen=True, tag="look"):
    """Look at names again and push what is there as changes; their paths' bytes in base64url."""

    paths: list[str]


Command = ScanCommand | SyncCommand | SnapshotCommand | AuditCommand | VerifyCommand | LookCommand


class CommandList(msgspec.Struct, frozen=True):
    """Answer to a poll for commands."""

    commands: list[Command]


class Discovered(msgspec.Struct, frozen=True):
    """Answer to `GET session/`: the first view that the key is for."""

    view_id: str | None
    status: str = "authorized"


class Closed(msgspec.Struct, frozen=True):
    """Answer to the end of a session."""

    session_id: str
    status: str = "terminated"


class Done(msgspec.Struct, frozen=True):
    """Answer that says no more than that it was taken."""

    status: str = "ok"


class HeartbeatAnswer(msgspec.Struct, frozen=True):
    """Answer to a heartbeat; a public agent insists on each of these fields."""

    role: str
    commands: list[ScanCommand]
    status: str = "ok"
    message: str | None = None
    can_realtime: bool | None = None


class RefusedAnswer(msgspec.Struct, frozen=True):
    """A row that is never taken: the path's bytes in base64, and why."""

    path: str
    reason: str


class DifferingAnswer(msgspec.Struct, frozen=True):
    """A directory that is not unchanged: the position of its signal in base64, and whether anything is stored in it."""

    position: str
    known: bool


class PushAnswer(msgspec.Struct, frozen=True):
    """Answer to a push, given after the commit; `differing` is for those of our own protocol only."""

    count: int
    refused: list[RefusedAnswer] = []
    status: str = "ok"
    differing: list[DifferingAnswer] | msgspec.UnsetType = msgspec.UNSET


class PublicRow(msgspec.Struct, frozen=True):
    """A row as public agents send it."""

    path: str | None = None
    file_path: str | None = None
    size: int | float | None = None
    modified_time: float | None = None
    created_time: float | None = None
    is_directory: bool | None = None
    is_dir: bool | None = None
    is_atomic_write: bool | None = None
    audit_skipped: bool | None = None


class PublicEvent(msgspec.Struct, frozen=True):
    """One event of a public agent; its rows are looked at one by one."""

    event_type: Literal["insert", "update", "delete"]
    fields: list[str]
    rows: list[Annotated[msgspec.Raw, _is_described_as(PublicRow)]]
    event_schema: str
    table: str
    message_source: Literal["realtime", "snapshot", "audit", "on_demand_job"] = "realtime"


class NoticeTaken(msgspec.Struct, frozen=True):
    """Answer to the notice that a scan is over."""

    status: str = "ok"
    phase: str = "job_complete"


class AuditSignalled(msgspec.Struct, frozen=True):
    """Answer to an audit's signal: in how many views it did something."""

    status: str
    drivers_handled: int


class SentinelTasks(msgspec.Struct, frozen=True, omit_defaults=True):
    """Files that a public agent is to look at; empty without any."""

    type: str | None = None
    paths: list[str] | None = None
    view_id: str | None = None


class FeedbackTaken(msgspec.Struct, frozen=True):
    """Answer to what a public agent found at suspects."""

    drivers_updated: int
    status: str = "processed"


class FeedbackIgnored(msgspec.Struct, frozen=True):
    """Answer to feedback of another kind."""

    reason: str = "unknown_type"
    status: str = "ignored"


class PublicMetadata(msgspec.Struct, frozen=True):
    """What comes with a completion notice."""

    scan_path: str | None = None
    job_id: str | None = None


class PublicIngest(msgspec.Struct, frozen=True):
    """Body of `POST ingest/{sid}/events`."""

    events: list[PublicEvent]
    source_type: str = "message"
    is_end: bool = False
    metadata: PublicMetadata | None = None


class SentinelUpdate(msgspec.Struct, frozen=True):
    """What a public agent found at the path of a suspect."""

    path: str
    mtime: float
    size: int | None = None
    status: str = "exists"


class SentinelFeedback(msgspec.Struct, frozen=True):
    """Body of `POST consistency/sentinel/feedback`; its updates are looked at one by one."""

    type: str = ""
    updates: list[Annotated[msgspec.Raw, _is_described_as(SentinelUpdate)]] = []


class SuspectUpdate(msgspec.Struct, frozen=True):
    """The time of a suspect's last change, as somebody found it, under either name; without it nothing is said."""

    path: str
    mtime: float | None = None
    current_mtime: float | None = None


class SuspectsBody(msgspec.Struct, frozen=True):
    """Body of `PUT suspect-list`."""

    updates: list[SuspectUpdate]
