"""What the driver remembers of one session, besides what `Session` says."""

from fustor_core.drivers import Role, Session
from fustor_pusher_fusion.recent import Recent


class SessionState:
    """
    One session, in the process that uses it.

    Args:
        session: As opened or resumed.
        fresh: The receiver's view holds nothing but what this process sent.
        now_s: Monotonic time at which the receiver confirmed it.
    """

    def __init__(self, session: Session, *, fresh: bool, now_s: float) -> None:
        self.session = session
        self.role = session.role
        self.fresh = fresh
        self.recent = Recent()
        self._confirmed_s = now_s

    @property
    def leads(self) -> bool:
        """Tell whether the session may speak for the whole tree."""
        return self.role is Role.LEADER

    def confirm(self, role: Role, now_s: float) -> None:
        """Take in an answered heartbeat; called from the heartbeat's thread."""
        self.role = role
        self._confirmed_s = now_s

    def is_doubtful(self, now_s: float) -> bool:
        """Tell whether the receiver may have ended the session: a public one goes on taking its pushes."""
        return now_s - self._confirmed_s > self.session.timeout_s
