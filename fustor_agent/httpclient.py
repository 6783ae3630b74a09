"""HTTP to the servers of the running agent, as commands ask them."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import msgspec

from fustor_core.program.errors import ProgramError

_OK: Final = 200


class _Refusal(msgspec.Struct, frozen=True):
    detail: str = ""


class Server(msgspec.Struct, frozen=True):
    """
    A server.

    Args:
        name: For people.
        url: Its address.
        headers: Of every request.
    """

    name: str
    url: str
    headers: dict[str, str]

    @contextmanager
    def ask(self, method: str, path: str, *, timeout_s: float) -> Iterator[http.client.HTTPResponse]:
        """
        Send a request; the answer can be read within the `with` block.

        Raises:
            ProgramError: The server does not answer, or not to the end.
        """
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
        try:
            connection.request(method, path, headers=self.headers)
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as err:
            raise ProgramError(f"{self.name} at {self.url} does not answer ({err})") from err
        finally:
            connection.close()

    def require_ok(self, response: http.client.HTTPResponse) -> None:
        """Raise ProgramError with the server's reason unless it did what it was asked for."""
        if response.status == _OK:
            return
        body = response.read()
        try:
            reason = msgspec.json.decode(body, type=_Refusal).detail
        except msgspec.DecodeError:
            reason = body.decode(errors="replace")
        raise ProgramError(reason or f"{self.name} answered {response.status}")
