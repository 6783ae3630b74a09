"""
HTTP to one Fusion: connections, time-outs, and what a failure means.

A request can fail in two ways that a caller must tell apart: it never reached the server
(`Unavailable`), or nobody knows (`Uncertain`). Whoever knows that repeating is harmless asks
for `idempotent=True` and gets `Unavailable` for both.

The public Fusion closes connections that were idle for 5 s. A request that meets such a
close is repeated once on a new connection if it is idempotent; any other request never goes
out on a connection that was idle for more than 3 s, so that a reset is a real doubt.

Session ids are part of the URLs, and credentials: neither they nor the exceptions of the
HTTP library, which quote URLs, ever leave this module.
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec
import requests
import urllib3

from fustor_core.drivers import OnProgress
from fustor_core.errors import Unavailable, Uncertain

USER_AGENT: Final = "fustor-agent/1.0.0"
MAX_IDLE_S: Final = 3.0
_RESOLVE_S: Final = 30.0  # what the resolver may take that asks for a name in vain (man 5 resolv.conf); nothing ends it
MAX_ANSWER_BYTES: Final = 16 << 20
JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"

_SECRET = re.compile(r"[0-9a-fA-F]{8}[-0-9a-fA-F]{16,}")


class Answer(msgspec.Struct, frozen=True):
    """
    One HTTP answer.

    Args:
        status: The HTTP status.
        body: At most `MAX_ANSWER_BYTES`.
        retry_after_s: As the server asks; None if it does not say.
    """

    status: int
    body: bytes = b""
    retry_after_s: float | None = None

    @property
    def ok(self) -> bool:
        """Tell whether the status is a success."""
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """Say what the server says about its status, fit for a log."""
        try:
            detail = msgspec.json.decode(self.body, type=_Detail).detail
            text = detail if isinstance(detail, str) else msgspec.json.encode(detail).decode()
        except (ValueError, RecursionError):
            text = ""
        # The server's texts name sessions.
        masked = _SECRET.sub(lambda match: match[0][:8] + "…", text)
        return f"{self.status} {masked[:300]}".rstrip()


class _Detail(msgspec.Struct):
    detail: object = ""


class Target(msgspec.Struct, frozen=True):
    """Where requests go and how; what all channels of a driver share."""

    endpoint: str
    key: str
    connect_timeout_s: float
    read_timeout_s: float
    verify: bool | str = True
    proxy: str | None = None


class Channel:
    """
    One keep-alive connection for one thread role; owns it until `close`.

    Args:
        target: Where to.
        on_progress: Told before each request how long it may take, and when it has been answered; None tells nobody.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        target: Target,
        *,
        on_progress: OnProgress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._on_progress = on_progress
        self._base: requests.PreparedRequest | None = None
        self._proxies = {} if target.proxy is None else {"http": target.proxy, "https": target.proxy}
        self._clock = clock
        self._http: requests.Session | None = None
        self._used_at: float | None = None
        self._lock = threading.Lock()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = JSON,
        idempotent: bool = False,
        read_timeout_s: float | None = None,
    ) -> Answer:
        """
        Send one request and read its whole answer.

        Args:
            method: GET, POST or DELETE.
            path: Below `/api/v1/pipe/`.
            body: Sent as is; None sends none.
            content_type: Of the body.
            idempotent: Repeating it is harmless.
            read_timeout_s: Instead of the configured one.

        Returns:
            Whatever status the server gave.

        Raises:
            Unavailable: It did not reach the server, or it is idempotent and has no answer.
            Uncertain: It may have reached the server.
        """
        with self._lock:
            reused = self._prepare(keep_idle=idempotent)
            try:
                return self._send(method, path, body, content_type, read_timeout_s)
            except _Dropped:
                if not (idempotent and reused):
                    self._drop()
                    raise self._doubt(idempotent, "the connection was dropped") from None
            except _Silent:
                self._drop()
                raise self._doubt(idempotent, "no answer in time") from None
            # An idle connection was closed under our hands: the server saw nothing of this request,
            # and if it did, once more is harmless.
            self._drop()
            try:
                return self._send(method, path, body, content_type, read_timeout_s)
            except (_Dropped, _Silent) as err:
                self._drop()
                raise Unavailable(f"{self._target.endpoint}: {err}") from None

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        with self._lock:
            self._drop()

    def _doubt(self, idempotent: bool, what: str) -> Unavailable | Uncertain:
        text = f"{self._target.endpoint}: {what}"
        return Unavailable(text) if idempotent else Uncertain(text)

    def _prepare(self, *, keep_idle: bool) -> bool:
        """Drop a connection that is too old to trust; tell whether one is left."""
        if self._used_at is not None and not keep_idle and self._clock() - self._used_at > MAX_IDLE_S:
            self._drop()
        return self._used_at is not None

    def _drop(self) -> None:
        if self._http is not None:
            self._http.close()
        self._http = None
        self._used_at = None

    def _session(self) -> requests.Session:
        if self._http is None:
            self._http = requests.Session()
            self._http.trust_env = False
        return self._http

    def _request(self, method: str, path: str, body: bytes | None, content_type: str) -> requests.PreparedRequest:
        if self._base is None:  # what all requests share is checked once: it takes longer than many an answer
            url = f"{self._target.endpoint.rstrip('/')}/api/v1/pipe/"
            headers = {
                "User-Agent": USER_AGENT,
                "X-API-Key": self._target.key,
                "Accept": JSON,
                "Accept-Encoding": "identity",
                "Connection": "keep-alive",
            }
            self._base = requests.Request("GET", url, headers).prepare()
        request = self._base.copy()
        request.method = method
        request.url = f"{self._base.url}{path}"
        if body is not None:
            request.headers["Content-Type"] = content_type
        request.prepare_body(body, None)
        return request

    def _send(
        self, method: str, path: str, body: bytes | None, content_type: str, read_timeout_s: float | None
    ) -> Answer:
        target = self._target
        read_timeout_s = read_timeout_s or target.read_timeout_s
        if self._on_progress is not None:
            resolve_s = _RESOLVE_S if self._used_at is None else 0.0
            self._on_progress(resolve_s + target.connect_timeout_s + read_timeout_s)
        try:
            response = self._session().send(
                self._request(method, path, body, content_type),
                timeout=(target.connect_timeout_s, read_timeout_s),
                verify=target.verify,
                proxies=self._proxies,
                allow_redirects=False,
                stream=True,
            )
            data = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as err:
            raise self._failure(err) from None
        if len(data) > MAX_ANSWER_BYTES:
            raise _Silent("the answer is longer than any that Fusion gives")
        self._used_at = self._clock()
        if self._on_progress is not None:
            self._on_progress()
        return Answer(response.status_code, data, _retry_after(response.headers.get("Retry-After")))

    def _failure(self, err: Exception) -> Exception:
        """Say what a failure of the HTTP library means."""
        endpoint = self._target.endpoint
        if isinstance(err, requests.exceptions.SSLError):
            if "CERTIFICATE_VERIFY_FAILED" not in str(err):
                return self._gone(f"{endpoint}: no TLS connection; correct endpoint, or the server's TLS settings")
            return self._gone(f"{endpoint}: its certificate is not trusted; correct it, or name its CA in verify")
        if isinstance(err, requests.exceptions.ProxyError):
            return self._gone(f"{endpoint}: the proxy does not answer; start it or correct proxy")
        if isinstance(err, requests.exceptions.ConnectTimeout):
            return self._gone(f"{endpoint}: no connection within {self._target.connect_timeout_s:g} s")
        cause = err.args[0] if err.args else None
        if isinstance(getattr(cause, "reason", None), urllib3.exceptions.NewConnectionError):
            return self._gone(f"{endpoint}: cannot connect; start Fusion or correct endpoint")
        if isinstance(err, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
            return _Silent("no answer in time")
        return _Dropped("the connection was dropped")

    def _gone(self, message: str) -> Unavailable:
        self._drop()
        return Unavailable(message)


class _Dropped(Exception):
    """The connection ended before the answer did."""


class _Silent(Exception):
    """No usable answer came."""


def _retry_after(value: str | None) -> float | None:
    """Read the delay form of Retry-After (RFC 9110, section 10.2.3); the date form is not used by Fusion."""
    return float(value) if value is not None and value.isdecimal() and len(value) < 6 else None


def hush_urllib3() -> None:
    """Keep urllib3 from logging URLs: they hold session ids."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.CRITICAL)
