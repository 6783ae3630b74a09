"""Configuration files for tests."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Typed = Mapping[str, tuple[str, Mapping[str, Any]]]


def write_config(
    path: Path,
    *,
    sources: Typed,
    senders: Typed,
    pipes: Mapping[str, tuple[str, str]],
) -> Path:
    """
    Write a configuration; JSON is YAML.

    Args:
        path: The file.
        sources: Type and `config` by id.
        senders: Likewise.
        pipes: Source and sender by id.

    Returns:
        The file.
    """
    content = {
        "sources": [{"id": name, "type": kind, "config": config} for name, (kind, config) in sources.items()],
        "senders": [{"id": name, "type": kind, "config": config} for name, (kind, config) in senders.items()],
        "pipes": [
            {"id": name, "source_id": source, "sender_id": sender} for name, (source, sender) in pipes.items()
        ],
    }
    path.write_text(json.dumps(content, indent=1))
    return path
