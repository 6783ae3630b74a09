"""What a `fusion` sender is configured with, and where its key comes from."""

import hashlib
import math
import os
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from fustor_core.errors import ConfigError


class KeySource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where to read the key from; exactly one of the two.

    Args:
        env: Name of an environment variable.
        file: Path of a file whose first line is the key.
    """

    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise ValueError("give exactly one of env and file")


class FusionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The `config` of a sender of type `fusion`.

    Args:
        endpoint: Base URL of the port that takes agents, `http://host:8102` or `https://…`.
        credential: The API key itself, `{env: NAME}` or `{file: PATH}`.
        session_timeout_s: Ask Fusion to keep a silent session this long; None leaves it to Fusion.
        connect_timeout_s: How long to wait for a connection.
        read_timeout_s: How long to wait for an answer.
        verify: Check the server's certificate; a path names the certificates to trust.
        proxy: URL of an HTTP proxy; the environment's proxies are not used.
        view: The view to push to, where a key serves several; None means the pipe's id.
    """

    endpoint: str
    credential: str | KeySource
    session_timeout_s: float | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 10.0
    verify: bool | str = True
    proxy: str | None = None
    view: str | None = None

    def __post_init__(self) -> None:
        _check_url("endpoint", self.endpoint)
        if self.proxy is not None:
            _check_url("proxy", self.proxy, with_user=True)
        if self.view is not None and not self.view:
            raise ValueError("view is empty; leave it out to use the pipe's id")
        for name in ("session_timeout_s", "connect_timeout_s", "read_timeout_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; give a number of seconds above 0")


def _check_url(key: str, url: str, *, with_user: bool = False) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{key} is not a URL; write it as http://host:port") from None
    # The value is shown only where it cannot hold a password.
    if parts.username is not None and not with_user:
        raise ValueError(f"{key} holds a user name or password; remove it and use credential")
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(
            f'{key} "{parts.scheme}://{host or ""}" is not an http or https URL; write it as http://host:port'
        )
    if parts.query or parts.fragment:
        raise ValueError(f"{key} has a query or fragment; remove what follows the path")


def read_key(config: FusionConfig) -> str:
    """
    Read the API key from where the configuration says.

    Raises:
        ConfigError: It is not there, or cannot be one; the message never holds the key.
    """
    source = config.credential
    if isinstance(source, str):
        return _checked(source, "credential")
    if source.env is not None:
        key = os.environ.get(source.env)
        if key is None:
            raise ConfigError(f'credential: environment variable "{source.env}" is not set; set it for the agent')
        return _checked(key, f'credential: environment variable "{source.env}"')
    path = Path(source.file or "")
    try:
        first_line = path.read_bytes()[:4096].split(b"\n")[0]
    except OSError as err:
        reason = err.strerror or type(err).__name__
        raise ConfigError(f'credential: file "{path}" cannot be read ({reason}); correct its path or its mode') from err
    return _checked(first_line.decode("latin-1"), f'credential: file "{path}"')


def digest_files(config: FusionConfig) -> str:
    """Return a digest of the files with the key and with the certificates to trust; shows nothing of them."""
    credential = config.credential
    names = (
        credential.file if isinstance(credential, KeySource) else None,
        config.verify if isinstance(config.verify, str) else None,
    )
    digest = hashlib.sha256()
    for name in names:
        try:
            content = Path(name).read_bytes() if name is not None else b""
        except OSError as err:
            content = repr(err.errno).encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _checked(key: str, where: str) -> str:
    key = key.strip()
    if not key:
        raise ConfigError(f"{where} is empty; put the API key there")
    # It becomes the value of a header (RFC 9110, section 5.5).
    if not all(" " < char < "\x7f" for char in key):
        raise ConfigError(f"{where} holds characters that no API key has; put only the key there")
    return key
