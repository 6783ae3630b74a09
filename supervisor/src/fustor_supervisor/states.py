"""
The states of a worker, and the only way to move between them.

`advance(state, event)` looks a move up in `TRANSITIONS`; a missing key is the illegal
move. What an operator wants (up or down) is not a state; it is kept apart.
"""

import enum
from collections.abc import Mapping
from typing import Final

from fustor_supervisor.errors import IllegalTransition


class WorkerState(enum.Enum):
    """What is observed of a worker."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FATAL = "fatal"
    ABANDONED = "abandoned"


class WorkerEvent(enum.Enum):
    """What can happen to a worker."""

    SPAWNED = "spawned"
    READY = "ready"
    DIED = "died"
    DIED_FOR_GOOD = "died for good"
    DIED_FAULTY = "died faulty"
    STUCK = "stuck"
    OUTGREW = "outgrew its memory"
    STOP_ASKED = "stop asked"
    DELAY_OVER = "delay over"
    WILL_NOT_DIE = "will not die"
    RELOADED = "reloaded"


_S = WorkerState
_E = WorkerEvent

# DIED_FAULTY is the death of a worker that was stopped because it was stuck or too large. It is a failure
# like a crash and must wait like one, or a worker that is so from the start would be forked without pause.
TRANSITIONS: Final[Mapping[WorkerState, Mapping[WorkerEvent, WorkerState]]] = {
    _S.STOPPED: {_E.SPAWNED: _S.STARTING, _E.STOP_ASKED: _S.STOPPED},
    _S.STARTING: {
        _E.READY: _S.RUNNING,
        _E.DIED: _S.BACKOFF,
        _E.DIED_FOR_GOOD: _S.FATAL,
        _E.STUCK: _S.STOPPING,
        _E.STOP_ASKED: _S.STOPPING,
    },
    _S.RUNNING: {
        _E.DIED: _S.BACKOFF,
        _E.DIED_FOR_GOOD: _S.FATAL,
        _E.STUCK: _S.STOPPING,
        _E.OUTGREW: _S.STOPPING,
        _E.STOP_ASKED: _S.STOPPING,
    },
    _S.BACKOFF: {_E.DELAY_OVER: _S.STOPPED, _E.STOP_ASKED: _S.STOPPED},
    _S.STOPPING: {
        _E.READY: _S.STOPPING,
        _E.DIED: _S.STOPPED,
        _E.DIED_FOR_GOOD: _S.STOPPED,
        _E.DIED_FAULTY: _S.BACKOFF,
        _E.STOP_ASKED: _S.STOPPING,
        _E.WILL_NOT_DIE: _S.ABANDONED,
    },
    _S.ABANDONED: {_E.DIED: _S.STOPPED, _E.STOP_ASKED: _S.ABANDONED},
    _S.FATAL: {_E.RELOADED: _S.STOPPED, _E.STOP_ASKED: _S.STOPPED},
}

ALIVE: Final = frozenset({_S.STARTING, _S.RUNNING, _S.STOPPING, _S.ABANDONED})
"""States in which there is a process."""

LINKED: Final = frozenset({_S.STARTING, _S.RUNNING})
"""States in which a worker is given data links."""


def advance(state: WorkerState, event: WorkerEvent) -> WorkerState:
    """
    Look up where an event leads.

    Raises:
        IllegalTransition: The table has no such move.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f'a worker that is {state.value} cannot move on "{event.value}"') from None


def draw_mermaid() -> str:
    """Render the table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {_S.STOPPED.value}"]
    for state, moves in TRANSITIONS.items():
        lines += [f"    {state.value} --> {target.value}: {event.value}" for event, target in moves.items()]
    return "\n".join(lines) + "\n"
