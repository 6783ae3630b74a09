"""How a view stands, as a running server tells the process that supervises it."""

import msgspec

from fustor_fusion.view import View


class ViewReport(msgspec.Struct, frozen=True, kw_only=True):
    """
    How one view stands.

    Args:
        files: How many it holds.
        directories: How many it holds.
        bytes: The sizes of its files, summed up.
        rows_applied: Rows taken since the server started.
        sessions: How many agents push into it.
        leader: The agent that leads; None without.
        current: Whether it holds what its agents see.
        not_current_because: Why not; None when it is.
        damage: What became of its database; None when all is well.
    """

    files: int
    directories: int
    bytes: int
    rows_applied: int
    sessions: int
    leader: str | None
    current: bool
    not_current_because: str | None
    damage: str | None


def describe_view(view: View) -> ViewReport:
    """Say how a view stands; in the event loop's thread."""
    reason, leader, totals = view.explain(), view.sessions.get_leader(), view.store.get_totals()
    return ViewReport(
        files=totals["files"], directories=totals["directories"], bytes=totals["bytes"],
        rows_applied=totals["rows_applied"], sessions=len(view.sessions.get_all()),
        leader=leader.agent_id if leader else None, current=reason is None, not_current_because=reason,
        damage=view.store.damage or view.store.failure,
    )
