"""On-demand scans: who was asked to look, who has reported; pure."""

import msgspec

from fustor_fusion.answers import JobInfo, JobProgress

_MAX_JOBS = 1_000


class Job(msgspec.Struct):
    """
    One scan that a reader asked for.

    Args:
        job_id: Names it.
        path: What is scanned.
        created_at: Seconds since the epoch.
        total: How many sessions were asked.
        missing: Those that have not reported.
        rows: What they have found so far, names that are gone included.
        complete: No session has said that it could not look at all, or ended before it had.
        completed_at: When the last of them reported or ended.
    """

    job_id: str
    path: str
    created_at: float
    total: int
    missing: set[str]
    rows: int = 0
    complete: bool = True
    completed_at: float | None = None


class Jobs:
    """The scans of one view, the newest thousand."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Remember a scan that was asked for."""
        self._jobs[job.job_id] = job
        while len(self._jobs) > _MAX_JOBS:
            del self._jobs[next(iter(self._jobs))]

    def count(self, session_id: str, rows: int) -> None:
        """Note what a session has found; it does its scans in the order in which they were asked for."""
        job = next((job for job in self._jobs.values() if session_id in job.missing), None)
        if job is not None:
            job.rows += rows

    def report(
        self, session_id: str, *, job_id: str | None, path: str | None, now_at: float, complete: bool = True
    ) -> None:
        """Note that a session has finished a scan; found by its id, else by its path, newest first."""
        for job in reversed(self._jobs.values()):
            if job.job_id == job_id or (not job_id and job.path == path):
                self._leave(job, session_id, now_at, complete=complete)
                return

    def drop_session(self, session_id: str, *, now_at: float) -> None:
        """Note that a session will not report any more."""
        for job in self._jobs.values():
            self._leave(job, session_id, now_at, complete=False)

    def get(self, job_id: str) -> Job | None:
        """Return one scan."""
        return self._jobs.get(job_id)

    def get_all(self) -> list[Job]:
        """Return the scans, oldest first."""
        return list(self._jobs.values())

    def is_pending(self, path: str) -> bool:
        """Tell whether a scan of a path is under way."""
        return any(job.path == path and job.missing for job in self._jobs.values())

    @staticmethod
    def _leave(job: Job, session_id: str, now_at: float, *, complete: bool) -> None:
        if session_id in job.missing:
            job.missing.remove(session_id)
            job.complete = job.complete and complete
            job.completed_at = None if job.missing else now_at


def describe(job: Job, view_id: str) -> JobInfo:
    """Give a scan as readers see it."""
    done = job.total - len(job.missing)
    progress = JobProgress(done, job.total, 100.0 * done / job.total if job.total else 100.0)
    return JobInfo(job.job_id, view_id, job.path, "PENDING" if job.missing else "COMPLETED", progress,
                   job.created_at, job.completed_at, job.rows, None if job.missing else job.complete)
