"""What Fusion's answers mean for the caller; pure."""

import base64
import binascii
import json
import logging
import posixpath
from typing import Any, TypeVar

import msgspec

from fustor_core.drivers import (
    Command,
    Differing,
    Heartbeat,
    Look,
    NotTaken,
    RefusedRow,
    Role,
    Scan,
    Session,
    StartAudit,
    StartSnapshot,
    Sync,
    Verify,
)
from fustor_core.errors import ConfigError, FustorError, SessionLost, Unavailable
from fustor_pusher_fusion.client import Answer

log = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 3.0
"""What a session lasts if the answer does not say (fusion protocol, 1.3)."""
MAX_LOOKED_AT = 1_000


class _Extension(msgspec.Struct, frozen=True):
    protocol: int = 0
    encodings: list[str] = []
    commits: bool = False
    commands: bool = False
    compares: bool = False
    generation: str = ""
    moves: bool = False


class _Created(msgspec.Struct, frozen=True):
    session_id: str
    role: str | None = None
    session_timeout_seconds: float | None = None
    audit_interval_sec: float | None = None
    sentinel_interval_sec: float | None = None
    fustor: _Extension | None = None


class _Beat(msgspec.Struct, frozen=True):
    status: str = ""
    role: str | None = None
    commands: list[dict[str, Any]] | None = None


class _Refused(msgspec.Struct, frozen=True):
    path: str
    reason: str


class _Differing(msgspec.Struct, frozen=True):
    position: str
    known: bool


class _Pushed(msgspec.Struct, frozen=True):
    status: str = ""
    phase: str = ""
    refused: list[_Refused] = []
    differing: list[_Differing] = []


class _Tasks(msgspec.Struct, frozen=True):
    type: str = ""
    paths: list[str] = []


class _Processed(msgspec.Struct, frozen=True):
    drivers_updated: int = 0


def explain(answer: Answer, doing: str) -> FustorError:
    """Turn a status that is not a success, and means the same for every call, into an error."""
    text = f"{doing}: Fusion answers {answer.reason}"
    if answer.status in (401, 403):
        return ConfigError(f"{text}; correct credential, or have the key accepted by Fusion")
    if answer.status == 419:
        return SessionLost(text)
    if answer.status in (404, 405):
        text += "; if this stays, endpoint is not the port of Fusion that takes agents"
    elif 300 <= answer.status < 400:
        text += "; endpoint redirects, give the address that it leads to"
    return Unavailable(text, retry_after_s=answer.retry_after_s)


def read_created(answer: Answer) -> Session:
    """Read the answer to the creation of a session."""
    if answer.status == 409 and "locked" not in answer.reason:
        raise ConfigError(f"opening a session: Fusion answers {answer.reason}; correct view, or the key's views")
    if answer.status in (400, 422):
        raise ConfigError(f"opening a session: Fusion answers {answer.reason}; correct the sender's config")
    if not answer.ok:
        raise explain(answer, "opening a session")
    try:
        created = _decode(answer.body, _Created)
    except ValueError:
        raise Unavailable("opening a session: the answer is not Fusion's; check endpoint") from None
    if not created.session_id or "/" in created.session_id:
        raise Unavailable("opening a session: the answer names no usable session; check endpoint")
    ours = created.fustor
    if ours is not None and not (ours.protocol >= 1 and "msgpack" in ours.encodings and ours.commits):
        ours = None
    return Session(
        id=created.session_id,
        role=_role(created.role) or Role.FOLLOWER,
        timeout_s=created.session_timeout_seconds or DEFAULT_TIMEOUT_S,
        audit_interval_s=created.audit_interval_sec,
        sentinel_interval_s=created.sentinel_interval_sec if ours is None else None,  # it asks by a command
        commits=ours is not None,
        has_commands=ours is not None and ours.commands,
        generation=ours.generation if ours is not None else "",
        compares=ours is not None and ours.compares,
        takes_moves=ours is not None and ours.moves,
    )


def read_heartbeat(answer: Answer, role: Role) -> Heartbeat:
    """
    Read the answer to a heartbeat.

    Args:
        answer: The answer.
        role: The role until now; it stays if the answer names none.
    """
    if answer.status == 404:
        raise SessionLost(f"heartbeat: Fusion answers {answer.reason}")
    if not answer.ok:
        raise explain(answer, "heartbeat")
    try:
        beat = _decode(answer.body, _Beat)
    except ValueError:
        raise Unavailable("heartbeat: the answer is not Fusion's; check endpoint") from None
    if beat.status != "ok":
        raise Unavailable("heartbeat: Fusion reports an internal fault; see its log")
    return Heartbeat(role=_role(beat.role) or role, commands=_commands(beat.commands or []))


def read_commands(answer: Answer) -> tuple[Command, ...]:
    """Read the answer of the command channel."""
    if answer.status == 404:
        raise SessionLost(f"commands: Fusion answers {answer.reason}")
    if not answer.ok:
        raise explain(answer, "commands")
    try:
        return _commands(_decode(answer.body, _Beat).commands or [])
    except ValueError:
        raise Unavailable("commands: the answer is not Fusion's; check endpoint") from None


def read_pushed(answer: Answer) -> list[NotTaken] | None:
    """Read a success of a push; None when it is not Fusion that answered."""
    try:
        pushed = _decode(answer.body, _Pushed)
        if pushed.status != "ok":
            return None
        return [
            *(RefusedRow(base64.b64decode(one.path, validate=True), one.reason) for one in pushed.refused),
            *(Differing(base64.b64decode(one.position, validate=True), one.known) for one in pushed.differing),
        ]
    except ValueError:
        return None


def read_sentinel_tasks(answer: Answer) -> list[bytes]:
    """Read which paths are to be looked at."""
    if not answer.ok:
        raise explain(answer, "sentinel tasks")
    try:
        tasks = _decode(answer.body, _Tasks)
    except ValueError:
        raise Unavailable("sentinel tasks: the answer is not Fusion's; check endpoint") from None
    return [below_root(path.encode("utf-8", "surrogatepass")) for path in tasks.paths]


def was_processed(answer: Answer) -> bool:
    """Tell whether sentinel feedback reached a view."""
    try:
        return answer.ok and _decode(answer.body, _Processed).drivers_updated > 0
    except ValueError:
        return False


def below_root(path: bytes) -> bytes:
    """Make a path absolute and free of `..`, so that it cannot leave the source's root."""
    return b"/" + posixpath.normpath(b"/" + path).lstrip(b"/")


def _decode(body: bytes, kind: type[T]) -> T:
    """
    Decode JSON; a lone surrogate, which the public Fusion passes on from its users, spoils nothing.

    Raises:
        ValueError: It is not JSON, or not of the kind.
    """
    try:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.convert(json.loads(body), kind)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _role(name: str | None) -> Role | None:
    return next((role for role in Role if role.value == name), None)


def _commands(raw: list[dict[str, Any]]) -> tuple[Command, ...]:
    parsed = (_command(one) for one in raw)
    return tuple(command for command in parsed if command is not None)


def _command(raw: dict[str, Any]) -> Command | None:
    """Parse one command; None, and a line in the log, for one that is unknown or malformed."""
    kind = raw.get("type")
    if kind == "sync" and isinstance(raw.get("token"), str):
        return Sync(raw["token"])
    if kind == "snapshot":
        return StartSnapshot()
    if kind == "audit" and raw.get("kind", "incremental") in ("incremental", "full"):
        return StartAudit(raw.get("kind", "incremental"))
    if kind in ("verify", "look") and isinstance(raw.get("paths"), list):
        paths = [_scan_path({"raw": path}) for path in raw["paths"][:MAX_LOOKED_AT]]
        safe = tuple(below_root(path) for path in paths if path is not None)
        return Verify(safe) if kind == "verify" else Look(safe)
    if kind == "scan":
        path = _scan_path(raw)
        if path is not None:
            job = raw.get("job_id")
            return Scan(below_root(path), job if isinstance(job, str) else "", raw.get("recursive") is not False)
    log.warning("command skipped, unknown or malformed type=%.40r", kind)
    return None


def _scan_path(raw: dict[str, Any]) -> bytes | None:
    exact, text = raw.get("raw"), raw.get("path")
    try:
        if isinstance(exact, str) and exact:
            path = base64.b64decode(exact + "=" * (-len(exact) % 4), altchars=b"-_", validate=True)
        elif isinstance(text, str) and text:
            path = text.encode("utf-8", "surrogateescape")
        else:
            return None
    except (binascii.Error, UnicodeEncodeError):
        return None
    return None if b"\0" in path else path
