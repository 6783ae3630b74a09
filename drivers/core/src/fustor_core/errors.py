"""
The errors a driver may raise, grouped by what the caller does next.

    FustorError
    ├── ConfigError      a person must correct the configuration; retrying is useless
    ├── DriverError      the driver is broken; say which distribution and what to do
    ├── Unavailable      not now: wait and try the same again; nothing was applied
    ├── Uncertain        it may or may not have been applied: look at the places again
    ├── SessionLost      the receiver does not know the session: open a new one
    └── ScanFailed       a place could not be read; skip, count, retry later
"""


class FustorError(Exception):
    """Base of every error that Fustor raises on purpose."""


class ConfigError(FustorError):
    """The configuration is wrong; the message names the key, the value and the remedy."""


class DriverError(FustorError):
    """A driver breaks the contract; the message names its distribution and the remedy."""


class Unavailable(FustorError):
    """
    The other side cannot take it now and has applied nothing; the same call may be repeated.

    Args:
        message: What failed, and where.
        retry_after_s: How long the other side asks to wait, if it says.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Uncertain(FustorError):
    """A push ended without an answer: it may have been applied, and must not be repeated as bytes."""


class SessionLost(FustorError):
    """The receiver does not know the session any more."""


class ScanFailed(FustorError):
    """A place of the source could not be read."""
