from pathlib import Path
from typing import Any

import msgspec
import pytest

from fustor_agent.config import (
    Config,
    ConsoleConfig,
    FusionConfig,
    PipeConfig,
    SenderConfig,
    SourceConfig,
    WorkerConfig,
    WorkersConfig,
)
from fustor_agent.paths import Paths
from fustor_agent.plan import Identity, Plan, make_plan
from fustor_supervisor.specs import LinkSpec, ResourceLimits, check_plan

IDENTITY = Identity(agent_id="agent", seed_ns=5, token="token", agent_key="push", reader_key="read")
CONFIG = Config(
    sources=(SourceConfig("a", "fs", {"uri": "/a"}), SourceConfig("b", "fs", {"uri": "/b"})),
    senders=(
        SenderConfig("own", "fusion", {"endpoint": "embedded"}),
        SenderConfig("far", "fusion", {"endpoint": "http://far:1", "credential": "k"}),
    ),
    pipes=(PipeConfig("p", "a", "own"), PipeConfig("q", "b", "far")),
)


def plan_of(config: Config = CONFIG, identity: Identity = IDENTITY) -> Plan:
    plan = make_plan(config, Paths(home=Path("/home")), identity)
    check_plan(plan.workers, plan.links)
    return plan


def changed(before: Plan, after: Plan) -> set[str]:
    old = {worker.name: worker.fingerprint for worker in before.workers}
    new = {worker.name: worker.fingerprint for worker in after.workers}
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


def replace(value: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(value, **changes)


def test_each_pipe_is_two_workers_and_a_link_beside_fusion_and_console() -> None:
    plan = plan_of()
    assert [worker.name for worker in plan.workers] == [
        "fusion", "p.source", "p.pusher", "q.source", "q.pusher", "console",
    ]  # fmt: skip
    assert plan.links == (LinkSpec("p", "p.source", "p.pusher"), LinkSpec("q", "q.source", "q.pusher"))
    assert [worker.name for worker in plan.workers if worker.wants_status] == ["console"]


def test_sources_stop_first_then_pushers_then_the_receiver_then_the_console() -> None:
    ranks = {worker.name.rpartition(".")[2]: worker.stop_rank for worker in plan_of().workers}
    assert ranks["source"] < ranks["pusher"] < ranks["fusion"] < ranks["console"]


def test_what_is_switched_off_is_not_planned() -> None:
    pipes = (replace(CONFIG.pipes[0], enabled=False), CONFIG.pipes[1])
    plan = plan_of(replace(CONFIG, pipes=pipes, console=ConsoleConfig(port=0)))
    assert [worker.name for worker in plan.workers] == ["q.source", "q.pusher"]
    assert [link.name for link in plan.links] == ["q"]


def test_nothing_to_run_is_a_plan_too() -> None:
    assert [worker.name for worker in plan_of(Config()).workers] == ["console"]


def test_the_same_configuration_changes_nothing_in_another_run() -> None:
    assert changed(plan_of(), plan_of()) == set()
    assert changed(plan_of(), plan_of(identity=replace(IDENTITY, seed_ns=6))) == set()


@pytest.mark.parametrize(
    ("change", "workers"),
    [
        ({"sources": (CONFIG.sources[0], replace(CONFIG.sources[1], config={"uri": "/c"}))}, {"q.source"}),
        ({"senders": (CONFIG.senders[0], replace(CONFIG.senders[1], config={"endpoint": "x"}))}, {"q.pusher"}),
        ({"console": ConsoleConfig(port=8200)}, {"console"}),
        ({"fusion": FusionConfig(port=8200)}, {"fusion", "p.pusher"}),
        ({"pipes": CONFIG.pipes[:1]}, {"q.source", "q.pusher"}),
        ({"pipes": (replace(CONFIG.pipes[0], source_id="b"), CONFIG.pipes[1])}, {"p.source"}),
        (
            {"pipes": (*CONFIG.pipes, PipeConfig("r", "b", "own"))},
            {"r.source", "r.pusher", "fusion"},
        ),
        ({"sources": (*CONFIG.sources, SourceConfig("c", "fs", {"uri": "/c"}))}, set()),
        ({"workers": WorkersConfig(source=WorkerConfig(nice=5))}, {"p.source", "q.source"}),
        ({"workers": WorkersConfig(console=WorkerConfig(hard_memory_mb=500))}, {"console"}),
        ({"workers": WorkersConfig(pusher=WorkerConfig(restart_cap_s=60.0, stuck_after_s=300.0))}, set()),
    ],
)
def test_a_change_touches_only_the_workers_that_run_with_it(change: dict[str, Any], workers: set[str]) -> None:
    assert changed(plan_of(), plan_of(replace(CONFIG, **change))) == workers


def test_limits_are_those_of_the_kind_of_worker() -> None:
    limited = WorkerConfig(
        soft_memory_mb=100, hard_memory_mb=200, open_files=300, nice=4, restart_cap_s=5.0, healthy_after_s=6.0,
        stuck_after_s=7.0,
    )  # fmt: skip
    plan = plan_of(replace(CONFIG, workers=WorkersConfig(source=limited)))
    workers = {worker.name: worker for worker in plan.workers}
    source = workers["q.source"]
    assert source.resources == ResourceLimits(100_000_000, 200_000_000, 300, 4)
    assert (source.restart.cap_s, source.restart.healthy_after_s) == (5.0, 6.0)
    assert {source.limits.owed_s, *source.limits.phases.values()} == {7.0}
    assert workers["q.pusher"].resources == ResourceLimits()
    assert workers["q.pusher"].limits.owed_s == 12.0


def test_no_secret_can_be_read_from_a_plan() -> None:
    text = repr(plan_of())
    for secret in ("token", "push'", "read'", "credential"):
        assert f"'{secret}" not in text
    assert all(len(worker.fingerprint) == 64 for worker in plan_of().workers)


def test_a_file_that_a_sender_names_belongs_to_its_pushers() -> None:
    before, after = replace(CONFIG, digests={"far": "1"}), replace(CONFIG, digests={"far": "2"})
    assert changed(plan_of(before), plan_of(after)) == {"q.pusher"}
