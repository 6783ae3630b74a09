"""A pusher's session on disk, so that its successor goes on with it instead of following its ghost."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import msgspec

from fustor_core.drivers import Session
from fustor_core.program.atomic import write_atomically

_log = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True):
    receiver: str
    session: Session


class SessionFile:
    """
    Keeps one session, for one receiver.

    Args:
        path: The file; mode 0600, since a session's id may be a credential.
        type_name: The driver.
        config: Its configuration; a session is never resumed with another receiver.
    """

    def __init__(self, path: Path, type_name: str, config: dict[str, Any]) -> None:
        self._path = path
        self._receiver = hashlib.sha256(msgspec.json.encode([type_name, config], order="sorted")).hexdigest()

    def load(self) -> Session | None:
        """Return the kept session; None if there is none for this receiver."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as err:
            _log.warning("session file set aside path=%s reason=%s", self._path, err)
            self._path.replace(self._path.with_suffix(".damaged"))
            return None
        return kept.session if kept.receiver == self._receiver else None

    def save(self, session: Session) -> None:
        """Keep a session."""
        write_atomically(self._path, msgspec.json.encode(_Kept(self._receiver, session)))

    def remove(self) -> None:
        """Forget the session; it is over."""
        self._path.unlink(missing_ok=True)
