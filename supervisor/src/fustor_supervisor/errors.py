"""
The errors of the supervisor, grouped by what the caller does next.

    SupervisorError
    ├── LinkClosed         the other end is gone or the link was shut down: wait for the next one
    ├── FrameTooLong       the stream is unusable: drop the link
    ├── IllegalTransition  a bug of the caller: the state table has no such move
    ├── ForkRefused        a bug of the caller: a thread runs in the process that forks
    ├── WrongThread        a bug of the caller: the call would wait for its own thread
    ├── QueueFull          the worker does not read its control link: it counts as stuck
    ├── InvalidPlan        correct the workers and links; nothing was changed
    ├── UnknownWorker      correct the name; nothing was changed
    └── RequestTimedOut    the supervisor did not answer in time: it may still do what was asked
"""


class SupervisorError(Exception):
    """Base of every error that this package raises on purpose."""


class LinkClosed(SupervisorError):
    """Nothing can be sent over the link any more."""


class FrameTooLong(SupervisorError):
    """A frame's length prefix is above the limit."""


class IllegalTransition(SupervisorError):
    """The state table has no such move; the state is unchanged."""


class ForkRefused(SupervisorError):
    """The process has more than one thread and must not fork."""


class WrongThread(SupervisorError):
    """The control thread must not wait for what only it can bring."""


class QueueFull(SupervisorError):
    """The queue of messages to a worker is full."""


class InvalidPlan(SupervisorError):
    """Workers and links that contradict each other."""


class UnknownWorker(SupervisorError):
    """No worker has this name."""


class RequestTimedOut(SupervisorError):
    """A worker's request to the supervisor was not answered in time."""
