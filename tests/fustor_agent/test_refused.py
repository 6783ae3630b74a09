import base64
import json
import os
import stat
from pathlib import Path

from fustor_agent.refused import record_refused
from fustor_core.drivers import RefusedRow


def test_refused_rows_are_appended_with_their_exact_bytes_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "refused.ndjson"
    before = os.umask(0)
    try:
        record_refused(path, "p", [RefusedRow(b"/a \xff\n\"b", "too long"), RefusedRow(b"/c", "too \udc80 odd")])
        record_refused(path, "q", [RefusedRow(b"/d", "")])
    finally:
        os.umask(before)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [(line["pipe"], base64.b64decode(line["raw"])) for line in lines] == [
        ("p", b"/a \xff\n\"b"),
        ("p", b"/c"),
        ("q", b"/d"),
    ]
    assert (lines[0]["path"], lines[0]["reason"]) == ("/a \ufffd\n\"b", "too long")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
