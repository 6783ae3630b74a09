"""What a worker reported and what it owes; kept apart from its state."""

from dataclasses import replace

from fustor_supervisor import messages, policy
from fustor_supervisor.specs import StuckLimits


class Account:
    """
    The books of one worker; the times are those of its present process, the totals of all.

    Attributes:
        report: The last that the present process said, without counters once it is dead.
    """

    def __init__(self) -> None:
        self.report = messages.Progress(generation=0, counters={})
        self._past_totals: dict[str, int] = {}
        self._progress = policy.Progress(ready=False, moved_at=0.0)
        self._ping = 0
        self._commands: dict[int, float] = {}

    def open(self, generation: int, now: float) -> None:
        """Begin with a new process, which owes Ready."""
        self.report = messages.Progress(generation=generation, counters={})
        self._progress = policy.Progress(ready=False, moved_at=now)
        self._ping = 0
        self._commands.clear()

    def close(self) -> None:
        """End with the process: its counters become past, its phase and detail stay."""
        self._past_totals = self.totals
        self.report = messages.Progress(
            generation=self.report.generation, counters={}, phase=self.report.phase, detail=self.report.detail
        )

    @property
    def totals(self) -> dict[str, int]:
        """The counters of all processes, summed."""
        past, present = self._past_totals, self.report.counters
        return {key: past.get(key, 0) + present.get(key, 0) for key in past | present}

    # -- what it says -----------------------------------------------------------------------

    def take_ready(self, now: float) -> None:
        """Note that it is ready."""
        self._progress = replace(self._progress, ready=True, moved_at=now)

    def take_report(self, report: messages.Progress, now: float) -> bool:
        """Note what it reports; tells whether that is anything new."""
        if report.counters != self.report.counters:
            self._progress = replace(self._progress, moved_at=now)
        if report.owed != self.report.owed:
            self._progress = replace(self._progress, work_owed_since=now if report.owed else None)
        if (report.phase, report.patience_s) != (self._progress.phase, self._progress.patience_s):
            self._progress = replace(self._progress, phase=report.phase, patience_s=report.patience_s)
        is_new = report != self.report
        self.report = report
        return is_new

    def take_pong(self, number: int) -> None:
        """Note that it answered a ping; a late answer to an earlier one pays nothing."""
        if number == self._ping:
            self._progress = replace(self._progress, ping_owed_since=None)

    def take_reply(self, id: int) -> None:
        """Note that it replied to a command."""
        self._commands.pop(id, None)
        self._note_oldest_command()

    # -- what it owes -----------------------------------------------------------------------

    def note_command(self, id: int, now: float) -> None:
        """Note that it owes a reply."""
        self._commands[id] = now
        self._note_oldest_command()

    def note_ping(self, now: float) -> int | None:
        """Return the number of the next ping; None while the last one is unanswered."""
        if self.owes_pong:
            return None
        self._ping += 1
        self._progress = replace(self._progress, ping_owed_since=now)
        return self._ping

    @property
    def owes_work(self) -> bool:
        """Whether it says so, or owes a reply."""
        return self.report.owed or bool(self._commands)

    @property
    def owes_pong(self) -> bool:
        """Whether a ping is unanswered."""
        return self._progress.ping_owed_since is not None

    def start_limits_anew(self, now: float) -> None:
        """Forgive what is owed since earlier."""
        self._progress = replace(self._progress, moved_at=now)

    def judge(self, limits: StuckLimits) -> policy.Verdict | None:
        """Return when and why the worker will count as stuck if nothing changes; None if it owes nothing."""
        return policy.judge(self._progress, limits)

    def _note_oldest_command(self) -> None:
        oldest = min(self._commands.values(), default=None)
        self._progress = replace(self._progress, command_owed_since=oldest)
