"""Which audit of a pipe runs, what came of the last one, and when the next is due; the time is a parameter."""

import msgspec

from fustor_agent.reports import AuditReport
from fustor_agent.timestamps import format_now
from fustor_core.drivers import AuditCoverage


class Audits:
    """
    The audits of one source worker; what it is told of in seconds is monotonic.

    Args:
        incremental_s: Between an audit, or a snapshot, and the next incremental audit; 0 is never.
        full_s: Between a full audit, or a snapshot, and the next full audit; 0 is never.
    """

    def __init__(self, *, incremental_s: float = 0.0, full_s: float = 0.0) -> None:
        self._configured = (incremental_s, full_s)
        self._wished_s: float | None = None
        self._ended_s: float | None = None
        self._full_ended_s: float | None = None
        self._complete = False
        self._report = AuditReport()

    def wish(self, interval_s: float | None) -> None:
        """Take the receiver's wish for incremental audits: 0 is for no audits at all, None for the configured ones."""
        self._wished_s = interval_s

    # -- the one that runs ------------------------------------------------------------------

    def begin(self, kind: str) -> None:
        """An audit begins."""
        self._complete = False
        self._report = AuditReport(state="running", kind=kind, started_at=format_now())

    def end(self, *, complete: bool) -> None:
        """The audit has said its last word."""
        self._complete = complete

    def lose_end(self) -> None:
        """The last word, if it was said, will never be acknowledged."""
        self._complete = False

    def settle(self, now_s: float) -> bool | None:
        """
        The audit that ran, if one did, has no more to say, and all that it said is settled.

        Returns:
            Whether it was complete; None when none ran.
        """
        if self._report.state != "running":
            return None
        self._finish("done" if self._complete else "incomplete", now_s)
        return self._complete

    def cut_off(self) -> bool:
        """
        The audit will not go on, and nobody is owed another: there is a new session, or another leader.

        Returns:
            Whether one ran.
        """
        ran = self._report.state == "running"
        if ran:
            self._finish("incomplete", None)
        self._ended_s = self._full_ended_s = None
        return ran

    def describe(self, coverage: AuditCoverage) -> AuditReport:
        """Return the running or last audit, with what the driver says that it covers."""
        if self._report.state == "none":
            return self._report
        return msgspec.structs.replace(
            self._report,
            directories_listed=coverage.listed,
            directories_skipped=coverage.skipped,
            directories_unreadable=coverage.unreadable,
            rows=coverage.rows,
        )

    def _finish(self, state: str, now_s: float | None) -> None:
        self._report = msgspec.structs.replace(self._report, state=state, finished_at=format_now())
        self._ended_s = now_s
        if self._report.kind == "full":
            self._full_ended_s = now_s

    # -- the next one -----------------------------------------------------------------------

    def accept_snapshot(self, now_s: float) -> None:
        """A snapshot was accepted: all was looked at."""
        self._ended_s = self._full_ended_s = now_s

    def get_due_s(self) -> float | None:
        """Return when the next audit is due; None for never, and while one runs."""
        return min((due_s for _, due_s in self._list_due()), default=None)

    def find_due(self, now_s: float) -> str | None:
        """Return the kind of audit that is due, the full one first."""
        return next((kind for kind, due_s in self._list_due() if due_s <= now_s), None)

    def _list_due(self) -> list[tuple[str, float]]:
        incremental_s, full_s = self._configured
        if self._report.state == "running" or self._wished_s == 0:
            return []
        if self._wished_s is not None:
            incremental_s = self._wished_s
        due = [("full", self._full_ended_s, full_s), ("incremental", self._ended_s, incremental_s)]
        return [(kind, ended_s + interval_s) for kind, ended_s, interval_s in due if ended_s is not None and interval_s]
