"""Rows that a receiver refused for good, one JSON line each, so that nothing is dropped in silence."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fustor_agent.timestamps import format_now
from fustor_core.drivers import RefusedRow


def record_refused(path: Path, pipe_id: str, rows: Sequence[RefusedRow]) -> None:
    """
    Append refused rows to the file; several processes may do so at once.

    Args:
        path: `state/refused.ndjson`.
        pipe_id: Whose rows.
        rows: Paths may hold any bytes; they stand exactly in `raw`, base64.
    """
    lines = b"".join(
        msgspec.json.encode(
            {
                "at": format_now(),
                "pipe": pipe_id,
                "path": row.path.decode("utf-8", "replace"),
                "raw": base64.b64encode(row.path).decode(),
                # It may quote a path, decoded as Python decodes names: that is no UTF-8 by itself.
                "reason": row.reason.encode("utf-8", "backslashreplace").decode(),
            }
        )
        + b"\n"
        for row in rows
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(lines)
