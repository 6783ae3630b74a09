"""The source worker: what it is given, and how it loads its driver and becomes the pump."""

import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fustor_agent.audits import Audits
from fustor_agent.pump import SourceWorker
from fustor_core.drivers import SourceContext, SourceDriver
from fustor_core.errors import ConfigError, FustorError

if TYPE_CHECKING:
    from fustor_supervisor.runtime import Runtime

_log: Final = logging.getLogger(__name__)


class SourceSettings(msgspec.Struct, frozen=True):
    """
    What a source worker is given.

    Args:
        pipe_id: The pipe.
        type: The driver.
        config: The driver's part of the configuration, as read.
        audit_interval_s: Between automatic incremental audits; 0 is never.
        full_audit_interval_s: Between automatic full audits; 0 is never.
    """

    pipe_id: str
    type: str
    config: dict[str, Any]
    audit_interval_s: float = 0.0
    full_audit_interval_s: float = 0.0


def main(runtime: "Runtime", settings: SourceSettings, context: SourceContext) -> None:
    """
    Run a source driver until the worker is to stop.

    Args:
        runtime: The worker's side of the control link.
        settings: Which driver, and its configuration.
        context: What the driver is given.
    """
    # After the fork: no driver is ever imported in the supervisor.
    from fustor_agent.drivers import load_source

    worker: SourceWorker | None = None

    def note_progress(quiet_s: float = 0.0) -> None:
        if worker is not None:  # what takes long while the driver is made is bounded by the limit of the start
            worker.note_progress(quiet_s)

    context = msgspec.structs.replace(context, on_progress=note_progress)
    try:
        driver_type = load_source(settings.type)
        config = msgspec.convert(settings.config, driver_type.Config)
        driver_type.test_connection(config)
        driver = driver_type(config, context)
    except (ConfigError, msgspec.ValidationError) as err:
        runtime.fail(f'pipe "{settings.pipe_id}": {err}', permanent=True)
    except FustorError as err:
        runtime.fail(f'pipe "{settings.pipe_id}": {err}', permanent=False)
    audits = Audits(incremental_s=settings.audit_interval_s, full_s=settings.full_audit_interval_s)
    worker = SourceWorker(runtime, driver, audits)
    runtime.on_attach = worker.attach
    runtime.on_command = worker.order
    runtime.on_stop(driver.wake)
    runtime.on_ping = driver.wake
    runtime.ready()
    try:
        worker.run()
    except Exception:
        _record(driver)
        raise
    driver.close()


def _record(driver: SourceDriver) -> None:
    """Keep what happened before a fault, whatever else is wrong by now."""
    try:
        _log.error("what happened last was recorded path=%s", driver.record())
    except NotImplementedError:
        pass
    except Exception:  # the fault itself matters more
        _log.exception("nothing was recorded")
