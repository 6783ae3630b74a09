"""The fusion worker: runs the embedded Fusion under the supervisor."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fustor_agent.reports import FusionReport

if TYPE_CHECKING:
    from fustor_supervisor.runtime import Runtime


class FusionSettings(msgspec.Struct, frozen=True):
    """
    What the fusion worker is given.

    Args:
        host: Where to listen.
        port: Where to listen.
        state_dir: Where the databases are.
        views: The views it serves, one for each pipe that sends to it.
        agent_key: The key that may push.
        reader_key: The key that may only read.
    """

    host: str
    port: int
    state_dir: Path
    views: tuple[str, ...]
    agent_key: str
    reader_key: str


def main(runtime: "Runtime", settings: FusionSettings) -> None:
    """
    Serve until the worker is to stop.

    Args:
        runtime: The worker's side of the control link.
        settings: Where, which views, and the keys.
    """
    # After the fork: only this worker pays for the web stack and the database.
    from fustor_fusion import FusionConfig, FusionServer
    from fustor_fusion.worker import serve

    def describe(server: FusionServer) -> bytes:
        return msgspec.msgpack.encode(FusionReport(views=server.get_totals()))

    config = FusionConfig(
        host=settings.host,
        port=settings.port,
        state_dir=settings.state_dir,
        views=settings.views,
        agent_key=settings.agent_key,
        reader_key=settings.reader_key,
    )
    try:
        serve(runtime, config, describe=describe)
    except OSError as err:
        runtime.fail(f"fusion.port: {settings.port} on {settings.host}: {err.strerror or err}", permanent=False)
