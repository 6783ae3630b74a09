import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import belonging_to, descendants, describe, is_alive, is_stopped, kill_all
from waiting import until

WAIT_FOR_EVER = "import signal; print('ready', flush=True); signal.pause()"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"FUSTOR_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", WAIT_FOR_EVER], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_child_is_a_descendant_until_it_dies(sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.pid in descendants(os.getpid())
    kill_all([sleeper.pid])
    assert sleeper.pid not in descendants(os.getpid())


def test_a_grandchild_is_a_descendant() -> None:
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAIT_FOR_EVER!r}])"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = descendants(os.getpid())
        kill_all(found)
    assert len(found) == 2


def test_a_process_that_waits_to_be_reaped_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    assert is_alive(sleeper.pid)
    sleeper.send_signal(signal.SIGKILL)
    until(lambda: not is_alive(sleeper.pid), within_s=10, what="the kill")
    assert Path(f"/proc/{sleeper.pid}").exists()


def test_a_process_belongs_to_the_home_in_its_environment(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert belonging_to(tmp_path) == {sleeper.pid}
    assert belonging_to(tmp_path / "other") == set()


def test_a_process_belongs_to_the_home_whose_files_it_holds_open(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (
        open(home / "log", "wb") as log,
        subprocess.Popen([sys.executable, "-c", WAIT_FOR_EVER], stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        found = belonging_to(home)
        process.kill()
    assert found == {process.pid}


def test_a_process_belongs_to_a_session() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAIT_FOR_EVER], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = belonging_to(Path("/nowhere"), [process.pid])
        process.kill()
    assert found == {process.pid}


def test_a_process_is_described_by_its_command(sleeper: subprocess.Popen[bytes]) -> None:
    assert str(sleeper.pid) in describe(sleeper.pid)
    assert "signal.pause" in describe(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert describe(sleeper.pid) == f"{sleeper.pid} (gone)"


def test_a_process_is_stopped_until_it_goes_on(sleeper: subprocess.Popen[bytes]) -> None:
    assert not is_stopped(sleeper.pid)
    sleeper.send_signal(signal.SIGSTOP)
    until(lambda: is_stopped(sleeper.pid), within_s=10, what="the stop")
    sleeper.send_signal(signal.SIGCONT)
    until(lambda: not is_stopped(sleeper.pid), within_s=10, what="its going on")
