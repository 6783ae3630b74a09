"""A run of its own, since what is tested ends the whole run."""

import os
import subprocess
import sys
from pathlib import Path

from processes import is_alive
from waiting import until

LIB = Path(__file__).parent

HANGS = """
import os, signal, subprocess, sys
def test_that_hangs():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    with open(os.environ["CHILD"], "w") as report:
        report.write(str(child.pid))
    child.wait()
"""

LEAVES = """
import os, subprocess, sys
def test_that_leaves_a_process():
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    child.returncode = 0  # keeps subprocess from complaining itself
    with open(os.environ["CHILD"], "w") as report:
        report.write(str(child.pid))
"""

FAST = """
def test_that_passes():
    pass
"""


def run(tmp_path: Path, test: str) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run one test under a copy of the real conftest; returns its result and the pid that it wrote down."""
    conftest = (LIB.parent / "conftest.py").read_text().replace("_GRACE_S = 60.0", "_GRACE_S = 0.5")
    assert "_GRACE_S = 0.5" in conftest
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_one.py").write_text(test)
    report = tmp_path / "child"
    # The timeout of pytest-timeout is set to a signal that the test has blocked: only the watchdog is left.
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--import-mode=importlib", "-p", "no:cacheprovider", "-o", "timeout=1",
         "-o", f"pythonpath={LIB}", "--rootdir", tmp_path, tmp_path],
        env=os.environ | {"CHILD": str(report)}, capture_output=True, text=True, timeout=60, check=False,
    )
    return result, int(report.read_text()) if report.exists() else 0


def test_a_run_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    result, child = run(tmp_path, HANGS)
    assert result.returncode < 0
    assert "test_that_hangs: not over within 1.5 s, the test run is killed" in result.stderr
    until(lambda: not is_alive(child), within_s=30, what="the child to be gone")  # it is killed after its parent


def test_a_test_that_leaves_a_process_fails_and_the_process_is_killed(tmp_path: Path) -> None:
    result, child = run(tmp_path, LEAVES)
    assert result.returncode == 1
    assert "the test left processes behind" in result.stdout
    assert not is_alive(child)


def test_a_run_that_ends_is_left_alone(tmp_path: Path) -> None:
    result, _ = run(tmp_path, FAST)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout
