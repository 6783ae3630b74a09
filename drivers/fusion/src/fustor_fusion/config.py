"""What one Fusion server is told."""

from pathlib import Path

import msgspec


class FusionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    The configuration of one Fusion server.

    Args:
        state_dir: Where the databases are; created when missing.
        views: The views it serves, by name; each has its own database.
        agent_key: The key that may push into all views (and read them).
        reader_key: The key that may only read all views.
        keys_file: Further keys, each for some of the views; changes are taken over at once.
        host: The address to listen on.
        allowed_hosts: Further names by which it may be asked, in the header `Host`.
        port: The port to listen on; 0 takes a free one.
        session_timeout_s: A session that does not ask for its own time-out ends when no
            heartbeat came for this long.
        audit_interval_s: What agents are told; None leaves it to them, 0 is never.
        sentinel_interval_s: How often files that may still be written are looked at; likewise.
        max_body_bytes: A longer request body is refused with 413.
    """

    state_dir: Path
    views: tuple[str, ...]
    agent_key: str | None = None
    reader_key: str | None = None
    keys_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8102
    allowed_hosts: tuple[str, ...] = ()
    session_timeout_s: float = 30.0
    audit_interval_s: float | None = None
    sentinel_interval_s: float | None = 120.0
    max_body_bytes: int = 64 * 1024 * 1024
