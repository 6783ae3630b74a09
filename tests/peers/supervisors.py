"""supervisord and circus, as released, each as the supervisor of the same few lines of shell; and ours beside them."""

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from released import install

REQUIREMENTS: Final = ("supervisor==4.3.0", "circus==0.19.0")


class Supervised(ABC):
    """
    A supervisor with so many equal workers.

    Each writes its pid into a pipe once it is ready, and loops for ever on SIGUSR1.

    Args:
        home: An empty directory.
        count: How many workers.
    """

    name: str

    def __init__(self, home: Path, count: int) -> None:
        self.home = home
        self.count = count
        self.ready = home / "ready"
        os.mkfifo(self.ready)
        # Open for both, so that neither side waits for the other.
        self._pipe = os.fdopen(os.open(self.ready, os.O_RDWR), "rb", buffering=0)
        # The least that can be supervised: a shell that says that it is ready and waits for a word that never comes.
        os.mkfifo(home / "silence")
        self._silence = os.open(home / "silence", os.O_RDWR)
        self.program = home / "worker"
        lines = ("#!/bin/sh", "trap 'while :; do :; done' USR1", f"echo $$ > {self.ready}", f"read x < {home}/silence")
        self.program.write_text("\n".join(lines))
        self.program.chmod(0o755)
        with (home / "output").open("wb") as output:
            self.process = subprocess.Popen(self.make_command(), stdout=output, stderr=output, cwd=home)

    @abstractmethod
    def make_command(self) -> list[str]:
        """Write what it is configured with; return how it is started in the foreground."""

    def take_ready(self) -> int:
        """Wait until a worker says that it is ready; return its pid."""
        return int(self._pipe.readline())

    def fileno(self) -> int:
        """Return the descriptor that is readable when another worker is ready."""
        return self._pipe.fileno()

    def close(self) -> None:
        """Kill the supervisor; its workers are the caller's."""
        self.process.kill()
        self.process.wait()
        self._pipe.close()
        os.close(self._silence)


class Supervisord(Supervised):
    """supervisord with its defaults."""

    name = "supervisord 4.3.0"

    def make_command(self) -> list[str]:
        """As documented; every program of one group, restarted always."""
        config = self.home / "supervisord.conf"
        config.write_text(
            f"[supervisord]\nnodaemon=true\nlogfile={self.home}/log\npidfile={self.home}/pid\nminfds=8192\n"
            f"[program:worker]\ncommand={self.program}\nprocess_name=%(program_name)s_%(process_num)04d\n"
            f"numprocs={self.count}\nautorestart=true\n"
        )
        return [str(_install() / "supervisord"), "-c", str(config)]


class Circus(Supervised):
    """circusd with its defaults."""

    name = "circus 0.19.0"

    def make_command(self) -> list[str]:
        """As documented; without its statistics and web server."""
        config = self.home / "circus.ini"
        sockets = "".join(f"{key} = ipc://{self.home}/{key}\n" for key in ("endpoint", "pubsub_endpoint"))
        config.write_text(
            f"[circus]\n{sockets}statsd = false\n[watcher:worker]\ncmd = {self.program}\nnumprocesses = {self.count}\n"
        )
        return [str(_install() / "circusd"), str(config)]


class Ours(Supervised):
    """fustor-supervisor with its defaults."""

    name = "fustor-supervisor"

    def make_command(self) -> list[str]:
        """A program of twenty lines."""
        script = self.home / "program.py"
        script.write_text(_OURS.format(ready=str(self.ready), count=self.count))
        return [sys.executable, str(script)]


_OURS: Final = """\
import itertools, os, threading
from fustor_supervisor import Supervisor, WorkerSpec, leave

def work(runtime):
    woken = threading.Event()
    runtime.on_reopen_logs = woken.set
    runtime.on_stop(woken.set)
    runtime.ready()
    with open({ready!r}, "w") as pipe:
        pipe.write(f"{{os.getpid()}}\\n")
    woken.wait()
    while not runtime.stop_requested.is_set():
        runtime.report({{"turns": 1}}, owed=True)

supervisor = Supervisor(next_epoch=itertools.count(1).__next__)
supervisor.apply([WorkerSpec(f"worker {{number}}", work) for number in range({count})], [])
supervisor.run()
leave(0)
"""


def _install() -> Path:
    return install("supervisors", REQUIREMENTS)
