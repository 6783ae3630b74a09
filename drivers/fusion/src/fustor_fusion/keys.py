"""The two keys of a Fusion server: made once, kept in files that only their owner can read."""

import secrets
from pathlib import Path

from fustor_core.program.atomic import write_atomically

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
    write_atomically(path, f"{key}\n".encode())
    return key
