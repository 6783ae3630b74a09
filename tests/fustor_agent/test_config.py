from pathlib import Path

import pytest

from fustor_agent.config import Config, build_watch, load, load_again
from fustor_core.program.errors import BadConfig

GOOD = """\
console: {host: 127.0.0.1, port: 8100}
fusion: {host: 127.0.0.1, port: 8102}
sources:
  - id: my-local-files
    type: fs
    config:
      uri: /data/research
      driver_params: {file_pattern: "*"}
senders:
  - id: to-fusion
    type: fusion
    config:
      endpoint: http://localhost:8102
      credential: YOUR_API_KEY
pipes:
  - {id: phase-files-to-fusion, source_id: my-local-files, sender_id: to-fusion, enabled: true}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "agent-config.yaml"
    path.write_text(text)
    return path


def read_problems(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        load(path, environ or {})
    return [str(problem).replace(f"{path}:", "") for problem in caught.value.problems]


def test_the_documented_example_is_read(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD), {})
    (pipe,) = config.pipes
    assert config.get_source(pipe).config["uri"] == "/data/research"
    assert config.get_sender(pipe).id == "to-fusion"
    assert not config.embedded_views
    assert config.console.url == "http://127.0.0.1:8100"


@pytest.mark.parametrize("text", ["", "# all of it is a remark\n", "---\n", "{}\n"])
def test_a_file_that_holds_nothing_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    (problem,) = read_problems(path)
    assert problem == " it holds nothing; write `pipes: []` for an agent without pipes"


def test_an_agent_may_have_no_pipes(tmp_path: Path) -> None:
    config = load(write(tmp_path, "pipes: []\n"), {})
    assert (config.pipes, config.console.port, config.fusion.port) == ((), 8100, 8102)


def test_all_errors_come_at_once_with_file_line_key_value_and_remedy(tmp_path: Path) -> None:
    text = GOOD.replace("port: 8100", "port: 81000").replace("uri: /data", "uri: data") + (
        "  - {id: two, source_id: nowhere, sender_id: to-fusion}\n"
        "  - {id: two, source_id: my-local-files, sender_id: to-fusion, enabld: true}\n"
    )
    assert read_problems(write(tmp_path, text)) == [
        "1: console.port = 81000: expected int <= 65535; correct the value",
        '7: sources[0].config.uri = "data/research": it is a relative path; write the absolute path, beginning with /',
        '17: pipes[1].source_id = "nowhere": there is no source with this id; use one of: my-local-files',
        '18: pipes[2].enabld = true: there is no such key; did you mean "enabled"?',
        '18: pipes[2].id = "two": pipes[1] has the same id; rename one of the two',
    ]


def test_a_section_that_cannot_be_read_is_not_blamed_for_what_it_may_hold(tmp_path: Path) -> None:
    text = 'sources: 5\nsenders: [{id: s, type: 7}]\npipes: [{id: p, source_id: a, sender_id: s}, 3]\n'
    assert [problem.split(" = ")[0] for problem in read_problems(write(tmp_path, text))] == [
        "1: sources",
        "2: senders[0].type",
        "3: pipes[1]",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("type: fs", "type: 7", "5: sources[0].type = 7: expected str, got int; correct the value"),
        ("    type: fs\n", "", "4: sources[0].type: it is missing; add it"),
        ("console:", "consol:", '1: consol = a mapping: there is no such key; did you mean "console"?'),
        ("my-local-files\n", "../etc\n", '4: sources[0].id = "../etc": it is not a usable id; '),
        ("enabled: true", "enabled: maybe", '16: pipes[0].enabled = "maybe": expected bool, got str; '),
        ("port: 8100", "port: 8100, port: 9", "1: console.port: it stands here twice (first in line 1); remove one"),
        ("credential: YOUR_API_KEY", "credential: [", "16: expected the node content"),
    ],
)
def test_one_error_is_said_exactly(tmp_path: Path, old: str, new: str, expected: str) -> None:
    problems = read_problems(write(tmp_path, GOOD.replace(old, new, 1)))
    assert problems[0].startswith(expected), problems


def test_ids_must_be_unique_in_each_section_only(tmp_path: Path) -> None:
    text = GOOD.replace("my-local-files", "same").replace("to-fusion", "same").replace("phase-files-same", "same")
    assert load(write(tmp_path, text), {}).pipes[0].id == "same"


def test_a_missing_file_names_both_ways_out(tmp_path: Path) -> None:
    (problem,) = read_problems(tmp_path / "none.yaml")
    assert "fustor-agent init" in problem
    assert "--watch DIR" in problem


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in read_problems(path)[0]


def test_a_list_instead_of_a_mapping_is_an_error(tmp_path: Path) -> None:
    assert "expected object, got array" in read_problems(write(tmp_path, "- 1\n"))[0]


def test_a_postgres_uri_is_not_a_relative_path(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD.replace("/data/research", "postgres://db/x")), {})
    assert config.sources[0].config["uri"] == "postgres://db/x"


def test_the_environment_overrides_the_ports(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD), {"FUSTOR_CONSOLE_PORT": "0", "FUSTOR_FUSION_PORT": "9102"})
    assert (config.console.port, config.console.url, config.fusion.port) == (0, None, 9102)


@pytest.mark.parametrize("value", ["x", "-1", "65536", "8100.5", "٣", "9" * 5000])
def test_a_bad_port_variable_is_named(tmp_path: Path, value: str) -> None:
    (problem,) = read_problems(write(tmp_path, GOOD), {"FUSTOR_CONSOLE_PORT": value})
    assert problem.startswith("environment: FUSTOR_CONSOLE_PORT = ")


def test_the_embedded_fusion_needs_a_port_that_its_senders_know(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"fusion\.port = 0: expected int >= 1"):
        load(write(tmp_path, "fusion: {port: 0}\n"), {})
    with pytest.raises(BadConfig, match="use a number from 1 to 65535"):
        load(write(tmp_path, "pipes: []\n"), {"FUSTOR_FUSION_PORT": "0"})


def test_an_empty_port_variable_counts_as_unset(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD), {"FUSTOR_CONSOLE_PORT": ""}).console.port == 8100


def test_watch_is_one_tree_with_everything_called_watch() -> None:
    config = build_watch("/data", {})
    (pipe,) = config.pipes
    assert (pipe.id, pipe.source_id, pipe.sender_id, pipe.enabled) == ("watch", "watch", "watch", True)
    assert config.get_source(pipe).type == "fs"
    assert config.get_source(pipe).config == {"uri": "/data"}
    assert config.get_sender(pipe).is_embedded
    assert config.embedded_views


def test_watch_takes_a_relative_directory_from_where_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert build_watch("tree", {}).watch == str(tmp_path / "tree")


def test_console_and_embedded_fusion_cannot_share_a_port(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="both have port 8100"):
        build_watch("/data", {"FUSTOR_FUSION_PORT": "8100"})
    # Nobody listens on the second one here, so it does not matter.
    load(write(tmp_path, GOOD), {"FUSTOR_FUSION_PORT": "8100"})


def test_reading_again_sees_what_changed_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    config = load(path, {})
    write(tmp_path, GOOD.replace("enabled: true", "enabled: false"))
    assert not load_again(config, {}).pipes[0].enabled
    assert load_again(build_watch("/data", {}), {}) == build_watch("/data", {})


def test_a_pipe_that_is_switched_off_does_not_need_the_embedded_fusion(tmp_path: Path) -> None:
    text = GOOD.replace("http://localhost:8102", "embedded")
    assert load(write(tmp_path, text), {}).embedded_views
    assert not load(write(tmp_path, text.replace("enabled: true", "enabled: false")), {}).embedded_views


def test_a_config_made_by_hand_needs_no_file() -> None:
    assert Config().pipes == ()
