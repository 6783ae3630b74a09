"""What became of a pipe's snapshots, and how many rows its receiver refused for good since."""

from typing import Final

import msgspec

from fustor_agent.reports import SnapshotReport
from fustor_agent.timestamps import format_now
from fustor_event_model import SnapshotEnd

_TELLING: Final = 0.02
"""From here on progress tells how long the rest takes."""


class Snapshots:
    """The running snapshot of one source worker, or its last; what it is told of in seconds is monotonic."""

    def __init__(self) -> None:
        self._end: SnapshotEnd | None = None
        self._refused_since_start = 0
        self._begun_s = 0.0
        self.report = SnapshotReport()
        self.refused = 0
        """Rows that the receiver refused for good since the last accepted snapshot began."""

    def begin(self, now_s: float) -> None:
        """A snapshot begins; the end of an earlier one finishes nothing."""
        self._begun_s = now_s
        self.report = SnapshotReport(state="running")
        self._end = None
        self._refused_since_start = 0

    def give_up(self) -> None:
        """There is none, and what was refused is settled: all places are looked at again in another way."""
        self.report = SnapshotReport()
        self.refused = self._refused_since_start = 0

    def count(self, rows: int, compared: int) -> None:
        """So many rows of it were sent, and so many more are compared by the receiver."""
        report = self.report
        self.report = msgspec.structs.replace(report, rows=report.rows + rows, compared=report.compared + compared)

    def describe(self, progress: float | None, now_s: float) -> SnapshotReport:
        """Return the running or last snapshot, with what the driver says of its progress."""
        if self.report.state != "running" or progress is None:
            return self.report
        left_s = (now_s - self._begun_s) * (1 - progress) / progress if progress >= _TELLING else None
        return msgspec.structs.replace(
            self.report, progress=round(progress, 3), left_s=None if left_s is None else round(left_s, 1)
        )

    def end(self, item: SnapshotEnd) -> None:
        """It has said its last word, which may be acknowledged now."""
        self._end = item

    def refuse(self, rows: int) -> None:
        """The receiver has refused so many rows for good, whatever sent them."""
        self.refused += rows
        self._refused_since_start += rows

    def acknowledge(self, position: bytes) -> bool:
        """Take note of an acknowledged position; tells whether it was that of the snapshot's end."""
        if self._end is None or position != self._end.position:
            return False
        state = "failed"
        if self._end.complete:
            # It looked at every place again: what was refused before it began is settled, one way or the other.
            state, self.refused = "done", self._refused_since_start
        self._end = None
        self.report = msgspec.structs.replace(self.report, state=state, finished_at=format_now())
        return True
