"""Supervises forked workers: control links, data links, restart, status."""

from fustor_supervisor.channel import MAX_FRAME_BYTES, Channel, FrameDecoder, encode_frame, make_link
from fustor_supervisor.errors import (
    ForkRefused,
    FrameTooLong,
    IllegalTransition,
    InvalidPlan,
    LinkClosed,
    QueueFull,
    RequestTimedOut,
    SupervisorError,
    UnknownWorker,
    WrongThread,
)
from fustor_supervisor.exitcodes import ExitCode, leave
from fustor_supervisor.loop import Supervisor
from fustor_supervisor.messages import Command, Reply, Request
from fustor_supervisor.notifier import Notifier
from fustor_supervisor.policy import is_stuck, next_delay
from fustor_supervisor.requests import RequestResult
from fustor_supervisor.runtime import Runtime
from fustor_supervisor.specs import LinkSpec, ResourceLimits, RestartPolicy, StuckLimits, WorkerSpec
from fustor_supervisor.states import WorkerEvent, WorkerState, advance
from fustor_supervisor.status import Death, SupervisorStatus, WorkerStatus

__version__ = "1.0.0"

__all__ = [
    "MAX_FRAME_BYTES",
    "Channel",
    "Command",
    "Death",
    "ExitCode",
    "ForkRefused",
    "FrameDecoder",
    "FrameTooLong",
    "IllegalTransition",
    "InvalidPlan",
    "LinkClosed",
    "LinkSpec",
    "Notifier",
    "QueueFull",
    "Reply",
    "Request",
    "RequestResult",
    "RequestTimedOut",
    "ResourceLimits",
    "RestartPolicy",
    "Runtime",
    "StuckLimits",
    "Supervisor",
    "SupervisorError",
    "SupervisorStatus",
    "UnknownWorker",
    "WorkerEvent",
    "WorkerSpec",
    "WorkerState",
    "WorkerStatus",
    "WrongThread",
    "advance",
    "encode_frame",
    "is_stuck",
    "leave",
    "make_link",
    "next_delay",
]
