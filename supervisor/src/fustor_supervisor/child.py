"""
Right after the fork: turn a copy of the supervisor into a worker.

All signals are blocked until the inherited handlers and the inherited wakeup descriptor
are gone: a child that kept them would write its signals into the supervisor's socket.
Nothing here ever returns into the supervisor's stack.
"""

import ctypes
import faulthandler
import fcntl
import functools
import logging
import os
import select
import signal
import socket
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from fustor_supervisor.exitcodes import ExitCode, leave
from fustor_supervisor.resources import limit_this_process
from fustor_supervisor.runtime import Runtime
from fustor_supervisor.specs import ResourceLimits
from fustor_supervisor.wakeup import SignalWatch, Wakeup

_PR_SET_PDEATHSIG: Final = 1  # man 2 prctl
_F_SETSIG: Final = 10  # <asm-generic/fcntl.h>; Python has no name for it
STDERR: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inheritance:
    """
    What a worker is given through the fork.

    Args:
        name: The worker's name.
        generation: Its generation.
        main: What it runs.
        control: Its end of the control link.
        lifeline: Reading end of the pipe that closes with the supervisor.
        error_output: Becomes its standard error.
        supervisor_pid: Its parent, as long as that lives.
        resources: Its limits.
        stop_grace_s: Grace if it is stopped by a signal instead of a message.
        close_foreign: Closes the descriptors of the supervisor and of siblings.
    """

    name: str
    generation: int
    main: Callable[[Runtime], None]
    control: socket.socket
    lifeline: int
    error_output: int
    supervisor_pid: int
    resources: ResourceLimits
    stop_grace_s: float
    close_foreign: Callable[[], None]


def run_child(inheritance: Inheritance) -> NoReturn:
    """Be the worker; called once, in the child, with all signals blocked."""
    code = int(ExitCode.CRASHED)
    try:
        _reset_signals()
        os.dup2(inheritance.error_output, STDERR)
        os.close(inheritance.error_output)
        inheritance.close_foreign()  # first: our copy of the lifeline's other end would keep it open
        _die_with_supervisor(inheritance)
        wakeup = Wakeup()
        _take_signals(wakeup)
        runtime = Runtime(
            inheritance.name,
            inheritance.generation,
            inheritance.control,
            wakeup,
            stop_grace_s=inheritance.stop_grace_s,
        )
        code = _run_main(inheritance, runtime)
    except BaseException:  # the very edge of the process: nothing above could report it
        traceback.print_exc()
    finally:
        leave(code)


def _run_main(inheritance: Inheritance, runtime: Runtime) -> int:
    threading.excepthook = functools.partial(_end_with_thread, runtime)
    runtime.start()
    try:
        limit_this_process(inheritance.resources)
    except OSError as err:
        runtime.fail(str(err), permanent=True)
    try:
        inheritance.main(runtime)
    except SystemExit as err:
        if err.code is None or isinstance(err.code, int):
            return err.code or ExitCode.OK
        runtime.send_failed(str(err.code), permanent=False)
        return ExitCode.CRASHED
    except BaseException as err:  # the edge of the worker: whatever its main raises ends it
        runtime.send_failed(f"{type(err).__name__}: {err}", permanent=False)  # first: without memory no log is written
        _log.exception("worker crashed name=%s generation=%d", runtime.name, runtime.generation)
        return ExitCode.CRASHED
    return ExitCode.OK


def _end_with_thread(runtime: Runtime, args: threading.ExceptHookArgs) -> None:
    """End the worker when one of its threads dies of an exception: nobody would see what it does not do any more."""
    if args.exc_type is SystemExit:  # the thread ended itself
        return
    name = args.thread.name if args.thread is not None else "unknown"
    _log.error("thread crashed name=%s thread=%s", runtime.name, name, exc_info=args.exc_value)
    runtime.fail(f"thread {name}: {args.exc_type.__name__}: {args.exc_value}", permanent=False)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    faulthandler.unregister(signal.SIGUSR2)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _die_with_supervisor(inheritance: Inheritance) -> None:
    """Lead a process group of our own, and have it killed when the supervisor dies."""
    os.setsid()
    lifeline = inheritance.lifeline
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpid())  # negative: the whole group
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    if _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        _log.warning("no parent-death signal errno=%d", ctypes.get_errno())
    # Both nets catch only what comes later; this catches what came before.
    poller = select.poll()
    poller.register(lifeline, select.POLLHUP)
    if os.getppid() != inheritance.supervisor_pid or poller.poll(0):
        os._exit(ExitCode.CRASHED)


def _take_signals(wakeup: Wakeup) -> None:
    """Install the worker's own handlers, then let signals in."""
    for number in (signal.SIGINT, signal.SIGHUP):  # the supervisor decides what these mean
        signal.signal(number, signal.SIG_IGN)
    SignalWatch(wakeup, (signal.SIGTERM, signal.SIGUSR1))
    faulthandler.enable(file=STDERR)
    faulthandler.register(signal.SIGUSR2, file=STDERR, all_threads=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

