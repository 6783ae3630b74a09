import pytest

from fustor_core.drivers import Role
from fustor_fusion.sessions import AgentSession, SessionExpired, Sessions, SessionUnknown


def make(name: str, *, timeout_s: float = 30.0) -> AgentSession:
    return AgentSession(id=name, task_id=f"{name}:p", agent_id=name, pipe_id="p", ours=True, timeout_s=timeout_s,
                        created_at=0.0)


@pytest.fixture
def sessions():
    sessions = Sessions()
    for name in ("a", "b", "c"):
        sessions.open(make(name), now_s=0.0)
    return sessions


def get_roles(sessions: Sessions) -> dict[str, Role]:
    return {session.id: session.role for session in sessions.get_all()}


def test_the_first_leads_and_the_others_follow(sessions):
    assert get_roles(sessions) == {"a": Role.LEADER, "b": Role.FOLLOWER, "c": Role.FOLLOWER}


def test_a_closed_leader_is_followed_at_once_by_the_oldest_follower(sessions):
    sessions.close("a")
    assert get_roles(sessions) == {"b": Role.LEADER, "c": Role.FOLLOWER}
    with pytest.raises(SessionUnknown):
        sessions.get("a", now_s=0.0)


def test_a_session_expires_exactly_when_its_time_is_over(sessions):
    sessions.beat("b", now_s=10.0)
    assert sessions.get("a", now_s=29.9).id == "a"
    with pytest.raises(SessionExpired):
        sessions.get("a", now_s=30.0)
    assert get_roles(sessions) == {"b": Role.LEADER}


def test_an_expired_session_cannot_come_back_by_a_heartbeat(sessions):
    sessions.expire(now_s=30.0)
    with pytest.raises(SessionExpired):
        sessions.beat("a", now_s=31.0)


def test_only_a_beat_moves_the_deadline(sessions):
    sessions.get("a", now_s=20.0)
    assert sessions.get_deadline() == 30.0
    for name in ("a", "b", "c"):
        sessions.beat(name, now_s=20.0)
    assert sessions.get_deadline() == 50.0


def test_what_must_be_stored_is_noted(sessions):
    sessions.changed.clear()
    sessions.beat("a", now_s=1.0, can_realtime=False)
    assert sessions.changed == []
    sessions.beat("a", now_s=1.0, can_realtime=True)
    sessions.close("a")
    assert [session.id for session in sessions.changed] == ["a", "b"]
    assert sessions.ended == ["a"]


def test_restored_sessions_keep_their_roles_and_get_a_fresh_time_out():
    stored = Sessions()
    first, second = stored.open(make("a"), now_s=0.0), stored.open(make("b"), now_s=0.0)
    restored = Sessions()
    restored.restore([(second, False), (first, True)], now_s=1_000.0)
    assert get_roles(restored) == {"a": Role.LEADER, "b": Role.FOLLOWER}
    assert restored.get("a", now_s=1_029.0).id == "a"
    assert restored.explain() == "agent a has not been heard since Fusion started"
    restored.beat("a", now_s=1_001.0, can_realtime=True)
    assert restored.explain() is None


def test_a_view_is_current_once_the_leader_sees_changes_and_its_snapshot_is_accepted(sessions):
    assert "snapshot" in sessions.explain()
    sessions.accept_snapshot("b")
    assert "snapshot" in sessions.explain()
    sessions.accept_snapshot("a")
    assert "does not see changes" in sessions.explain()
    sessions.beat("a", now_s=1.0, can_realtime=True)
    assert sessions.explain() is None


def test_a_promoted_follower_owes_a_snapshot_of_its_own(sessions):
    sessions.accept_snapshot("a")
    sessions.beat("b", now_s=1.0, can_realtime=True)
    sessions.close("a")
    assert sessions.explain() == "the snapshot of agent b is not complete"


def test_without_sessions_there_is_no_deadline_and_no_agent():
    assert Sessions().get_deadline() is None
    assert Sessions().explain() == "no agent is connected"
