"""Listen on an address, with errors that name the configuration's keys."""

import errno
import socket

from fustor_core.program.errors import ProgramError

_BACKLOG = 1024


def open_listener(prefix: str, host: str, port: int, *, remedy: str) -> socket.socket:
    """
    Bind an address and listen on it.

    Args:
        prefix: Before `host` and `port` in the errors, as `console.` in `console.port`.
        host: The address; a name is looked up, its first address is taken.
        port: The port; 0 takes a free one.
        remedy: What to do when it is taken.

    Raises:
        ProgramError: The address is taken or cannot be bound.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            # Connections of the last server that are still closing are no reason.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener
    except socket.gaierror as err:
        raise ProgramError(f'{prefix}host: "{host}" is no address of this machine ({err.strerror})') from err
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            raise ProgramError(f"{prefix}port: {port} on {host} is taken; {remedy}") from err
        if err.errno == errno.EADDRNOTAVAIL:
            raise ProgramError(f'{prefix}host: "{host}" is no address of this machine') from err
        raise ProgramError(f"{prefix}port: {port} on {host} cannot be used ({err.strerror}); {remedy}") from err


def format_url(host: str, port: int) -> str:
    """Write the address of an HTTP server; a numeric IPv6 host goes into brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
