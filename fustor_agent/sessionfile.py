"""A pusher's session on disk, so that its successor goes on with it instead of following its ghost."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import msgspec

from fustor_core.drivers import Session, make_session_name
from fustor_core.program.atomic import write_atomically

_log = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True):
    receiver: str
    session: Session | None
    proposed: str | None = None


class SessionFile:
    """
    Keeps one session, for one receiver, and before it is opened the name that was proposed for it.

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
        kept = self._read()
        return kept.session if kept is not None else None

    def propose(self) -> str:
        """Return the name under which a session is to be opened: the same until one is saved or removed."""
        kept = self._read()
        if kept is not None and kept.proposed is not None:
            return kept.proposed
        name = make_session_name()
        self._write(_Kept(self._receiver, None, name))
        return name

    def save(self, session: Session) -> None:
        """Keep a session."""
        self._write(_Kept(self._receiver, session))

    def remove(self) -> None:
        """Forget the session; it is over."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> _Kept | None:
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as err:
            _log.warning("session file set aside path=%s reason=%s", self._path, err)
            self._path.replace(self._path.with_suffix(".damaged"))
            return None
        return kept if kept.receiver == self._receiver else None

    def _write(self, kept: _Kept) -> None:
        try:
            write_atomically(self._path, msgspec.json.encode(kept))
        except OSError as err:  # the session is as good without; only a successor would follow its ghost
            _log.warning("session not kept path=%s reason=%s", self._path, err)
