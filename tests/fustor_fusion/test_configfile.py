from pathlib import Path

import pytest

from fustor_core.program.errors import BadConfig
from fustor_fusion.configfile import StandaloneConfig, ViewConfig, configure_server, load
from fustor_fusion.home import Home

FULL = """
host: 0.0.0.0
port: 9000
views:
  - {id: north}
  - {id: south}
allowed_hosts: [fusion.example.org]
session_timeout_s: 12.5
audit_interval_s: 86400
sentinel_interval_s: null
max_body_bytes: 1000000
keys_file: /etc/fustor/keys.json
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "fusion.yaml"
    path.write_text(text)
    return path


def complain(folder: Path, text: str) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        load(write(folder, text))
    return [str(problem).removeprefix(f"{folder}/fusion.yaml:") for problem in caught.value.problems]


def test_what_the_file_says_is_what_the_server_is_told(tmp_path: Path) -> None:
    server = configure_server(load(write(tmp_path, FULL)), Home(tmp_path), agent_key="a", reader_key="r")
    assert {name: getattr(server, name) for name in server.__struct_fields__} == {
        "state_dir": tmp_path / "state", "views": ("north", "south"), "agent_key": "a", "reader_key": "r",
        "keys_file": Path("/etc/fustor/keys.json"), "host": "0.0.0.0", "port": 9000,
        "allowed_hosts": ("fusion.example.org",), "session_timeout_s": 12.5, "audit_interval_s": 86400.0,
        "sentinel_interval_s": None, "max_body_bytes": 1_000_000,
    }


def test_what_it_does_not_say_is_as_with_the_embedded_one(tmp_path: Path) -> None:
    server = configure_server(load(write(tmp_path, "views: [{id: a}]")), Home(tmp_path))
    embedded = type(server)(state_dir=server.state_dir, views=("a",), keys_file=tmp_path / "state" / "keys.json")
    assert server == embedded


def test_all_errors_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
views:
  - {id: a/b}
  - {id: north}
  - {id: north, color: red}
port: 70000
session_timeout_s: 0
audit_interval_s: .inf
keys_file: keys.json
host: ""
port: 1
"""
    found = complain(tmp_path, text)
    assert [line.partition(" = ")[0].partition(": it stands")[0] for line in found] == [
        "2: views[0].id", "4: views[2].color", "4: views[2].id", "6: session_timeout_s", "7: audit_interval_s",
        "8: keys_file", "9: host", "10: port",
    ]
    assert found[-3] == '8: keys_file = "keys.json": it is a relative path; write the absolute path, beginning with /'


@pytest.mark.parametrize(("text", "complaint"), [
    ("", " views: it is missing; add it"),
    ("views: []", "1: views: there is no view; name at least one, as in `views: [{id: main}]`"),
    ("- a", "1:  = a list: expected object, got array; correct the value"),
])
def test_without_a_view_there_is_nothing_to_serve(tmp_path: Path, text: str, complaint: str) -> None:
    assert complain(tmp_path, text) == [complaint]


def test_a_missing_file_names_the_way_without_one(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"there is no such file; .*`fustor-fusion start --view ID`"):
        load(tmp_path / "none.yaml")


def test_a_config_made_by_hand_needs_no_file() -> None:
    config = StandaloneConfig(views=(ViewConfig("v"),))
    assert config.find_keys_file(Home(Path("/h"))) == Path("/h/state/keys.json")
