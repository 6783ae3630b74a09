import subprocess
import sys
import time
from pathlib import Path

from fustor_core.program.silence import STALE_S, explain_silence, find_obstacle
from namespaces import unshare

# Mounts a small file system, looks at it when it is new, when it is full, and when it is read-only.
SCRIPT = """
import subprocess, sys
from pathlib import Path
from fustor_core.program.silence import find_obstacle

place = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=True)
print(find_obstacle(place))
try:
    with open(place / "fill", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError:
    print(find_obstacle(place))
(place / "fill").unlink()
subprocess.run(["mount", "-o", "remount,ro", place], check=True)
print(find_obstacle(place))
"""


def test_a_fresh_status_and_one_that_does_not_say_when_it_was_made_are_no_silence(tmp_path: Path) -> None:
    status, log = tmp_path / "status.json", tmp_path / "a.log"
    assert explain_silence("it", time.monotonic(), status, log) is None
    assert explain_silence("it", None, status, log) is None


def test_an_old_status_is_silence_and_the_log_may_tell_why(tmp_path: Path) -> None:
    published_s = time.monotonic() - STALE_S - 5
    said = explain_silence("it", published_s, tmp_path / "status.json", tmp_path / "a.log")
    assert said is not None
    assert said.startswith("it has not published its status for ")
    assert said.endswith(f" s; see {tmp_path}/a.log")


def test_a_full_disk_and_a_read_only_one_are_named(tmp_path: Path) -> None:
    words = [*unshare("--mount"), sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.splitlines() == [
        "None",
        f'"{tmp_path}" is on a full disk; free space on it',
        f'"{tmp_path}" is on a read-only file system; make it writable',
    ]
    assert find_obstacle(tmp_path) is None
