"""See before anything starts whether the configured ports are free."""

import errno
import socket

from fustor_agent.config import CONSOLE_PORT_VARIABLE, FUSION_PORT_VARIABLE, Config
from fustor_agent.errors import AgentError


def check_ports(config: Config, *, held: Config | None = None) -> None:
    """
    Bind and release every port that the agent will listen on.

    Another program can still take one afterwards; then the worker says so, and is retried.

    Args:
        config: Says where it will listen.
        held: The configuration that the running agent listens on now; what it holds is not taken.

    Raises:
        AgentError: One is taken, or cannot be bound.
    """
    console_held = held is not None and held.console == config.console
    if config.console.port and not console_held:
        _check("console", config.console.host, config.console.port, CONSOLE_PORT_VARIABLE)
    fusion_held = held is not None and held.uses_embedded and held.fusion == config.fusion
    if config.uses_embedded and not fusion_held:
        _check("fusion", config.fusion.host, config.fusion.port, FUSION_PORT_VARIABLE)


def _check(section: str, host: str, port: int, variable: str) -> None:
    remedy = f"stop the program that has it, or choose another with {section}.port or {variable}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As the server does it: connections of the last agent that are still closing are no reason.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror as err:
        raise AgentError(f'{section}.host: "{host}" is no address of this machine ({err.strerror})') from err
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            raise AgentError(f"{section}.port: {port} on {host} is taken; {remedy}") from err
        if err.errno == errno.EADDRNOTAVAIL:
            raise AgentError(f'{section}.host: "{host}" is no address of this machine') from err
        raise AgentError(f"{section}.port: {port} on {host} cannot be used ({err.strerror}); {remedy}") from err
