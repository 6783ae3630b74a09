from msgspec.structs import replace

from fustor_agent.config import (
    Config,
    ConsoleConfig,
    PipeConfig,
    SenderConfig,
    SourceConfig,
    WorkerConfig,
    WorkersConfig,
)
from fustor_agent.configdiff import list_differences

CONFIG = Config(
    sources=(
        SourceConfig("a", "fs", {"uri": "/a"}),
        SourceConfig("b", "fs", {"uri": "/b", "driver_params": {"file_pattern": "*", "names": ["x"]}}),
    ),
    senders=(SenderConfig("to", "fusion", {"endpoint": "embedded", "credential": "k1"}),),
    pipes=(PipeConfig("p", "a", "to"), PipeConfig("q", "b", "to")),
)


def test_the_same_configuration_differs_in_nothing_wherever_it_stands() -> None:
    moved = replace(CONFIG, sources=CONFIG.sources[::-1], file="/elsewhere", lines={("sources",): 7})
    assert list_differences(CONFIG, moved) == ()


def test_a_file_whose_content_changed_is_told_without_it() -> None:
    before = replace(CONFIG, digests={"to": "0af3", "gone": "1"})
    after = replace(CONFIG, digests={"to": "77b1", "new": "2"})
    assert list_differences(before, after) == ("senders[to].config: a file that it names has changed",)


def test_each_key_that_changed_is_named_with_both_values() -> None:
    params = {"uri": "/c", "driver_params": {"file_pattern": "*.csv", "names": ["x", "y"]}}
    after = replace(
        CONFIG,
        console=ConsoleConfig(port=8200),
        workers=WorkersConfig(source=WorkerConfig(nice=5)),
        sources=(CONFIG.sources[0], replace(CONFIG.sources[1], config=params)),
        pipes=(CONFIG.pipes[0], replace(CONFIG.pipes[1], enabled=False)),
    )
    assert list_differences(CONFIG, after) == (
        "console.port: 8100 -> 8200",
        "pipes[q].enabled: true -> false",
        'sources[b].config.driver_params.file_pattern: "*" -> "*.csv"',
        "sources[b].config.driver_params.names: changed",
        'sources[b].config.uri: "/b" -> "/c"',
        "workers.source.nice: 0 -> 5",
    )


def test_what_came_and_what_went_is_named() -> None:
    sources = (replace(CONFIG.sources[0], config={"path": "/a"}), SourceConfig("c", "fs"))
    assert list_differences(CONFIG, replace(CONFIG, sources=sources, pipes=CONFIG.pipes[:1])) == (
        "pipes[q] is gone",
        'sources[a].config.path: "/a" is new',
        'sources[a].config.uri: "/a" is gone',
        "sources[b] is gone",
        "sources[c] is new",
    )


def test_a_secret_is_only_said_to_have_changed() -> None:
    sender = replace(CONFIG.senders[0], config={"endpoint": "embedded", "credential": "k2"})
    assert list_differences(CONFIG, replace(CONFIG, senders=(sender,))) == ("senders[to].config.credential: changed",)
    sender = replace(CONFIG.senders[0], config={"endpoint": "embedded", "credential": {"file": "/secret-place"}})
    found = list_differences(CONFIG, replace(CONFIG, senders=(sender,)))
    assert found == (
        "senders[to].config.credential: (hidden) is gone", "senders[to].config.credential.file: (hidden) is new",
    )
