import socket
from collections.abc import Iterator

import pytest

from fustor_agent.config import Config, ConsoleConfig, FusionConfig, build_watch
from fustor_agent.ports import check_ports
from fustor_core.program.errors import ProgramError


@pytest.fixture
def taken() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def test_a_taken_console_port_is_named_with_its_remedy(taken: int) -> None:
    with pytest.raises(ProgramError, match=f"console.port: {taken} on 127.0.0.1 is taken; .*FUSTOR_CONSOLE_PORT"):
        check_ports(Config(console=ConsoleConfig(port=taken)))


def test_a_taken_fusion_port_matters_only_if_the_embedded_fusion_runs(taken: int) -> None:
    check_ports(Config(console=ConsoleConfig(port=0), fusion=FusionConfig(port=taken)))
    config = build_watch("/x", {"FUSTOR_CONSOLE_PORT": "0", "FUSTOR_FUSION_PORT": str(taken)})
    with pytest.raises(ProgramError, match=f"fusion.port: {taken} .*FUSTOR_FUSION_PORT"):
        check_ports(config)


def test_a_port_that_is_off_is_not_checked() -> None:
    check_ports(Config(console=ConsoleConfig(port=0)))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_named(host: str) -> None:
    with pytest.raises(ProgramError, match=r"console\.host"):
        check_ports(Config(console=ConsoleConfig(host=host, port=8100)))


def test_a_port_that_another_part_of_the_running_agent_gives_up_is_not_taken(taken: int) -> None:
    held = Config(console=ConsoleConfig(port=taken))
    changed = build_watch("/x", {"FUSTOR_CONSOLE_PORT": "0", "FUSTOR_FUSION_PORT": str(taken)})
    check_ports(changed, held=held)
