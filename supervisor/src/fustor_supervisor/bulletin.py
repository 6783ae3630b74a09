"""What the supervisor tells others: the status, the deaths, and the service manager that it is ready and lives."""

from collections.abc import Callable

from fustor_supervisor.history import History
from fustor_supervisor.notifier import Notifier
from fustor_supervisor.staff import Staff
from fustor_supervisor.status import CHANGED_EVERY_S, UNCHANGED_EVERY_S, Publisher, SupervisorStatus
from fustor_supervisor.timers import Timer, Timers


class Bulletin:
    """
    Tells what is new, soon but not all the time.

    Args:
        staff: Of whom it tells, and to whom.
        describe: Says how everything stands.
        timers: Gets the deadlines `STATUS` and `WATCHDOG`.
        publisher: For the status; None tells nobody.
        history: For the deaths; None keeps none.
        notifier: For the service manager.
    """

    def __init__(
        self,
        staff: Staff,
        describe: Callable[[], SupervisorStatus],
        timers: Timers[Timer | str],
        *,
        publisher: Publisher | None,
        history: History | None,
        notifier: Notifier,
    ) -> None:
        self._staff = staff
        self._describe = describe
        self._timers = timers
        self._publisher = publisher
        self._history = history
        self._notifier = notifier
        self._is_settled = False
        self._published: list[tuple[str, int]] = []
        self._published_at = float("-inf")

    @property
    def problems(self) -> list[str]:
        """What cannot be written, one line each."""
        files = [each.file for each in (self._publisher, self._history) if each is not None]
        return [file.problem for file in files if file is not None and file.problem is not None]

    def tell_alive(self, now: float) -> None:
        """Tell the service manager that the loop turns, if it wants to know, and when to do so again."""
        if self._notifier.watchdog_every_s is not None:
            self._notifier.alive()
            self._timers.set(Timer.WATCHDOG, now + self._notifier.watchdog_every_s)

    def tell_settled(self) -> None:
        """Tell the service manager once that nobody is on the way up."""
        if not self._is_settled and self._staff.is_settled():
            self._is_settled = True
            self._notifier.ready()

    def publish_changes(self, now: float) -> None:
        """Publish soon if something changed since the last time."""
        if self._publisher is None and self._history is None:
            return
        changes = [(worker.spec.name, worker.changes) for worker in self._staff]
        if changes != self._published:
            self._published = changes
            self._timers.set(Timer.STATUS, max(now, self._published_at + CHANGED_EVERY_S))

    def publish(self, now: float) -> None:
        """Write the deaths and the status, and send it to the workers that want it."""
        self._published_at = now
        if self._history is not None:
            self._history.save({worker.spec.name: worker.deaths for worker in self._staff})
        if self._publisher is None:
            return
        self._timers.set(Timer.STATUS, now + UNCHANGED_EVERY_S)
        snapshot = self._publisher.publish(self._describe())
        if snapshot is not None:
            self._staff.send_status(snapshot)
