"""The keys that a running server takes: two fixed ones, and those of a file that may change meanwhile."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from fustor_fusion.keyfile import BadKeyFile, Key, Role, digest, read_keys

log = logging.getLogger(__name__)

AGENT_KEY_ID = "agent"
READER_KEY_ID = "reader"


def make_fixed_keys(agent_key: str | None, reader_key: str | None, views: tuple[str, ...]) -> list[Key]:
    """Return the keys of the two key files, which are for all views."""
    given = ((AGENT_KEY_ID, agent_key, Role.AGENT), (READER_KEY_ID, reader_key, Role.READER))
    return [Key(id_, digest(secret.encode()), role, views) for id_, secret, role in given if secret]


class KeyRing:
    """
    Finds keys by their secrets.

    The file is looked at by its identity whenever a key is looked for, so a change holds from the
    next request on. A file that is damaged meanwhile changes nothing: no key is lost by a slip.

    Args:
        fixed: Keys that are always there.
        path: The key file; it need not exist.
    """

    def __init__(self, fixed: Iterable[Key], path: Path | None) -> None:
        self._fixed = tuple(fixed)
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._by_digest: dict[str, Key] = {}
        self._by_id: dict[str, Key] = {}
        self.fault: str | None = None
        self._take(())
        self.refresh()

    def refresh(self) -> bool:
        """Read the file again if it is another than the last time; tells whether the keys changed."""
        if self._path is None:
            return False
        seen = _identify(self._path)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            keys = read_keys(self._path)
        except BadKeyFile as err:
            log.error("The keys could not be read again; those before are still taken error=%s", err)
            self.fault = str(err)
            return False
        log.info("Keys were read path=%s count=%d", self._path, len(keys))
        self.fault = None
        self._take(keys)
        return True

    def find(self, secret: bytes) -> Key | None:
        """
        Return the key with a secret; None when there is none.

        Looked up by its digest: how long that takes tells nothing about a secret that is not known.
        """
        return self._by_digest.get(digest(secret))

    def may_push(self, key_id: str, view: str) -> bool:
        """Tell whether a session that was opened with a key may still be there."""
        key = self._by_id.get(key_id)
        return key is not None and key.role is Role.AGENT and view in key.views

    def _take(self, keys: tuple[Key, ...]) -> None:
        every = (*keys, *self._fixed)
        self._by_digest = {key.sha256: key for key in every}
        self._by_id = {key.id: key for key in every}


def _identify(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written; nothing when it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
