"""
The errors of Fusion, grouped by what the caller does next.

    FusionError
    ├── RequestRefused     answer the request with its status and reason
    ├── StoreUnavailable   nothing was applied; the same request may be repeated
    └── DatabaseTooNew     do not start; a person must choose the release or move the file
"""


class FusionError(Exception):
    """Base of every error that Fusion raises on purpose."""


class RequestRefused(FusionError):
    """
    A request cannot be fulfilled, and that is the client's to know.

    Args:
        status: The HTTP status.
        detail: The reason, for people.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class StoreUnavailable(FusionError):
    """The database could not take it: disk full, read-only, damaged, or closing."""


class DatabaseTooNew(FusionError):
    """A newer release wrote the database; the message names the file and the remedy."""
