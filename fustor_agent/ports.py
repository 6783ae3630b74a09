"""See before anything starts whether the configured ports are free."""

from typing import Final

from fustor_agent.config import CONSOLE_PORT_VARIABLE, FUSION_PORT_VARIABLE, Config
from fustor_core.program.listener import open_listener

_VARIABLES: Final = {"console": CONSOLE_PORT_VARIABLE, "fusion": FUSION_PORT_VARIABLE}


def check_ports(config: Config, *, held: Config | None = None) -> None:
    """
    Bind and release every port that the agent will listen on.

    Another program can still take one afterwards; then the worker says so, and is retried.

    Args:
        config: Says where it will listen.
        held: The configuration that the running agent listens on now; what it holds is not taken.

    Raises:
        ProgramError: One is taken, or cannot be bound.
    """
    ours = [address for _, address in _list_listening(held)] if held is not None else []
    for section, address in _list_listening(config):
        if address not in ours:
            _check(section, *address, _VARIABLES[section])


def _list_listening(config: Config) -> list[tuple[str, tuple[str, int]]]:
    """Return the sections that listen, and where."""
    listening = [("console", (config.console.host, config.console.port))] if config.console.port else []
    if config.embedded_views:
        listening.append(("fusion", (config.fusion.host, config.fusion.port)))
    return listening


def _check(section: str, host: str, port: int, variable: str) -> None:
    remedy = f"stop the program that has it, or choose another with {section}.port or {variable}"
    open_listener(f"{section}.", host, port, remedy=remedy).close()
