import os
import select
import signal
from collections.abc import Iterator

import pytest

from fustor_supervisor.wakeup import SignalWatch, Wakeup


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    wakeup = Wakeup()
    yield wakeup
    wakeup.close()


def is_readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup], [], [], 0)[0])


def test_a_wake_makes_it_readable_once(wakeup: Wakeup) -> None:
    assert not is_readable(wakeup)
    wakeup.wake()
    wakeup.wake()
    assert is_readable(wakeup)
    assert wakeup.drain() == []
    assert not is_readable(wakeup)
    assert wakeup.drain() == []


def test_any_number_of_wakes_never_blocks(wakeup: Wakeup) -> None:
    for _ in range(100_000):
        wakeup.wake()
    wakeup.drain()
    assert not is_readable(wakeup)


def test_a_wake_after_the_close_does_nothing(wakeup: Wakeup) -> None:
    wakeup.close()
    wakeup.wake()


def test_signals_arrive_as_numbers_in_their_order(wakeup: Wakeup) -> None:
    watch = SignalWatch(wakeup, (signal.SIGUSR1, signal.SIGHUP))
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        watch.restore()
    assert wakeup.drain() == [signal.SIGHUP, signal.SIGUSR1]


def test_restoring_puts_handlers_and_descriptor_back(wakeup: Wakeup) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    old_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(old_fd)
    SignalWatch(wakeup, (signal.SIGUSR1,)).restore()
    assert signal.getsignal(signal.SIGUSR1) is before
    assert signal.set_wakeup_fd(old_fd) == old_fd
