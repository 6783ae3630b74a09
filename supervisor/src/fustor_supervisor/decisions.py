"""What a worker decides; values, which the staff carries out."""

from dataclasses import dataclass
from typing import TypeAlias

from fustor_supervisor import messages


@dataclass(frozen=True)
class Spawn:
    """Fork the worker."""


@dataclass(frozen=True)
class Send:
    """Send a message to the worker."""

    message: messages.ToWorkerMessage


@dataclass(frozen=True)
class Inspect:
    """Look what the process is doing and tell the worker, by `on_inspected`."""


@dataclass(frozen=True)
class Dump:
    """Have the worker write its stacks; by signal if its control thread may not run."""

    by_signal: bool


@dataclass(frozen=True)
class Kill:
    """Kill the worker's process group."""


@dataclass(frozen=True)
class Wait:
    """Call `on_deadline` at `until`, in place of an earlier deadline; None cancels it."""

    until: float | None


Decision: TypeAlias = Spawn | Send | Inspect | Dump | Kill | Wait
