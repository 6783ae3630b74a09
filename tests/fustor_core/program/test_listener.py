import socket

import pytest

from fustor_core.program.errors import ProgramError
from fustor_core.program.listener import open_listener


def test_it_listens_at_once_also_on_a_port_whose_connections_are_still_closing() -> None:
    with open_listener("", "127.0.0.1", 0, remedy="") as listener:
        address = listener.getsockname()
        client = socket.create_connection(address, timeout=30)
        accepted, _ = listener.accept()
        accepted.close()  # first: this end stays in TIME_WAIT
        client.close()
    open_listener("", *address, remedy="").close()


def test_a_taken_port_names_key_value_and_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ProgramError, match=rf"^fusion\.port: {port} on 127\.0\.0\.1 is taken; go elsewhere$"):
            open_listener("fusion.", "127.0.0.1", port, remedy="go elsewhere")
