"""Take a changed configuration over while the agent runs."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from fustor_agent.backgroundcheck import BackgroundCheck
from fustor_agent.config import Config, Draft
from fustor_agent.reload import ReloadOutcome, read_outcome, write_outcome
from fustor_core.program.errors import BadConfig, ProgramError, explain
from fustor_core.program.exitcodes import ExitCode
from fustor_supervisor.messages import Request
from fustor_supervisor.notifier import Notifier
from fustor_supervisor.requests import RequestResult

_log = logging.getLogger(__name__)


class Desk(Protocol):
    """What is asked of the supervisor."""

    def watch(self, descriptor: int, on_readable: Callable[[], None]) -> None:
        """Call back whenever a descriptor is readable."""

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor."""

    def answer(self, request: Request, result: RequestResult) -> None:
        """Answer a request."""


class Reloading:
    """
    One reload after the other, of which none holds up the supervisor: a child reads, parses and asks the drivers.

    A reload that is asked for while one is under way begins anew, since the file may have
    changed again; whoever asked for the first is told the outcome of the last.

    Args:
        path: `state/reload.json`.
        desk: The supervisor.
        notifier: Tells the service manager when a reload begins and ends.
        read: Reads the configuration again, in the child.
        take_over: Applies a checked configuration, all of it or nothing; says what that changes.
    """

    def __init__(
        self,
        path: Path,
        desk: Desk,
        notifier: Notifier,
        *,
        read: Callable[[], Draft],
        take_over: Callable[[Config], ReloadOutcome],
    ) -> None:
        self._path = path
        self._desk = desk
        self._notifier = notifier
        self._read = read
        self._take_over = take_over
        self._check: BackgroundCheck | None = None
        self._waiting: list[Request] = []

    def begin(self, request: Request | None = None) -> None:
        """
        Begin a reload.

        Args:
            request: Who asked, and is answered at the end; None for a signal.
        """
        if request is not None:
            self._waiting.append(request)
        self._notifier.reloading()
        self._drop_check()
        self._try(self._begin_check)

    def close(self) -> None:
        """Break off a reload that is under way."""
        self._drop_check()

    def close_in_child(self) -> None:
        """Close what belongs to a reload in a process that was forked meanwhile."""
        if self._check is not None:
            self._check.close_in_child()

    def _begin_check(self) -> None:
        self._check = BackgroundCheck(self._read)
        self._desk.watch(self._check.fileno(), self._hear)

    def _hear(self) -> None:
        if self._check is not None and self._check.take():
            self._try(self._finish_check)

    def _finish_check(self) -> None:
        assert self._check is not None
        check, self._check = self._check, None
        self._desk.unwatch(check.fileno())
        self._conclude(self._take_over(check.finish()))

    def _drop_check(self) -> None:
        if self._check is not None:
            self._desk.unwatch(self._check.fileno())
            self._check.close()
            self._check = None

    def _try(self, step: Callable[[], None]) -> None:
        """Take a step; whatever goes wrong is the outcome, and everything stays as it was."""
        try:
            step()
        except BadConfig as err:
            problems = tuple(str(problem) for problem in err.problems)
            self._conclude(ReloadOutcome(id=0, ok=False, problems=problems, code=err.exit_code))
        except ProgramError as err:
            self._conclude(ReloadOutcome(id=0, ok=False, problems=(str(err),), code=err.exit_code))
        except OSError as err:
            self._conclude(ReloadOutcome(id=0, ok=False, problems=(explain(err),), code=ExitCode.FAILED))
        except Exception as err:  # The edge of a reload: whoever asked for it must hear of what nobody foresaw.
            _log.exception("reload failed")
            problem = f"{type(err).__name__}: {err}; see the log"
            self._conclude(ReloadOutcome(id=0, ok=False, problems=(problem,), code=ExitCode.FAILED))

    def _conclude(self, outcome: ReloadOutcome) -> None:
        """Tell the outcome, under the next number."""
        self._notifier.ready()
        _log.info("reload ok=%s changes=%d problems=%d", outcome.ok, len(outcome.changes), len(outcome.problems))
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self._desk.answer(request, RequestResult("\n".join(outcome.lines), ok=outcome.ok))
        try:
            last = read_outcome(self._path)
            number = last.id + 1 if last is not None else 1
            write_outcome(self._path, msgspec.structs.replace(outcome, id=number))
        except OSError as err:
            _log.error("outcome of the reload not written error=%s outcome=%s", err, outcome.lines)
