import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fustor_agent.config import Config, SenderConfig, load, read
from fustor_agent.drivercheck import check, check_drivers, resolve_embedded
from fustor_core.program.errors import BadConfig

InstallDriver = Callable[[str, str, str], None]

PUSHER = """
import os, time, msgspec
from fustor_core.drivers import PusherDriver
from fustor_core.errors import Unavailable
class Driver(PusherDriver):
    class Config(msgspec.Struct, forbid_unknown_fields=True):
        endpoint: str
        credential: str = ""
        retries: int = 0
        def __post_init__(self):
            if self.endpoint == "crash": os._exit(9)
            if self.endpoint == "abort": os.abort()
            if self.endpoint == "hang": time.sleep(600)
            if self.endpoint == "raise": raise RuntimeError("unforeseen")
            if self.endpoint == "exit": raise SystemExit(0)
    def open_session(self): ...
    def heartbeat(self, session, *, can_realtime): ...
    def close_session(self, session): ...
    def push(self, session, batch): ...
    def test_connection(self):
        if self.config.endpoint == "away": raise Unavailable("nobody listens there")
    def close(self): ...
"""


def make_config(tmp_path: Path, config: str) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(f"senders:\n  - id: a\n    type: odd\n    config: {config}\n")
    return load(path, {})


@pytest.fixture
def odd(install_driver: InstallDriver) -> None:
    install_driver("pusher", "odd", PUSHER)


@pytest.mark.usefixtures("odd")
def test_a_right_configuration_has_no_problems_and_imports_nothing_here(tmp_path: Path) -> None:
    assert check_drivers(make_config(tmp_path, "{endpoint: x}")) == []
    assert "strange_odd" not in sys.modules


@pytest.mark.usefixtures("odd")
def test_files_that_a_configuration_names_are_digested_by_their_driver(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    senders = [
        {"id": "a", "type": "odd", "config": {"endpoint": "x"}},
        {"id": "b", "type": "fusion", "config": {"endpoint": "http://x", "credential": {"file": f"{tmp_path}/key"}}},
    ]
    path.write_text(json.dumps({"senders": senders}))
    before = check(read(path, {})).digests
    (tmp_path / "key").write_text("s3cret")
    after = check(read(path, {})).digests
    assert (before["a"], after["a"]) == ("", "")
    assert before["b"] != after["b"]


@pytest.mark.usefixtures("odd")
def test_what_a_driver_does_not_take_is_said_with_its_line(tmp_path: Path) -> None:
    config = make_config(tmp_path, "\n      retries: many\n      credential: [hunter2]\n      colour: red")
    problems = [str(problem).removeprefix(f"{config.file}:") for problem in check_drivers(config)]
    assert problems == [
        "5: senders[0].config.retries = \"many\": expected int, got str; correct the value",
        "6: senders[0].config.credential = (hidden): expected str, got array; correct the value",
        '7: senders[0].config.colour = "red": there is no such key; '
        "remove it; the keys are endpoint, credential, retries",
        "4: senders[0].config.endpoint: it is missing; add it",
    ]


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("crash", "ended the process that checked it (exit code 9)"),
        ("abort", "ended the process that checked it (signal SIGABRT)"),
        ("hang", "did not finish its check within 0.5 s"),
        ("raise", "raises RuntimeError: unforeseen"),
        ("exit", "raises SystemExit: 0"),
    ],
)
def test_a_driver_that_misbehaves_is_a_problem_like_any_other(tmp_path: Path, endpoint: str, expected: str) -> None:
    timeout_s = 0.5 if endpoint == "hang" else 60
    (problem,) = check_drivers(make_config(tmp_path, f"{{endpoint: {endpoint}}}"), timeout_s=timeout_s)
    assert expected in problem.reason
    assert problem.line == 3


def test_an_unknown_type_is_a_problem(tmp_path: Path) -> None:
    (problem,) = check_drivers(make_config(tmp_path, "{}"))
    assert str(problem).endswith(
        '3: senders[0].type = "odd": no pusher driver of this type is installed; '
        "install the package that brings it, or use one of: echo, fusion"
    )


@pytest.mark.usefixtures("odd")
def test_a_probe_says_what_does_not_answer(tmp_path: Path) -> None:
    config = make_config(tmp_path, "{endpoint: away}")
    assert check_drivers(config) == []
    (problem,) = check_drivers(config, probe=True)
    assert problem.reason == "it cannot be reached now: nobody listens there"
    assert check_drivers(make_config(tmp_path, "{endpoint: here}"), probe=True) == []


@pytest.mark.usefixtures("odd")
def test_a_check_keeps_no_descriptor(tmp_path: Path) -> None:
    config = make_config(tmp_path, "{endpoint: x}")
    before = len(os.listdir("/proc/self/fd"))
    check_drivers(config)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.usefixtures("odd")
def test_a_check_sees_nothing_that_its_parent_has_open(tmp_path: Path, install_driver: InstallDriver) -> None:
    curious = "raise RuntimeError(sorted(os.listdir('/proc/self/fd')))"
    code = PUSHER.replace('raise RuntimeError("unforeseen")', curious)
    install_driver("pusher", "curious", code)
    path = tmp_path / "c.yaml"
    path.write_text("senders: [{id: a, type: curious, config: {endpoint: raise}}]\n")
    with open(path):
        (problem,) = check_drivers(load(path, {}))
    # 0 to 2, the pipe to the parent, and the one that lists.
    assert "RuntimeError: ['0', '1', '2', '3', '4']" in problem.reason


@pytest.mark.usefixtures("odd")
def test_what_drivers_do_not_take_comes_in_one_report_with_all_else_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "console: {port: 99999}\n"
        "senders:\n"
        "  - {id: a, type: odd, config: {endpoint: x, colour: red}}\n"
        "  - {id: b, type: odd, config: {retries: 1}, extra: 2}\n"
        "  - {id: c, type: 5}\n"
        "pipes: [{id: p, source_id: nowhere, sender_id: a}]\n"
    )
    with pytest.raises(BadConfig) as caught:
        check(read(path, {}))
    assert [(one.line, one.key) for one in caught.value.problems] == [
        (1, "console.port"),
        (3, "senders[0].config.colour"),
        (4, "senders[1].extra"),
        (4, "senders[1].config.endpoint"),
        (5, "senders[2].type"),
        (6, "pipes[0].source_id"),
    ]


def test_embedded_becomes_address_and_key_unless_there_is_a_credential() -> None:
    sender = SenderConfig(id="a", type="fusion", config={"endpoint": "embedded", "retries": 1})
    resolved = resolve_embedded(sender, url="http://127.0.0.1:8102", key="k")
    assert resolved == {"endpoint": "http://127.0.0.1:8102", "credential": "k", "retries": 1}
    own = SenderConfig(id="a", type="fusion", config={"endpoint": "embedded", "credential": "mine"})
    assert resolve_embedded(own, url="u", key="k")["credential"] == "mine"
    other = SenderConfig(id="a", type="fusion", config={"endpoint": "http://else"})
    assert resolve_embedded(other, url="u", key="k") == {"endpoint": "http://else"}
