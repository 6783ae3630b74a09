"""
Ends a test run that hangs where no exception can reach it.

pytest-timeout raises in the test, which is enough for most. It is not for a system call
that restarts, a forked child that the test waits for without end, or a signal that a test
has blocked. So a process outside of the run holds the last deadline: it kills pytest and
everything below it. Run as a script, this file is that process.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

from processes import descendants


class Watchdog:
    """
    The running end: says which test runs now and how long it may.

    Owns the watching process, which is no child of this one (tests count their children)
    and ends with it. `close` ends it earlier.
    """

    def __init__(self) -> None:
        read_end, self._write_end = os.pipe()
        starter = subprocess.Popen(
            [sys.executable, __file__, str(os.getpid()), str(read_end)],
            pass_fds=[read_end], start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )
        os.close(read_end)
        starter.wait()

    def arm(self, name: str, limit_s: float) -> None:
        """Give the named test so many seconds from now."""
        os.write(self._write_end, f"{limit_s} {name.splitlines()[0][:400]}\n".encode())

    def disarm(self) -> None:
        """Say that the test is over."""
        os.write(self._write_end, b"\n")

    def close(self) -> None:
        """End the watch."""
        os.close(self._write_end)


def watch(pid: int, orders: int) -> None:
    """Wait for orders until their end, or until the watched process is gone; kill it when a deadline passes."""
    pidfd = os.pidfd_open(pid)
    limit_s: float | None = None
    name, unread = "", b""
    while True:
        ready = select.select([orders, pidfd], [], [], limit_s)[0]
        if not ready:
            _end(pid, f"{name}: not over within {limit_s:g} s, the test run is killed")
            return
        data = os.read(orders, 65536) if orders in ready else b""
        if not data:
            return
        *lines, unread = (unread + data).split(b"\n")
        if lines:
            order = lines[-1].decode().partition(" ")
            limit_s, name = (float(order[0]), order[2]) if order[0] else (None, "")


def _end(pid: int, why: str) -> None:
    print(f"\n{why}", file=sys.stderr, flush=True)
    below = descendants(pid)
    os.kill(pid, signal.SIGABRT)  # faulthandler, if it can still run, prints the stacks
    time.sleep(1)  # that printing has no end that could be waited for
    for victim in [pid, *below, *descendants(pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


if __name__ == "__main__":
    if os.fork() == 0:
        watch(int(sys.argv[1]), int(sys.argv[2]))
    os._exit(0)
