"""The on-demand scans of one source worker: how far each is, and what came of it."""

from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from fustor_agent.reports import ScanReport
from fustor_agent.timestamps import format_now
from fustor_core.drivers import Item
from fustor_event_model import JobDone, Listed
from fustor_event_model.models import EventBase

_KEPT: Final = 20
"""How many scans that are over stay in the status."""


class Look(Protocol):
    """`SourceDriver.scan_path`."""

    def __call__(self, path: bytes, *, recursive: bool, job_id: str) -> Iterator[Item | None]:
        """Yield what is at and below a path, ending with a `JobDone`."""


class _Scan(msgspec.Struct):
    path: bytes
    recursive: bool
    report: ScanReport
    seq: int | None = None
    """Of the batch that ended it."""

    def note(self, **changes: object) -> None:
        self.report = msgspec.structs.replace(self.report, **changes)


class Scans:
    """
    The scans of one source worker, in the order in which they were asked for; one runs at a time.

    Args:
        look: The driver's `scan_path`.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._open: deque[_Scan] = deque()
        self._over: deque[ScanReport] = deque(maxlen=_KEPT)

    def ask(self, path: bytes, *, recursive: bool, job_id: str) -> Iterator[Item | None]:
        """Note a scan and return what it is to send."""
        report = ScanReport(job_id, path.decode("utf-8", "backslashreplace"), asked_at=format_now())
        self._open.append(_Scan(path, recursive, report))
        return self._run(self._open[-1])

    def ask_again(self) -> deque[Iterator[Item | None]]:
        """Begin every scan anew that was not acknowledged: a part of what it sent may be lost, the last word too."""
        for scan in self._open:
            scan.seq = None
            scan.note(state="waiting", directories=0, rows=0)
        return deque(self._run(scan) for scan in self._open)

    def end(self, done: JobDone, seq: int) -> None:
        """The running scan has said its last word, in a batch of its lane."""
        scan = next(scan for scan in self._open if scan.seq is None)
        scan.seq = seq
        scan.note(complete=done.complete)

    def acknowledge(self, seq: int) -> list[str]:
        """The receiver has accepted a batch of the scans' lane and all before it; returns the jobs that are over."""
        over: list[str] = []
        while self._open and (ended := self._open[0].seq) is not None and ended <= seq:
            scan = self._open.popleft()
            scan.note(state="done" if scan.report.complete else "incomplete", finished_at=format_now())
            self._over.append(scan.report)
            over.append(scan.report.job_id)
        return over

    def describe(self) -> list[ScanReport]:
        """Return the scans that are over, as far as they are remembered, and those that are not; oldest first."""
        return [*self._over, *(scan.report for scan in self._open)]

    def _run(self, scan: _Scan) -> Iterator[Item | None]:
        scan.note(state="running")
        for item in self._look(scan.path, recursive=scan.recursive, job_id=scan.report.job_id):
            if isinstance(item, Listed):
                scan.note(directories=scan.report.directories + 1)
            elif isinstance(item, EventBase):
                scan.note(rows=scan.report.rows + len(item.rows))
            yield item
