import pytest
from starlette.datastructures import Headers

from fustor_agent.console.guard import explain_foreign


@pytest.mark.parametrize(
    "host",
    ["localhost:8100", "127.0.0.1:8100", "[::1]:8100", "127.0.0.1", "LOCALHOST", "127.0.0.2:1", "localhost.:8100"],
)
def test_names_that_can_only_mean_this_machine_are_let_through(host: str) -> None:
    assert explain_foreign(Headers({"host": host}), "127.0.0.1") is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example:8100",
        "127.0.0.1.nip.io",
        "192.0.2.1:8100",
        "[::",
        "localhost:x",
        "me@localhost",
        "evil.example@localhost",
        "localhost/path",
        "0.0.0.0:8100",
    ],
)
def test_any_other_host_is_foreign(host: str) -> None:
    assert explain_foreign(Headers({"host": host}), "127.0.0.1") is not None


def test_a_request_without_a_host_is_foreign() -> None:
    assert explain_foreign(Headers({}), "127.0.0.1") is not None


@pytest.mark.parametrize("listens_on", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_console_that_was_opened_to_the_network_is_reached_by_addresses_but_not_by_foreign_names(
    listens_on: str,
) -> None:
    assert explain_foreign(Headers({"host": "192.0.2.1:8100"}), listens_on) is None
    assert explain_foreign(Headers({"host": "evil.example:8100"}), listens_on) is not None


def test_a_configured_name_is_its_own() -> None:
    assert explain_foreign(Headers({"host": "agent.example:8100"}), "agent.example") is None


def test_the_own_origin_is_let_through() -> None:
    headers = Headers({"host": "localhost:8100", "origin": "http://localhost:8100"})
    assert explain_foreign(headers, "127.0.0.1") is None


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://localhost", "http://localhost:8101", "http://127.0.0.1:8100"]
)
def test_any_other_origin_is_foreign(origin: str) -> None:
    headers = Headers({"host": "localhost:8100", "origin": origin})
    assert explain_foreign(headers, "127.0.0.1") is not None
