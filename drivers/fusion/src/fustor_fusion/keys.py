"""The two keys of a Fusion server: made once, kept in files that only their owner can read."""

import os
import secrets
from pathlib import Path

AGENT_KEY_FILE = "fusion-agent.key"
READER_KEY_FILE = "fusion-reader.key"


def load_or_create_keys(state_dir: Path) -> tuple[str, str]:
    """
    Read the keys, making those that are missing or empty.

    Args:
        state_dir: Where the key files are; created (0700) when missing.

    Returns:
        The key that may push, and the key that may only read.

    Raises:
        OSError: A file cannot be read or written.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _load_or_create(state_dir / AGENT_KEY_FILE), _load_or_create(state_dir / READER_KEY_FILE)


def _load_or_create(path: Path) -> str:
    try:
        key = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        key = ""
    if key:
        path.chmod(0o600)
        return key
    key = secrets.token_urlsafe(32)
    # Written beside the target and renamed, so that no reader meets half a key.
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    return key
