import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fustor_core.program.errors import AlreadyRunning, NotRunning, ProgramError
from fustor_core.program.pidfile import Program, acquire, open_holder

AGENT = Program("the agent", "fustor-agent")

HOLDER = """
import sys, pathlib
from fustor_core.program import pidfile
lock = pidfile.acquire(pathlib.Path(sys.argv[1]), pidfile.Program("the agent", "fustor-agent"))
print(flush=True)
input()
"""

# Ends without releasing the lock, and leaves a child that waits for its standard input.
FORKER = """
import os, sys, pathlib
from fustor_core.program import pidfile
lock = pidfile.acquire(pathlib.Path(sys.argv[1]), pidfile.Program("the agent", "fustor-agent"))
if os.fork() == 0:
    os.read(0, 1)
os._exit(0)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.pid"


def test_the_holder_is_found_and_nobody_else_can_acquire(path: Path) -> None:
    lock = acquire(path, AGENT)
    assert path.read_text() == f"{os.getpid()}\n"
    with open_holder(path) as holder:
        assert holder is not None
        assert holder.pid == os.getpid()
    with pytest.raises(AlreadyRunning) as caught:
        acquire(path, AGENT)
    assert caught.value.pid == os.getpid()
    lock.release()


def test_after_the_release_the_file_is_gone_and_can_be_acquired_again(path: Path) -> None:
    acquire(path, AGENT).release()
    assert not path.exists()
    with open_holder(path) as holder:
        assert holder is None
    acquire(path, AGENT).release()


@pytest.mark.parametrize("content", ["1\n", "", "nonsense", "99999999999999999999", f"{os.getpid()}\n"])
def test_a_file_that_nobody_locks_is_left_over_whatever_stands_in_it(path: Path, content: str) -> None:
    path.write_text(content)
    with open_holder(path) as holder:
        assert holder is None
    lock = acquire(path, AGENT)
    assert path.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_number_that_is_not_the_lock_holders_is_never_believed(path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        path.write_text(f"{other.pid}\n")
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(ProgramError, match="is locked, but not by pid"), open_holder(path, settle_s=0.1):
                pass
        assert other.poll() is None
    finally:
        other.communicate(b"\n")


def test_those_who_only_look_do_not_see_each_other(path: Path) -> None:
    path.write_text("1\n")
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with open_holder(path) as holder:
            assert holder is None


def test_a_holder_that_has_ended_is_not_running_any_more(path: Path) -> None:
    agent = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert agent.stdout is not None
    agent.stdout.readline()
    with open_holder(path) as holder:
        assert holder is not None
        assert holder.pid == agent.pid
        assert not holder.wait(0)
        holder.signal(signal.SIGKILL)
        assert holder.wait(10)
        agent.communicate()
        with pytest.raises(NotRunning):
            holder.signal(signal.SIGTERM)
    # The kernel let go of the lock; the file it left is of no consequence.
    assert path.exists()
    with open_holder(path) as holder:
        assert holder is None


def test_a_file_that_was_removed_under_the_holder_does_not_let_its_successors_collide(path: Path) -> None:
    first = acquire(path, AGENT)
    path.unlink()
    second = acquire(path, AGENT)
    with open_holder(path) as holder:
        assert holder is not None
    second.release()
    first.release()
    first.release()


def test_a_forked_child_does_not_hold_the_lock(path: Path) -> None:
    # The program ends, its child does not: it waits for its standard input.
    with subprocess.Popen([sys.executable, "-c", FORKER, path], stdin=subprocess.PIPE) as forker:
        assert forker.wait(60) == 0
        assert path.exists()
        with open_holder(path) as holder:
            assert holder is None


def test_a_link_in_place_of_the_file_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("keep")
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(ProgramError):
        acquire(path, AGENT)
    assert (tmp_path / "victim").read_text() == "keep"


@pytest.mark.parametrize("content", [b"nonsense", b"9" * 30])
def test_a_lock_of_something_that_is_no_agent_is_an_error_that_names_the_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ProgramError, match="is locked, but not by"), open_holder(path, settle_s=0.05):
            pass
