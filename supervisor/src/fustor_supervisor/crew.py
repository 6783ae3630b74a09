"""
The living processes, and the selector that watches them and the signals.

Knows processes, not workers: it tells what happened and does what it is told.
"""

import contextlib
import enum
import faulthandler
import gc
import os
import selectors
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from fustor_supervisor import messages
from fustor_supervisor.errors import ForkRefused, FrameTooLong
from fustor_supervisor.process import Exit, ForkedProcess
from fustor_supervisor.specs import WorkerSpec
from fustor_supervisor.wakeup import SignalWatch, Wakeup

_STDERR: Final = 2
_INIT_PID: Final = 1  # man 7 pid_namespaces


@dataclass(frozen=True)
class Signalled:
    """The supervisor got a signal."""

    number: signal.Signals


@dataclass(frozen=True)
class Said:
    """A process sent a message."""

    name: str
    generation: int
    message: messages.FromWorkerMessage


@dataclass(frozen=True)
class Babbled:
    """A process sent something that is no message; nothing more is read from it."""

    name: str
    error: str


@dataclass(frozen=True)
class Died:
    """A process is dead and reaped; all that it had sent was told before. `output` is the last of its stderr."""

    name: str
    pid: int
    generation: int
    exit: Exit
    output: str


@dataclass(frozen=True)
class Readable:
    """A descriptor of the program is readable."""

    on_readable: Callable[[], None]


Happening: TypeAlias = Signalled | Said | Babbled | Died | Readable


class _Source(enum.Enum):
    """Where a selector event comes from, in the order in which they are looked at."""

    SIGNALS = 0
    CONTROL = 1
    OUTPUT = 2
    DEATH = 3
    PROGRAM = 4


@dataclass(frozen=True)
class _Watched:
    """What a descriptor in the selector belongs to."""

    source: _Source
    name: str = ""
    process: ForkedProcess | None = None
    on_readable: Callable[[], None] | None = None


class Crew:
    """
    All living processes by the name of their worker; owns the selector.

    In the first process of a container it also reaps what its workers leave behind: the kernel
    makes every orphan a child of that process, and nobody else would.

    Args:
        signals: Which signals to catch.
        in_child: Called in each new process; closes what the program holds open.

    Raises:
        ForkRefused: Another thread is running.
    """

    def __init__(self, signals: Collection[signal.Signals], in_child: Callable[[], None] | None) -> None:
        if threading.active_count() > 1:
            raise ForkRefused("threads are running; a process that forks must not have any")
        self._in_child = in_child
        self._processes: dict[str, ForkedProcess] = {}
        self._descriptors: set[int] = set()
        self._is_init = os.getpid() == _INIT_PID
        with contextlib.ExitStack() as undo:
            self._selector = undo.enter_context(selectors.DefaultSelector())
            self._wakeup = undo.enter_context(contextlib.closing(Wakeup()))
            self._selector.register(self._wakeup, selectors.EVENT_READ, _Watched(_Source.SIGNALS))
            undo.callback(SignalWatch(self._wakeup, signals).restore)
            # in front of the empty handler: stacks even if the loop hangs, then the loop hears of it
            faulthandler.register(signal.SIGUSR2, file=_STDERR, all_threads=True, chain=True)
            undo.callback(faulthandler.unregister, signal.SIGUSR2)
            # a program may have held them back until there is someone to take them
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            # where SIGCHLD is ignored, as some parents leave it, the kernel forgets exit codes
            undo.callback(_restore_signal, signal.SIGCHLD, signal.signal(signal.SIGCHLD, signal.SIG_DFL))
            if self._is_init:
                undo.callback(SignalWatch(self._wakeup, (signal.SIGCHLD,)).restore)
            # what is alive now is alive in every worker: keep the collector from touching, and so copying, it
            gc.collect()
            gc.freeze()
            undo.callback(gc.unfreeze)
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Kill what is left, without waiting for it, and put signals and descriptors back."""
        for process in self._processes.values():
            process.kill()
            process.close_descriptors()
        self._processes.clear()
        self._undo.close()

    def __contains__(self, name: str) -> bool:
        return name in self._processes

    def wait(self, timeout_s: float | None) -> Iterator[Happening]:
        """Wait until something happens or the time is over; then tell what happened, in the order of `_Source`."""
        return self._tell(self._selector.select(timeout_s))

    def watch(self, descriptor: int, on_readable: Callable[[], None]) -> None:
        """Watch a descriptor of the program."""
        self._selector.register(descriptor, selectors.EVENT_READ, _Watched(_Source.PROGRAM, on_readable=on_readable))

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor of the program; does nothing if it is not watched."""
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def spawn(self, spec: WorkerSpec, generation: int) -> int:
        """
        Fork a worker's process and watch it.

        Returns:
            Its pid.

        Raises:
            OSError: No process, memory or descriptors are left.
            ForkRefused: Another thread runs.
        """
        process = ForkedProcess(spec, generation, self._close_in_child)
        self._processes[spec.name] = process
        self._descriptors |= process.list_descriptors()
        for descriptor, source in (
            (process.control, _Source.CONTROL),
            (process.output, _Source.OUTPUT),
            (process.pidfd, _Source.DEATH),
        ):
            self._selector.register(descriptor, selectors.EVENT_READ, _Watched(source, spec.name, process))
        return process.pid

    def send(
        self,
        name: str,
        message: messages.ToWorkerMessage,
        *,
        generation: int | None = None,
        descriptor: socket.socket | None = None,
    ) -> None:
        """
        Queue a message to a process; dropped if there is none, or if it is not of this generation.

        Raises:
            QueueFull: The process has not read its link for long; the message is dropped.
        """
        process = self._processes.get(name)
        if process is None or generation not in (None, process.generation):
            if descriptor is not None:
                descriptor.close()
            return
        process.send(message, descriptor)
        self._watch_control(name, process)

    def is_reading(self, name: str) -> bool:
        """Tell whether a process has read all that it was sent."""
        process = self._processes.get(name)
        return process is not None and not process.has_queued

    def signal(self, number: signal.Signals, *names: str) -> None:
        """Send a signal to some processes, without names to all."""
        for name in names or tuple(self._processes):
            if name in self._processes:
                self._processes[name].signal(number)

    def kill(self, name: str) -> None:
        """Send SIGKILL to the whole group of a process."""
        if name in self._processes:
            self._processes[name].kill()

    def _tell(self, events: list[tuple[selectors.SelectorKey, int]]) -> Iterator[Happening]:
        # what a worker said before it died counts, so links come before deaths
        for key, mask in sorted(events, key=lambda event: event[0].data.source.value):
            watched: _Watched = key.data
            if watched.on_readable is not None:
                if key.fd in self._selector.get_map():  # not forgotten while an earlier happening was dealt with
                    yield Readable(watched.on_readable)
            elif watched.process is None:
                yield from map(Signalled, self._wakeup.drain())
            elif self._processes.get(watched.name) is not watched.process:
                continue  # replaced while an earlier happening was dealt with
            elif watched.source is _Source.OUTPUT:
                watched.process.output.pump()
                if watched.process.output.has_ended:
                    self._selector.unregister(watched.process.output)
            elif watched.source is _Source.DEATH:
                yield from self._bury(watched.name, watched.process)
            else:
                if mask & selectors.EVENT_WRITE:
                    watched.process.flush()
                if mask & selectors.EVENT_READ:
                    yield from self._hear(watched.name, watched.process)
                self._watch_control(watched.name, watched.process)
        if self._is_init:
            self._reap_orphans()

    def _reap_orphans(self) -> None:
        """Reap dead children that are no workers, up to the first that is one: its own turn comes by its pidfd."""
        workers = {process.pid for process in self._processes.values()}
        with contextlib.suppress(ChildProcessError):  # no children at all
            while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if dead.si_pid in workers:
                    return
                os.waitpid(dead.si_pid, 0)

    def _hear(self, name: str, process: ForkedProcess) -> Iterator[Happening]:
        """Tell what a process said."""
        try:
            for payload in process.receive():
                yield Said(name, process.generation, messages.decode_from_worker(payload))
        except (FrameTooLong, msgspec.DecodeError) as err:
            process.has_link = False
            yield Babbled(name, str(err))

    def _bury(self, name: str, process: ForkedProcess) -> Iterator[Happening]:
        """Tell a dead process's last words, collect its exit and forget it."""
        while process.has_link and (last_words := list(self._hear(name, process))):
            yield from last_words
        for descriptor in (process.control, process.output, process.pidfd):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        del self._processes[name]
        self._descriptors -= process.list_descriptors()
        output = process.output.drain()
        yield Died(name, process.pid, process.generation, process.reap(), output)

    def _watch_control(self, name: str, process: ForkedProcess) -> None:
        """Wait for room in a link only while messages wait for it, and for nothing once it has ended."""
        if process.control.fileno() < 0 or process.control not in self._selector.get_map():
            return
        if not process.has_link:
            self._selector.unregister(process.control)
            return
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if process.has_queued else 0)
        if self._selector.get_key(process.control).events != mask:
            self._selector.modify(process.control, mask, _Watched(_Source.CONTROL, name, process))

    def _close_in_child(self) -> None:
        """Close, in a new process, what belongs to the supervisor and to the others."""
        # by number: touching the objects of a thousand siblings would copy the memory that they are in
        for first, last in find_runs(self._descriptors):
            os.closerange(first, last + 1)
        self._selector.close()
        self._wakeup.close()
        if self._in_child is not None:
            self._in_child()


def find_runs(numbers: Collection[int]) -> Iterator[tuple[int, int]]:
    """Return the first and the last of each run of successive numbers, in order."""
    run: tuple[int, int] | None = None
    for number in sorted(numbers):
        if run is not None and number > run[1] + 1:
            yield run
            run = None
        run = (run[0], number) if run is not None else (number, number)
    if run is not None:
        yield run


def _restore_signal(number: signal.Signals, handler: object) -> None:
    signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]  # as it was returned
