"""The agent as a whole: builds the graph from the configuration and runs it."""

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Final

from fustor_agent import __version__, status
from fustor_agent.config import Config, Draft, read_again
from fustor_agent.configdiff import list_differences
from fustor_agent.identity import IndexReserve, make_identity
from fustor_agent.paths import Paths
from fustor_agent.plan import PUSHER_SUFFIX, SOURCE_SUFFIX, Plan, make_plan
from fustor_agent.ports import check_ports
from fustor_agent.reload import Change, ReloadOutcome
from fustor_agent.reloading import Reloading
from fustor_agent.statusmodel import SETTLED, AgentStatus, find_faults
from fustor_agent.statustext import summarize
from fustor_core.clock import IndexClock
from fustor_core.program import logs
from fustor_core.program.errors import ProgramError
from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.limits import raise_file_limit
from fustor_supervisor.loop import Supervisor
from fustor_supervisor.messages import Reply, Request
from fustor_supervisor.notifier import Notifier
from fustor_supervisor.requests import RequestResult
from fustor_supervisor.status import SupervisorStatus

_PRELOADED: Final = ("msgspec", "multiprocess", "psutil", "pyinotify", "yaml")
"""
Imported once before the first fork, so that workers share their memory; none starts a thread.
What only one kind of worker needs is imported there: an HTTP library would be a third of the supervisor.
"""

_PATIENCE_S: Final = 2.0
"""What is wrong right after the start may be over soon: a pusher asks before the embedded Fusion listens."""

_log = logging.getLogger(__name__)


def run(
    config: Config,
    paths: Paths,
    *,
    on_ready: Callable[[str], None],
    foreground: bool,
    on_progress: Callable[[AgentStatus], None] | None = None,
) -> int:
    """
    Run the agent until it is told to stop.

    Args:
        config: Checked, drivers included.
        paths: Prepared; the PID file is held by the caller.
        on_ready: Called once, when every worker is ready or being retried, with one line
            for each thing that is wrong (empty when all is well).
        foreground: Whether a person watches.
        on_progress: Called with every published status.

    Returns:
        The exit code of the program.
    """
    for name in _PRELOADED:
        importlib.import_module(name)
    raise_file_limit()
    app = _App(config, paths, on_ready=on_ready, on_progress=on_progress)
    _log.info("agent starts version=%s foreground=%s", __version__, foreground)
    app.run()
    _log.info("agent stopped")
    return ExitCode.DONE


class _App:
    """Joins the supervisor with configuration, status and reload."""

    def __init__(
        self,
        config: Config,
        paths: Paths,
        *,
        on_ready: Callable[[str], None],
        on_progress: Callable[[AgentStatus], None] | None,
    ) -> None:
        self._config = config
        self._paths = paths
        self._on_ready: Callable[[str], None] | None = on_ready
        self._settled_s = float("inf")
        self._on_progress = on_progress
        self._reserve = IndexReserve(paths.state_dir / "index-reserve")
        self._identity = make_identity(paths, self._reserve)
        self._plan = make_plan(config, paths, self._identity)
        self._notifier = Notifier()
        self._supervisor = Supervisor(
            next_epoch=IndexClock(self._reserve.seed_ns).stamp,
            publish=self._publish,
            status_path=paths.status,
            history_path=paths.deaths,
            on_request=self._answer,
            on_reload=self._begin_reload,
            on_reopen_logs=logs.reopen,
            in_child=self._close_in_child,
            notifier=self._notifier,
        )
        self._reloading = Reloading(
            paths.reload, self._supervisor, self._notifier, read=self._read_again, take_over=self._take_over
        )
        self._apply(config, self._plan)

    def run(self) -> None:
        """Run until stopped."""
        try:
            self._supervisor.run()
        finally:
            self._reloading.close()

    def _apply(self, config: Config, plan: Plan) -> None:
        """Run a plan; what can fail comes first, so that nothing is changed when it does."""
        for directory in ("sources", "pushers"):
            for pipe in config.pipes:
                (self._paths.state_dir / directory / pipe.id).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._supervisor.apply(plan.workers, plan.links)
        self._config, self._plan = config, plan

    def _begin_reload(self) -> None:
        self._reloading.begin()

    def _close_in_child(self) -> None:
        self._reloading.close_in_child()

    def _publish(self, supervisor: SupervisorStatus) -> bytes:
        self._reserve.renew()
        problems = [self._reserve.problem] if self._reserve.problem is not None else []
        composed = status.compose(self._config, supervisor, version=__version__, problems=problems)
        if self._on_progress is not None:
            self._on_progress(composed)
        self._notifier.status(summarize(composed))
        if self._on_ready is not None and all(worker.state in SETTLED for worker in supervisor.workers):
            faults = find_faults(composed)
            self._settled_s = min(self._settled_s, supervisor.made_s)
            if not faults or supervisor.made_s >= self._settled_s + _PATIENCE_S:
                say, self._on_ready = self._on_ready, None
                say("\n".join(faults))
        return status.encode(composed)

    # -- what the console asks for ----------------------------------------------------------

    def _answer(self, request: Request) -> RequestResult | None:
        if request.action == "reload":
            self._reloading.begin(request)
            return None
        pipe, _, scan = request.target.partition("/")  # what to scan, if that is what is asked for
        source = pipe + SOURCE_SUFFIX
        if source not in {worker.name for worker in self._plan.workers}:
            return RequestResult(f'pipe "{pipe}" is not enabled; enable it in the configuration', ok=False)
        names = (source, pipe + PUSHER_SUFFIX)
        match request.action:
            case "start" | "stop":
                for name in names:
                    self._supervisor.set_up(name, request.action == "start")
            case "restart":
                for name in names:
                    self._supervisor.restart(name)
            case "snapshot" | "record":
                self._command(source, request.action, "", request)
                return None
            case "rescan":
                self._command(source, "rescan", scan, request)
                return None
            case "audit" | "incremental-audit":
                self._command(source, "audit", "full" if request.action == "audit" else "incremental", request)
                return None
            case _:
                return RequestResult(f'there is no action "{request.action}"', ok=False)
        return RequestResult(f"{request.action} of {pipe} is under way")

    def _command(self, worker: str, action: str, target: str, request: Request) -> None:
        self._supervisor.command(worker, action, target, lambda reply: self._pass_on(request, reply))

    def _pass_on(self, request: Request, reply: Reply) -> None:
        self._supervisor.answer(request, RequestResult(reply.result, ok=reply.ok))

    # -- reload -----------------------------------------------------------------------------

    def _read_again(self) -> Draft:
        self._refuse_while_stopping()
        return read_again(self._config)

    def _refuse_while_stopping(self) -> None:
        if self._supervisor.is_stopping:
            raise ProgramError("the agent is stopping; start it again instead")

    def _take_over(self, config: Config) -> ReloadOutcome:
        self._refuse_while_stopping()
        check_ports(config, held=self._config)
        plan = make_plan(config, self._paths, self._identity)
        differences = list_differences(self._config, config)
        generations = {worker.name: worker.generation for worker in self._supervisor.status().workers}
        changes = _list_changes(self._plan, plan, generations)
        self._apply(config, plan)
        return ReloadOutcome(id=0, ok=True, differences=differences, changes=changes)


def _list_changes(before: Plan, after: Plan, generations: Mapping[str, int]) -> tuple[Change, ...]:
    old = {worker.name: worker.fingerprint for worker in before.workers}
    new = {worker.name: worker.fingerprint for worker in after.workers}
    actions = [
        *(("stop", name) for name in old if name not in new),
        *(("start", name) for name in new if name not in old),
        *(("restart", name) for name in new if name in old and new[name] != old[name]),
    ]
    return tuple(Change(action, name, generations.get(name, 0)) for action, name in actions)
