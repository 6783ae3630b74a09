"""The configuration of an fs source."""

import fnmatch
import os
import re
from collections.abc import Callable
from typing import Annotated

import msgspec

from fustor_core.errors import ConfigError
from fustor_source_fs.priority import Level


class FsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Options of the fs driver.

    Args:
        file_pattern: Shell pattern on the names of everything that is not a directory;
            `*` takes all. Directories are always taken.
        max_backlog_bytes: How much kernel output may wait unread before it is replaced by a rescan.
        retry_unreadable_s: Seconds until an unreadable place is tried again.
        poll_interval_s: Seconds in which every directory that cannot be watched, or on a file system that others
            change unseen, is looked at once, as far as `audit_rows_per_s` allows.
        audit_rows_per_s: How many names an audit, or what looks at unwatched directories, looks at in a second,
            so that it leaves the disk to others; 0 is as many as it can.
        pressure_limit_percent: Above so much pressure what `audit_rows_per_s` is for goes slower, in proportion;
            pressure is the part of the last ten seconds in which some process had to wait for a processor or a
            disk, as /proc/pressure says. 0 is never slower.
        io_priority: With which the disk is read for snapshots and audits; `low` is best effort 7, and with `idle`
            it is only read when nobody else reads, for which a change that comes meanwhile waits too.
    """

    file_pattern: str = "*"
    max_backlog_bytes: int = 64 * 1024 * 1024
    retry_unreadable_s: float = 10.0
    poll_interval_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    audit_rows_per_s: Annotated[float, msgspec.Meta(ge=0)] = 20_000.0
    pressure_limit_percent: Annotated[float, msgspec.Meta(ge=0, le=100)] = 50.0
    io_priority: Level = "low"

    def make_filter(self) -> Callable[[bytes], bool] | None:
        """Return what tells whether a name that is no directory's is taken; None takes all."""
        if self.file_pattern == "*":
            return None
        match = re.compile(os.fsencode(fnmatch.translate(self.file_pattern))).match
        return lambda name: match(name) is not None


class FsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Configuration of an fs source.

    Args:
        uri: Absolute path of the directory to watch.
        driver_params: Options.
    """

    uri: str
    driver_params: FsParams = FsParams()

    def get_root(self) -> bytes:
        """
        Return the root as bytes, without a trailing slash.

        Raises:
            ConfigError: It is not an absolute path.
        """
        if not self.uri.startswith("/") or "\0" in self.uri:
            raise ConfigError(f'uri "{self.uri}" is not an absolute path; write it from / on')
        return os.fsencode(self.uri).rstrip(b"/") or b"/"
