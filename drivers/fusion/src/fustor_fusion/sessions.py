"""Who may push into a view, in which role, and for how long; pure: the time is a parameter."""

import msgspec

from fustor_core.drivers import Role

_MAX_REMEMBERED = 1_000


class SessionUnknown(Exception):
    """No such session, or it was closed."""


class SessionExpired(Exception):
    """The session ended because heartbeats were missing."""


class AgentSession(msgspec.Struct):
    """
    One session, as it is stored too.

    Args:
        id: Its name, a secret.
        task_id: As the agent gave it.
        agent_id: Names the agent.
        pipe_id: Names its pipe.
        ours: It speaks our own protocol.
        timeout_s: It expires when no heartbeat came for this long.
        created_at: Seconds since the epoch, for people.
        number: Grows with every session of the view; the lowest follower is promoted first.
        role: What it may send.
        can_realtime: As its last heartbeat said.
        source_uri: For people.
        client_ip: For people.
        before: The highest time of what its agent and pipe had sent before it began.
        key_id: The key it was opened with.
    """

    id: str
    task_id: str
    agent_id: str
    pipe_id: str
    ours: bool
    timeout_s: float
    created_at: float
    number: int = 0
    role: Role = Role.FOLLOWER
    can_realtime: bool = False
    source_uri: str | None = None
    client_ip: str | None = None
    before: int = 0
    key_id: str = ""


class Sessions:
    """
    The sessions of one view: the first leads, the others follow, the oldest follower is promoted.

    A session ends by `close` or by missing heartbeats, nothing else; what counts as one, the caller says.
    Changes of what is stored are noted in `changed` and `ended` for the caller, who takes them.
    """

    def __init__(self) -> None:
        self._live: dict[str, AgentSession] = {}
        self._last_seen_s: dict[str, float] = {}
        self._expired: dict[str, None] = {}
        self._heard: set[str] = set()
        self._done: set[str] = set()
        self._spoilt: set[str] = set()
        self._number = 0
        self.changed: list[AgentSession] = []
        self.ended: list[str] = []

    def restore(self, sessions: list[tuple[AgentSession, bool]], *, now_s: float) -> None:
        """Take over stored sessions, each with whether its snapshot was accepted, with a fresh time-out."""
        for session, done in sorted(sessions, key=lambda pair: pair[0].number):
            self._live[session.id] = session
            self._last_seen_s[session.id] = now_s
            self._number = max(self._number, session.number)
            if done:
                self._done.add(session.id)
        self._promote()

    def open(self, session: AgentSession, *, now_s: float) -> AgentSession:
        """Add a session; it leads if no other does."""
        self.expire(now_s=now_s)
        self._number += 1
        session.number = self._number
        session.role = Role.FOLLOWER
        self._live[session.id] = session
        self._last_seen_s[session.id] = now_s
        self._heard.add(session.id)
        self.changed.append(session)
        self._promote()
        return session

    def get(self, session_id: str, *, now_s: float) -> AgentSession:
        """
        Return a live session.

        Raises:
            SessionUnknown, SessionExpired.
        """
        self.expire(now_s=now_s)
        session = self._live.get(session_id)
        if session is not None:
            return session
        if session_id in self._expired:
            raise SessionExpired(session_id)
        raise SessionUnknown(session_id)

    def is_live(self, session_id: str) -> bool:
        """Tell whether a session is there, expired or not yet."""
        return session_id in self._live

    def beat(self, session_id: str, *, now_s: float, can_realtime: bool | None = None) -> AgentSession:
        """
        Prove life of a session: by a heartbeat, or by asking for commands.

        Raises:
            SessionUnknown, SessionExpired.
        """
        session = self.get(session_id, now_s=now_s)
        self._last_seen_s[session_id] = now_s
        self._heard.add(session_id)
        if can_realtime is not None and can_realtime != session.can_realtime:
            session.can_realtime = can_realtime
            self.changed.append(session)
        return session

    def close(self, session_id: str) -> None:
        """End a session; unknown ones are ignored. The next follower leads at once."""
        if self._live.pop(session_id, None) is not None:
            self._end(session_id)
            self._promote()

    def expire(self, *, now_s: float) -> list[str]:
        """End the sessions whose time is over, and return their names."""
        over = [name for name, session in self._live.items() if self._get_deadline(session) <= now_s]
        for name in over:
            del self._live[name]
            self._end(name)
            self._expired[name] = None
            while len(self._expired) > _MAX_REMEMBERED:
                del self._expired[next(iter(self._expired))]
        if over:
            self._promote()
        return over

    def accept_snapshot(self, session_id: str) -> None:
        """Note that the leader's snapshot has been committed."""
        session = self._live.get(session_id)
        if session is not None and session.role is Role.LEADER:
            self._done.add(session_id)

    def spoil_snapshot(self, session_id: str) -> None:
        """Note that a part of a session's snapshot may be missing, unless it was accepted before."""
        if session_id in self._live and session_id not in self._done:
            self._spoilt.add(session_id)

    def is_snapshot_spoilt(self, session_id: str) -> bool:
        """Tell whether a part of the snapshot may be missing."""
        return session_id in self._spoilt

    def get_deadline(self) -> float | None:
        """Return when the next session expires if nothing is heard from it; None without sessions."""
        return min((self._get_deadline(session) for session in self._live.values()), default=None)

    def get_leader(self) -> AgentSession | None:
        """Return the session that leads."""
        return next((session for session in self._live.values() if session.role is Role.LEADER), None)

    def get_all(self) -> list[AgentSession]:
        """Return the live sessions, oldest first."""
        return list(self._live.values())

    def list_present(self) -> list[tuple[str, str, int]]:
        """
        Return agent and pipe of every live session, and the time up to which what they said is older than it.

        That is the highest time of what they had sent before it; none once their snapshot was accepted, since that
        speaks of all that was there.
        """
        return [(session.agent_id, session.pipe_id, 0 if session.id in self._done else session.before)
                for session in self._live.values()]

    def get_silence_s(self, session_id: str, *, now_s: float) -> float:
        """Return how long ago a live session was heard."""
        return now_s - self._last_seen_s[session_id]

    def explain(self) -> str | None:
        """Say why the view is not current as far as sessions know; None when it is."""
        leader = self.get_leader()
        if leader is None:
            return "no agent is connected"
        if leader.id not in self._heard:
            return f"agent {leader.agent_id} has not been heard since Fusion started"
        if leader.id not in self._done:
            return f"the snapshot of agent {leader.agent_id} is not complete"
        if not leader.can_realtime:
            return f"agent {leader.agent_id} does not see changes as they happen"
        return None

    def _get_deadline(self, session: AgentSession) -> float:
        return self._last_seen_s[session.id] + session.timeout_s

    def _end(self, session_id: str) -> None:
        del self._last_seen_s[session_id]
        self._heard.discard(session_id)
        self._done.discard(session_id)
        self._spoilt.discard(session_id)
        self.ended.append(session_id)

    def _promote(self) -> None:
        if not self._live or self.get_leader() is not None:
            return
        successor = min(self._live.values(), key=lambda session: session.number)
        successor.role = Role.LEADER
        self.changed.append(successor)
