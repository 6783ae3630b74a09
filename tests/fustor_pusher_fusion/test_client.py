from collections.abc import Iterator

import pytest
from fake_fusion import KEY, SESSION, FakeFusion

from fustor_core.errors import Unavailable, Uncertain
from fustor_pusher_fusion import client
from fustor_pusher_fusion.client import Answer, Channel, Target


@pytest.fixture
def channel(public: FakeFusion) -> Iterator[Channel]:
    made = Channel(target(public.url))
    yield made
    made.close()


def target(url: str, *, proxy: str | None = None) -> Target:
    return Target(endpoint=url, key=KEY, connect_timeout_s=5, read_timeout_s=5, proxy=proxy)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"detail": "no"}', "418 no"),
        (b'{"detail": [{"msg": "bad"}]}', '418 [{"msg":"bad"}]'),
        (b"<html>", "418"),
        (b"\xff", "418"),
        (b"", "418"),
        (b"[" * 100_000, "418"),
        (f'{{"detail": "Session {SESSION} expired"}}'.encode(), "418 Session 3ec0e8a4… expired"),
    ],
)
def test_a_reason_is_fit_for_a_log(body: bytes, reason: str) -> None:
    assert Answer(418, body).reason == reason


def test_a_long_reason_is_cut() -> None:
    assert len(Answer(500, b'{"detail": "' + b"x y " * 1_000 + b'"}').reason) < 320


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", None), ("-1", None), ("9" * 400, None)])
def test_the_wait_that_a_server_asks_for_is_read_or_ignored(
    public: FakeFusion, channel: Channel, header: str, seconds: float | None
) -> None:
    public.answer("GET", "/session/$", 503, headers={"Retry-After": header})
    assert channel.call("GET", "session/").retry_after_s == seconds


def test_each_request_says_how_long_it_may_take_and_when_it_was_answered(public: FakeFusion) -> None:
    signs: list[float] = []
    channel = Channel(target(public.url), on_progress=lambda quiet_s=0.0: signs.append(quiet_s))
    channel.call("GET", "session/")
    channel.call("GET", "session/", read_timeout_s=45.0)
    channel.close()
    assert signs == [40.0, 0.0, 50.0, 0.0]  # the first one has to look the name up


def test_redirects_are_not_followed(public: FakeFusion, channel: Channel) -> None:
    public.answer("GET", "/session/$", 307, headers={"Location": f"{public.url}/elsewhere"})
    assert channel.call("GET", "session/").status == 307
    assert not public.sent("/elsewhere")


def test_an_endless_answer_is_not_read(public: FakeFusion, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 1_000)
    public.answer("GET", "/session/$", 200, b"x" * 1_001, times=2)
    with pytest.raises(Unavailable):
        channel.call("GET", "session/", idempotent=True)
    with pytest.raises(Uncertain):
        channel.call("GET", "session/")
    assert channel.call("GET", "session/").ok


def test_the_environments_proxies_and_passwords_are_not_used(
    public: FakeFusion, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert channel.call("GET", "session/").ok


def test_a_configured_proxy_is_used(public: FakeFusion) -> None:
    made = Channel(target("http://fusion.invalid:8102", proxy=public.url))
    assert made.call("GET", "session/").ok
    made.close()
    assert public.requests[0].path == "http://fusion.invalid:8102/api/v1/pipe/session/"


def test_a_proxy_that_is_not_there_is_named_as_such() -> None:
    made = Channel(target("http://fusion.invalid:8102", proxy="http://127.0.0.1:1"))
    with pytest.raises(Unavailable, match="proxy"):
        made.call("GET", "session/")


def test_a_server_without_tls_is_unavailable(public: FakeFusion) -> None:
    made = Channel(target(public.url.replace("http:", "https:")))
    with pytest.raises(Unavailable, match="no TLS connection"):
        made.call("GET", "session/")


def test_a_path_in_the_endpoint_is_kept(public: FakeFusion) -> None:
    made = Channel(target(public.url + "/behind/a/gateway/"))
    assert made.call("GET", "session/").ok
    made.close()
    assert public.requests[0].path == "/behind/a/gateway/api/v1/pipe/session/"


def test_only_a_repeatable_request_is_sent_twice(public: FakeFusion, channel: Channel) -> None:
    channel.call("GET", "session/")
    public.drop("GET", "/session/$", times=3)
    with pytest.raises(Uncertain):
        channel.call("GET", "session/")
    assert len(public.requests) == 2
    with pytest.raises(Unavailable):  # on a new connection: nothing says that once more would help
        channel.call("GET", "session/", idempotent=True)
    assert len(public.requests) == 3
