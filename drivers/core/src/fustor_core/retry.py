"""Delays between attempts; pure."""

from collections.abc import Callable

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """
    How long to wait between attempts.

    Args:
        first_s: Delay after the first failure, seconds.
        factor: Growth from one failure to the next.
        cap_s: The longest delay.
        jitter: Fraction by which a delay may differ, up or down.
    """

    first_s: float = 0.25
    factor: float = 2.0
    cap_s: float = 10.0
    jitter: float = 0.2


def next_delay(failures: int, backoff: Backoff, rand: Callable[[], float]) -> float:
    """
    Compute the delay after a number of failures in a row.

    Args:
        failures: 1 or more.
        backoff: The policy.
        rand: Returns 0.0 ≤ x < 1.0.

    Returns:
        Seconds, never above `cap_s * (1 + jitter)`.
    """
    exponent = min(failures - 1, 64)
    base = min(backoff.cap_s, backoff.first_s * backoff.factor**exponent)
    return base * (1 + backoff.jitter * (2 * rand() - 1))
