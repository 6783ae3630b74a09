"""From the configuration to workers and links; pure, nothing is started here."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec

from fustor_agent.config import Config, PipeConfig, WorkerConfig
from fustor_agent.drivercheck import resolve_embedded
from fustor_agent.paths import Paths
from fustor_agent.workers import console, fusion, pusher, source
from fustor_core.clock import IndexClock
from fustor_core.drivers import PusherContext, SourceContext
from fustor_core.program import logs
from fustor_supervisor.specs import LinkSpec, ResourceLimits, RestartPolicy, StuckLimits, WorkerSpec

CONSOLE: Final = "console"
FUSION: Final = "fusion"
SOURCE_SUFFIX: Final = ".source"
PUSHER_SUFFIX: Final = ".pusher"

# Sources stop first and hand over what they read; then pushers deliver it; then the receiver may go.
_SOURCE_RANK, _PUSHER_RANK, _FUSION_RANK, _CONSOLE_RANK = range(4)
# A walk shows that it moves after every few names, of which each may take as long as a slow mount needs.
_SOURCE_LIMITS: Final = StuckLimits(phases={"snapshot": 14.0, "audit": 14.0})


class Identity(msgspec.Struct, frozen=True):
    """
    What an agent keeps for life, and for one run.

    Args:
        agent_id: Names the agent to receivers.
        seed_ns: Seed of this run's index clocks.
        token: What the console asks of those who change something.
        agent_key: The embedded Fusion's key for pushing.
        reader_key: The embedded Fusion's key for reading.
    """

    agent_id: str
    seed_ns: int
    token: str
    agent_key: str
    reader_key: str


class Plan(msgspec.Struct, frozen=True):
    """What the supervisor is to run."""

    workers: tuple[WorkerSpec, ...]
    links: tuple[LinkSpec, ...]


def make_plan(config: Config, paths: Paths, identity: Identity) -> Plan:
    """
    Say which workers and links a configuration means.

    Args:
        config: Free of errors.
        paths: Where state is kept.
        identity: Who the agent is.

    Returns:
        The receiver first, then the pipes, then the console.
    """
    pipes = [pipe for pipe in config.pipes if pipe.enabled]
    workers: list[WorkerSpec] = []
    links: list[LinkSpec] = []
    if config.embedded_views:
        workers.append(_plan_fusion(config, paths, identity))
    for pipe in pipes:
        workers += [_plan_source(config, pipe, paths, identity), _plan_pusher(config, pipe, paths, identity)]
        links.append(LinkSpec(name=pipe.id, source=pipe.id + SOURCE_SUFFIX, target=pipe.id + PUSHER_SUFFIX))
    if config.console.port:
        workers.append(_plan_console(config, identity))
    return Plan(workers=tuple(workers), links=tuple(links))


def _plan_source(config: Config, pipe: PipeConfig, paths: Paths, identity: Identity) -> WorkerSpec:
    entry = config.get_source(pipe)
    settings = source.SourceSettings(
        pipe_id=pipe.id,
        type=entry.type,
        config=entry.config,
        audit_interval_s=pipe.audit_interval_s,
        full_audit_interval_s=pipe.full_audit_interval_s,
    )
    context = functools.partial(SourceContext, pipe_id=pipe.id, state_dir=paths.state_dir / "sources" / pipe.id)

    def main(runtime: Any) -> None:
        logs.name_process(runtime.name)
        # The clock's seed is for this run; it is no part of what a reload compares.
        source.main(runtime, settings, context(clock=IndexClock(identity.seed_ns)))

    spec = WorkerSpec(
        name=pipe.id + SOURCE_SUFFIX,
        main=main,
        fingerprint=_fingerprint(settings),
        limits=_SOURCE_LIMITS,
        stop_rank=_SOURCE_RANK,
    )
    return _limit(spec, config.workers.source)


def _plan_pusher(config: Config, pipe: PipeConfig, paths: Paths, identity: Identity) -> WorkerSpec:
    entry = config.get_sender(pipe)
    settings = pusher.PusherSettings(
        pipe_id=pipe.id,
        type=entry.type,
        config=resolve_embedded(entry, url=config.fusion.url, key=identity.agent_key),
        session_file=paths.state_dir / f"session-{pipe.id}.json",
        refused_file=paths.refused,
    )
    context = PusherContext(
        pipe_id=pipe.id,
        schema="fs",
        agent_id=identity.agent_id,
        state_dir=paths.state_dir / "pushers" / pipe.id,
        read_clock=IndexClock(identity.seed_ns).read,
    )
    spec = WorkerSpec(
        name=pipe.id + PUSHER_SUFFIX,
        main=_bind(pusher.main, settings, context),
        fingerprint=_hash(_fingerprint(settings) + config.digests.get(entry.id, "")),
        stop_rank=_PUSHER_RANK,
    )
    return _limit(spec, config.workers.pusher)


def _plan_fusion(config: Config, paths: Paths, identity: Identity) -> WorkerSpec:
    settings = fusion.FusionSettings(
        host=config.fusion.host,
        port=config.fusion.port,
        state_dir=paths.state_dir,
        views=config.embedded_views,
        agent_key=identity.agent_key,
        reader_key=identity.reader_key,
    )
    spec = WorkerSpec(
        name=FUSION,
        main=_bind(fusion.main, settings),
        fingerprint=_fingerprint(settings),
        stop_rank=_FUSION_RANK,
    )
    return _limit(spec, config.workers.fusion)


def _plan_console(config: Config, identity: Identity) -> WorkerSpec:
    settings = console.ConsoleSettings(host=config.console.host, port=config.console.port, token=identity.token)
    spec = WorkerSpec(
        name=CONSOLE,
        main=_bind(console.main, settings),
        fingerprint=_fingerprint(settings),
        stop_rank=_CONSOLE_RANK,
        wants_status=True,
    )
    return _limit(spec, config.workers.console)


def _limit(spec: WorkerSpec, config: WorkerConfig) -> WorkerSpec:
    """Give a worker the limits of the configuration; those that only its start can set are part of its fingerprint."""
    resources = ResourceLimits(
        soft_memory_bytes=_to_bytes(config.soft_memory_mb),
        hard_memory_bytes=_to_bytes(config.hard_memory_mb),
        open_files=config.open_files,
        nice=config.nice,
    )
    limits = spec.limits
    if config.stuck_after_s is not None:
        limits = replace(limits, owed_s=config.stuck_after_s, phases=dict.fromkeys(limits.phases, config.stuck_after_s))
    return replace(
        spec,
        fingerprint=_hash(f"{spec.fingerprint} {resources}"),
        restart=RestartPolicy(cap_s=config.restart_cap_s, healthy_after_s=config.healthy_after_s),
        limits=limits,
        resources=resources,
    )


def _to_bytes(megabytes: int | None) -> int | None:
    return None if megabytes is None else megabytes * 1_000_000


def _bind(main: Callable[..., None], *args: object) -> Callable[[Any], None]:
    def run(runtime: Any) -> None:
        logs.name_process(runtime.name)
        main(runtime, *args)

    return run


def _fingerprint(settings: msgspec.Struct) -> str:
    """Name what a worker runs with, without showing it: it may hold credentials."""
    # Not as JSON: a path may hold bytes that are no UTF-8, and a number more digits than 64 bits.
    builtins = msgspec.to_builtins(settings, order="sorted", enc_hook=str)
    return _hash(ascii(builtins))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
