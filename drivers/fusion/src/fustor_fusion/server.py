"""
One Fusion server, as its process sees it.

Importing this costs nothing: the web stack and the database come with `run`, after the fork.
"""

import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from fustor_fusion.config import FusionConfig

if TYPE_CHECKING:
    from fustor_fusion.report import ViewReport
    from fustor_fusion.serving import Serving


class FusionServer:
    """
    Serves the views of a configuration.

    `run` owns everything it opens and closes it before it returns.

    Args:
        config: What to serve, and where.
        listener: Accepts instead of a socket that the server opens at the configured address.
    """

    def __init__(self, config: FusionConfig, *, listener: socket.socket | None = None) -> None:
        self._config = config
        self._listener = listener
        self._serving: Serving | None = None
        self._stop_asked = threading.Event()

    def run(self, *, on_ready: Callable[[int], None]) -> None:
        """
        Serve until `stop`, in the calling thread.

        Args:
            on_ready: Called once with the port, as soon as the stores are open and the socket accepts.

        Raises:
            OSError: The address cannot be listened on, or the state directory not used.
            DatabaseTooNew: A newer release wrote a database.
            StoreUnavailable: A database cannot be opened for another reason than damage.
        """
        from fustor_fusion.serving import Serving

        with Serving(self._config, is_stop_asked=self._stop_asked.is_set, listener=self._listener) as serving:
            self._serving = serving
            serving.run(on_ready)

    def stop(self) -> None:
        """Make `run` return; any thread, any time, any number of times."""
        self._stop_asked.set()
        if self._serving is not None:
            self._serving.wake()

    def get_totals(self) -> dict[str, dict[str, int]]:
        """Return files, directories, bytes and rows applied since the start, by view; any thread."""
        if self._serving is None:
            return {}
        return {name: view.store.get_totals() for name, view in self._serving.views.items()}

    def describe_views(self, timeout_s: float) -> "dict[str, ViewReport]":
        """
        Return how each view stands; any thread but the one that serves.

        Raises:
            TimeoutError: The server does not answer in time.
        """
        return {} if self._serving is None else self._serving.describe_views(timeout_s)

    def find_failure(self) -> str | None:
        """Say which database was found to be damaged while it was served; None when none was; any thread."""
        if self._serving is None:
            return None
        failures = [(name, view.store.failure) for name, view in self._serving.views.items()]
        return next((f"view {name}: {failure}" for name, failure in failures if failure is not None), None)

    def owes_work(self) -> bool:
        """Tell whether a write is queued or under way; any thread."""
        return self._serving is not None and any(view.store.owes_work() for view in self._serving.views.values())

    def counters(self) -> dict[str, int]:
        """Return numbers that grow while it works; any thread."""
        if self._serving is None:
            return {"requests": 0, "rows_applied": 0, "commits": 0}
        stores = [view.store for view in self._serving.views.values()]
        return {
            "requests": self._serving.guard.requests,
            "rows_applied": sum(store.get_totals()["rows_applied"] for store in stores),
            "commits": sum(store.get_commits() for store in stores),
        }
