"""What an `echo` sender is configured with."""

from pathlib import Path

import msgspec


class EchoConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The `config` of a sender of type `echo`.

    Args:
        path: The file to append to; None writes to standard output.
        fsync: Wait for the disk before a batch counts as accepted.
    """

    path: str | None = None
    fsync: bool = False

    def __post_init__(self) -> None:
        if self.path is not None and ("\0" in self.path or not Path(self.path).is_absolute()):
            raise ValueError(f'path "{self.path}" is not absolute; the agent has no working directory of its own')
