"""A source worker's main, with drivers that are installed for the test."""

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from fake_runtime import FakeRuntime
from fake_source import FakeSource

from fustor_agent.workers.source import SourceSettings, main

_STRANGE = """
from fake_source import FakeSource
from fustor_core.errors import ConfigError, Unavailable

class Driver(FakeSource):
    made = []
    def __init__(self, config, context):
        super().__init__()
        type(self).made.append(self)
        {init}
    @classmethod
    def test_connection(cls, config):
        {test}
"""


def run_main(install: Callable[[str, str, str], None], config: dict[str, Any], **code: str) -> FakeRuntime:
    install("source", "strange", _STRANGE.format(**{"init": "pass", "test": "pass", **code}))
    runtime = FakeRuntime()
    runtime.stop()
    with contextlib.suppress(SystemExit):
        main(
            runtime,  # type: ignore[arg-type]
            SourceSettings(pipe_id="p", type="strange", config=config),
            msgspec.structs.replace(FakeSource().context),
        )
    return runtime


def test_main_runs_the_driver_until_the_stop_and_closes_it(install_driver: Callable[[str, str, str], None]) -> None:
    runtime = run_main(install_driver, {"uri": "/x"})
    assert (runtime.is_ready, runtime.failures) == (True, [])
    import strange_strange

    assert strange_strange.Driver.made[0].told == [("close",)]


def test_what_happened_before_a_fault_is_recorded(install_driver: Callable[[str, str, str], None]) -> None:
    init = "self.get_status = lambda: 1 / 0"
    install_driver("source", "strange", _STRANGE.format(init=init, test="pass"))
    settings = SourceSettings(pipe_id="p", type="strange", config={"uri": "/x"})
    with pytest.raises(ZeroDivisionError):
        main(FakeRuntime(), settings, FakeSource().context)  # type: ignore[arg-type]
    import strange_strange

    assert strange_strange.Driver.made[0].told == [("record",)]


@pytest.mark.parametrize(
    ("config", "code", "failure"),
    [
        ({}, {"test": "raise Unavailable('/x is not there')"}, ('pipe "p": /x is not there', False)),
        ({}, {"test": "raise ConfigError('/x is a file')"}, ('pipe "p": /x is a file', True)),
        ({}, {"init": "raise Unavailable('no inotify instance')"}, ('pipe "p": no inotify instance', False)),
        ({"uri": 1}, {}, ('pipe "p": Expected `str`, got `int` - at `$.uri`', True)),
    ],
)
def test_main_says_what_is_wrong_and_whether_trying_again_helps(
    install_driver: Callable[[str, str, str], None],
    config: dict[str, Any],
    code: dict[str, str],
    failure: tuple[str, bool],
) -> None:
    runtime = run_main(install_driver, config, **code)
    assert (runtime.is_ready, runtime.failures) == (False, [failure])
