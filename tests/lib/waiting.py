"""Wait for something to become true, never for a time to pass."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_S = 0.02


def until(look: Callable[[], T], *, within_s: float, what: str) -> T:
    """
    Look again and again until what is seen is true.

    Args:
        look: Called at once, then every few milliseconds.
        within_s: The deadline; generous, since it only ends a test that fails anyway.
        what: What is waited for, for the message.

    Returns:
        The first true value.

    Raises:
        TimeoutError: The deadline is over; names `what` and what was seen last.
    """
    deadline = time.monotonic() + within_s
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s:g} s, last seen: {seen!r}")
        time.sleep(_PAUSE_S)  # between two looks, not instead of one
