"""The configuration file of a standalone Fusion: its shape, and reading it with all errors at once."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from fustor_core.program.errors import BadConfig
from fustor_core.program.problems import make_encodable
from fustor_core.program.shape import Finding, find_misfits
from fustor_core.program.yamlfile import check_ids, find_repeated, list_ids, read_yaml, to_problem
from fustor_fusion.config import FusionConfig
from fustor_fusion.home import Home

_YEAR_S = 31_536_000

Name = Annotated[str, msgspec.Meta(min_length=1)]
Interval = Annotated[float, msgspec.Meta(ge=0, le=_YEAR_S)]


class ViewConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One view.

    Args:
        id: Its name, in addresses and in the name of its database.
    """

    id: str


class StandaloneConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What may stand in the file.

    Args:
        host: The address to listen on. Another than loopback is reached from other machines, without TLS:
            put a proxy that does TLS in front.
        port: The port to listen on; 0 takes a free one.
        views: The views it serves; at least one.
        allowed_hosts: Further names by which clients ask, in the header `Host`: those of the proxy in front.
        session_timeout_s: A session that does not ask for its own time-out ends when no heartbeat came
            for this long.
        audit_interval_s: How often agents are to look for what no event told of; None leaves it to them,
            0 is no audits at all.
        sentinel_interval_s: How often agents look once more at files that may still be written, in seconds;
            0 is never, and None leaves it to agents of the public protocol.
        max_body_bytes: A longer request body is refused with 413.
        keys_file: Where the keys are; absolute. None is `state/keys.json`.
    """

    host: Name = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8102
    views: tuple[ViewConfig, ...]
    allowed_hosts: tuple[Name, ...] = ()
    session_timeout_s: Annotated[float, msgspec.Meta(ge=0.5, le=86_400)] = 30.0
    audit_interval_s: Interval | None = None
    sentinel_interval_s: Interval | None = 120.0
    max_body_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=1_073_741_824)] = 64 * 1024 * 1024
    keys_file: str | None = None

    def find_keys_file(self, home: Home) -> Path:
        """Return where the keys are."""
        return home.keys if self.keys_file is None else Path(self.keys_file)


def load(path: Path) -> StandaloneConfig:
    """
    Read and check a configuration file.

    Raises:
        BadConfig: Anything is wrong; holds all problems that could be found.
    """
    remedy = "write one as in docs/fusion.md, or serve one view with `fustor-fusion start --view ID`"
    document = read_yaml(path, if_missing=remedy)
    misfits = find_misfits(document.value, StandaloneConfig)
    findings = [*find_repeated(document), *misfits, *_find_contradictions(document.value, misfits)]
    if findings:
        problems = [to_problem(one, file=make_encodable(str(path)), document=document) for one in findings]
        raise BadConfig(sorted(problems, key=lambda one: one.line or 0))
    return msgspec.convert(document.value, StandaloneConfig)


def configure_server(
    config: StandaloneConfig, home: Home, *, agent_key: str | None = None, reader_key: str | None = None
) -> FusionConfig:
    """Return what the server is told: the configuration, and the keys of the two key files, if there are any."""
    return FusionConfig(
        state_dir=home.state_dir,
        views=tuple(view.id for view in config.views),
        agent_key=agent_key,
        reader_key=reader_key,
        keys_file=config.find_keys_file(home),
        host=config.host,
        port=config.port,
        allowed_hosts=config.allowed_hosts,
        session_timeout_s=config.session_timeout_s,
        audit_interval_s=config.audit_interval_s,
        sentinel_interval_s=config.sentinel_interval_s,
        max_body_bytes=config.max_body_bytes,
    )


def _find_contradictions(value: Any, misfits: Sequence[Finding]) -> Iterator[Finding]:
    """Find what the types allow and Fusion does not."""
    if not isinstance(value, dict):
        return
    yield from check_ids("views", list_ids(value, "views"))
    if value.get("views") == []:
        yield Finding(("views",), None, "there is no view", "name at least one, as in `views: [{id: main}]`")
    keys_file = value.get("keys_file")
    if isinstance(keys_file, str) and not keys_file.startswith("/"):
        remedy = "write the absolute path, beginning with /"
        yield Finding(("keys_file",), keys_file, "it is a relative path", remedy)
