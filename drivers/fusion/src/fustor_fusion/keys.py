"""The two keys of a Fusion server: made once, kept in files that only their owner can read."""

from pathlib import Path

from fustor_core.program.secretfile import ensure_secret

AGENT_KEY_FILE = "fusion-agent.key"
READER_KEY_FILE = "fusion-reader.key"


def load_or_create_keys(state_dir: Path) -> tuple[str, str]:
    """
    Read the keys, making those that are missing.

    Args:
        state_dir: Where the key files are.

    Returns:
        The key that may push, and the key that may only read.

    Raises:
        ProgramError: A file cannot be read or made, holds no key, or others may read it.
    """
    return ensure_secret(state_dir / AGENT_KEY_FILE), ensure_secret(state_dir / READER_KEY_FILE)
