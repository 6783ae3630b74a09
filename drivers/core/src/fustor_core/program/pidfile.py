"""
The PID file: says which process is the running program, and lets only one run.

It is held by `flock` for as long as the program runs; the kernel lets go of it however the
program ends. The number inside is only a hint: it may be left over, and may by now belong to
another program. So a holder is believed only when the lock is held *and* that very process
has that very file open, and it is signalled only through a pidfd that was opened before
this was checked (`man 2 pidfd_open`: the number can be reused, the descriptor cannot).
"""

import contextlib
import fcntl
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fustor_core.program.errors import AlreadyRunning, NotRunning, ProgramError

_LONGEST_CONTENT = 32
_SETTLE_S = 2.0
_SETTLE_STEP_S = 0.02
_KILL_S = 5.0


class Program(msgspec.Struct, frozen=True):
    """
    What a program is called when people are told about it.

    Args:
        name: In a sentence, `the agent`.
        command: On the command line, `fustor-agent`.
    """

    name: str
    command: str

    def not_running(self) -> NotRunning:
        """Make the error that says so."""
        return NotRunning(f"{self.name} is not running")

    def already_running(self, pid: int) -> AlreadyRunning:
        """Make the error that names the process and the remedy."""
        remedy = f"stop it with `{self.command} stop`"
        return AlreadyRunning(f"{self.name} is already running, pid {pid}; {remedy}", pid=pid)


class PidFile:
    """
    The lock of a running program; whoever acquired it releases it.

    Forked children do not have it: a descriptor left in a worker would hold the lock after
    the program is gone, and would make the worker look like the program.

    Args:
        path: The file.
        descriptor: Open and locked.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor: int | None = descriptor
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def release(self) -> None:
        """Remove the file and let go of the lock; does nothing when that was done."""
        if self.descriptor is None:
            return
        # Unlinked while it is still locked, so that nobody else's file can be removed.
        if _is_same(self.path, self.descriptor):
            os.unlink(self.path)
        self._forget()


def acquire(path: Path, program: Program) -> PidFile:
    """
    Take the lock and write this process's number.

    Args:
        path: The file; created if missing, taken over if left behind.
        program: What this process is, for the errors.

    Raises:
        AlreadyRunning: Another process holds it.
        ProgramError: It cannot be written.
    """
    deadline = time.monotonic() + _SETTLE_S
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as err:
            raise ProgramError(f'"{path}" cannot be written ({err.strerror}); correct its permissions') from err
        if _lock(descriptor) and _is_same(path, descriptor):
            lock = PidFile(path, descriptor)
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
            except OSError as err:
                lock.release()
                raise ProgramError(f'"{path}" cannot be written ({err.strerror}); free space on its disk') from err
            return lock
        os.close(descriptor)
        # Someone who only looks holds the lock for an instant: that is no reason to give up.
        refuse_second(path, program)
        if time.monotonic() > deadline:
            raise AlreadyRunning(f'"{path}" is locked by a process that does not say which it is', pid=0)
        time.sleep(_SETTLE_STEP_S)


def refuse_second(path: Path, program: Program) -> None:
    """
    Look before a start whether the program runs already.

    Raises:
        AlreadyRunning: It does.
        ProgramError: As for `open_holder`.
    """
    with open_holder(path) as holder:
        if holder is not None:
            raise program.already_running(holder.pid)


def stop(path: Path, program: Program, *, timeout_s: float) -> None:
    """
    Ask the running program to stop, wait, kill it if that takes too long, and print how it went.

    Args:
        path: Its PID file.
        program: What it is.
        timeout_s: How long it may take.

    Raises:
        NotRunning: It does not run.
        ProgramError: It cannot be signalled, or does not even die when it is killed.
    """
    with open_holder(path) as holder:
        if holder is None:
            raise program.not_running()
        holder.signal(signal.SIGTERM)
        if holder.wait(timeout_s):
            print(f"stopped, pid {holder.pid}")
            return
        print(f"pid {holder.pid} did not stop within {timeout_s:g} s; killing it", file=sys.stderr)
        holder.signal(signal.SIGKILL)
        if not holder.wait(_KILL_S):
            raise ProgramError(f"pid {holder.pid} cannot be killed: it waits for a device; see `ps -o stat,wchan`")
        print(f"killed, pid {holder.pid}")


class Holder:
    """
    The running program, through a pidfd: never another process that got its number.

    Args:
        pid: Its number, for people.
        descriptor: Its pidfd; `open_holder` closes it.
    """

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    def signal(self, number: signal.Signals) -> None:
        """
        Send a signal.

        Raises:
            NotRunning: It has ended in the meantime.
            ProgramError: It belongs to another user.
        """
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError as err:
            raise NotRunning(f"pid {self.pid} has ended in the meantime") from err
        except PermissionError as err:
            raise ProgramError(f"pid {self.pid} belongs to another user; use that user's account") from err

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; tells whether it has."""
        return bool(select.select([self._descriptor], [], [], max(timeout_s, 0))[0])


@contextlib.contextmanager
def open_holder(path: Path, *, settle_s: float = _SETTLE_S) -> Iterator[Holder | None]:
    """
    Find who holds the PID file; None when nobody does.

    A file that nobody holds is left over, whatever stands in it.

    Args:
        path: The file.
        settle_s: How long a holder may take to write its number.

    Raises:
        ProgramError: The file cannot be read, or its holder cannot be told.
    """
    descriptor, pid = _find_pidfd(path, settle_s)
    try:
        yield None if descriptor is None else Holder(pid, descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _find_pidfd(path: Path, settle_s: float) -> tuple[int | None, int]:
    deadline = time.monotonic() + settle_s
    while True:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None, 0
        except OSError as err:
            raise ProgramError(f'"{path}" cannot be read ({err.strerror}); correct its permissions') from err
        try:
            # A shared lock, so that those who only look do not take each other for the program.
            if _lock(file, fcntl.LOCK_SH):
                return None, 0
            pid = _parse(os.pread(file, _LONGEST_CONTENT, 0))
            pidfd = _open_pidfd(pid, file)
        finally:
            os.close(file)
        if pidfd is not None:
            return pidfd, pid
        # Between taking the lock and writing the number, the number is that of the last one.
        if time.monotonic() > deadline and not os.path.exists("/proc/self/fd"):
            raise ProgramError(f'"{path}" is locked, and without /proc nobody can tell by whom; mount it')
        if time.monotonic() > deadline:
            raise ProgramError(f'"{path}" is locked, but not by pid {pid}; see who holds it with `fuser {path}`')
        time.sleep(_SETTLE_STEP_S)


def _open_pidfd(pid: int, file: int) -> int | None:
    if pid <= 0:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, OverflowError):  # nobody has this number, or nobody ever could
        return None
    if _has_open(pid, file):
        return pidfd
    os.close(pidfd)
    return None


def _has_open(pid: int, file: int) -> bool:
    """Tell whether a process has the file open; looked up after its pidfd was opened."""
    wanted = os.fstat(file)
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in names:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"{folder}/{name}"), wanted):
                return True
    return False


def _lock(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(path: Path, descriptor: int) -> bool:
    """Tell whether the locked file still has its name, and was not removed in between."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _parse(content: bytes) -> int:
    text = content.strip()
    return int(text) if text.isdigit() else 0
