"""Times as the public protocol has them, floats of seconds, and as they are stored, whole nanoseconds; pure."""

import math

_NS = 10**9


def to_ns(seconds: float) -> int:
    """Return nanoseconds; raises OverflowError or ValueError for what is no number, or none of 64 bits."""
    whole = math.floor(seconds)
    time_ns = whole * _NS + round((seconds - whole) * _NS)  # seconds * 1e9 would lose up to 128 ns
    if not -(1 << 63) <= time_ns < 1 << 63:
        raise OverflowError(f"{seconds:g} s are no 64 bits of nanoseconds")
    return time_ns


def to_seconds(time_ns: int) -> float:
    """Return seconds: the float nearest to the time, so of `to_ns(seconds)` the same again."""
    return time_ns / _NS
