"""A Fusion process that is killed keeps what it has answered."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import requests

from fustor_event_model import FsItem, FsRow, MessageSource, UpdateEvent, encode_items

PROGRAM = """
import sys
from pathlib import Path
from fustor_fusion import FusionConfig, FusionServer
config = FusionConfig(state_dir=Path(sys.argv[1]), views=("p",), agent_key="k", reader_key="r", port=0)
FusionServer(config).run(on_ready=lambda port: print(port, flush=True))
"""


class FusionProcess:
    """One Fusion in a process group of its own, killed at the end whatever happens."""

    def __init__(self, state_dir: Path) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(state_dir)], stdout=subprocess.PIPE,
                                        text=True, start_new_session=True)
        assert self.process.stdout is not None
        self.base = f"http://127.0.0.1:{self.process.stdout.readline().strip()}/api/v1"

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def make_body(seq: int) -> bytes:
    rows = [FsRow(b"n%d-%d" % (seq, number), 1, 1, 1, 0o100644, 0, 0, 1, 1, 1) for number in range(100)]
    items: list[FsItem] = [UpdateEvent(index=seq, message_source=MessageSource.REALTIME, event_schema="fs",
                                       table="files", rows=rows, prefix=b"/")]
    return b"\x94" + b"".join(map(msgspec.msgpack.encode, (1, "realtime", seq))) + encode_items(items)


def test_an_answered_batch_survives_a_kill_and_is_not_applied_again(tmp_path):
    headers = {"X-API-Key": "k"}
    first = FusionProcess(tmp_path)
    with requests.Session() as client:
        client.trust_env = False
        try:
            opened = client.post(first.base + "/pipe/session/", headers=headers, json={
                "task_id": "a:p", "fustor": {"protocol": 1, "agent_id": "a", "pipe_id": "p", "schema": "fs"}}).json()
            url = f"/pipe/ingest/{opened['session_id']}/batch"
            for seq in range(1, 21):
                assert client.post(first.base + url, headers=headers, data=make_body(seq)).json()["count"] == 100
        finally:
            first.kill()
        second = FusionProcess(tmp_path)
        try:
            stats = client.get(second.base + "/views/p/stats", headers=headers).json()
            assert (stats["total_files"], stats["generation"]) == (2000, opened["fustor"]["generation"])
            assert client.post(second.base + url, headers=headers, data=make_body(20)).json()["count"] == 0
            assert client.post(second.base + url, headers=headers, data=make_body(21)).json()["count"] == 100
        finally:
            second.kill()
