"""What endpoints are asked in path and query: one Struct each, read from requests and described in openapi.py."""

import functools
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request

from fustor_fusion.changes import TOKEN_PATTERN, Token, parse_token
from fustor_fusion.errors import RequestRefused
from fustor_fusion.paths import BadPath, decode_raw, normalise_text, split_path

MAX_SYNC_S: Final = 600
MAX_WAIT_S: Final = 60
MAX_CHANGES: Final = 10_000
_MAX_COUNT: Final = 999_999_999
_FLAGS: Final = {"on": "true", "yes": "true", "off": "false", "no": "false", "": "false"}

Q = TypeVar("Q", bound=msgspec.Struct)

Wait = Annotated[float, Meta(ge=0, le=MAX_WAIT_S, description="Seconds to wait for something to answer with.")]
Raw = Annotated[str, Meta(extra_json_schema={"pattern": "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-]{2,3})?$"})]
Count = Annotated[int, Meta(ge=1, le=_MAX_COUNT)]


class Nothing(msgspec.Struct, frozen=True):
    """Nothing is asked."""


class OfSession(msgspec.Struct, frozen=True, kw_only=True):
    """Names a session."""

    sid: Annotated[str, Meta(description="The session's id.")]


class AskCommands(OfSession, frozen=True, kw_only=True):
    """Asks for a session's commands."""

    wait: Wait = 0.0


class AskPush(OfSession, frozen=True, kw_only=True):
    """Comes with a batch."""

    clock: Annotated[int, Meta(
        ge=0, le=(1 << 63) - 1, description="What the sender's index clock says as it sends this; 0 does not say.")] = 0


class OfView(msgspec.Struct, frozen=True, kw_only=True):
    """Names a view."""

    view_id: Annotated[str, Meta(description="The view's name.")]


class Ask(OfView, frozen=True, kw_only=True):
    """Asks a view; every question does."""

    sync: Annotated[float, Meta(
        gt=0, le=MAX_SYNC_S, description="Answer with all that had happened in the tree before the request came, "
        "or with 504 after so many seconds, or with 409 when no agent can promise it.",
    )] | UnsetType = UNSET


class AskPath(Ask, frozen=True, kw_only=True):
    """Asks for a path."""

    path: Annotated[str, Meta(pattern="^/", description="Below the root of the source; normalised.")] = "/"
    raw: Annotated[Raw, Meta(description="The path's bytes in base64url, instead of `path`.")] | UnsetType = UNSET

    def get_names(self) -> list[bytes]:
        """Return the names that lead to the path; raises RequestRefused 422."""
        try:
            return split_path(normalise_text(self.path) if self.raw is UNSET else decode_raw(self.raw))
        except BadPath as err:
            raise RequestRefused(422, str(err)) from err


class AskTree(AskPath, frozen=True, kw_only=True):
    """Asks for a subtree."""

    recursive: Annotated[bool, Meta(description="With what is below; false is the node alone.")] = True
    max_depth: Annotated[int, Meta(
        ge=0, le=_MAX_COUNT, description="Levels below the node, instead of `recursive`.")] | UnsetType = UNSET
    only_path: Annotated[bool, Meta(description="Without size, times and suspect flag.")] = False
    on_demand_scan: Annotated[bool, Meta(description="Ask all agents to look at the path.")] = False
    dry_run: Annotated[bool, Meta(description="Only check the question.")] = False
    limit: Annotated[Count, Meta(description="At most so many children of the node.")] | UnsetType = UNSET
    after: Annotated[str, Meta(description="Only the children behind this name.")] = ""
    after_raw: Annotated[Raw, Meta(description="The name's bytes, instead of `after`.")] | UnsetType = UNSET

    def get_after(self) -> bytes:
        """Return the name behind which a page begins, usually empty; raises RequestRefused 422."""
        try:
            return self.after.encode() if self.after_raw is UNSET else decode_raw(self.after_raw)
        except BadPath as err:
            raise RequestRefused(422, f"after_{err}") from err


class AskSearch(Ask, frozen=True, kw_only=True):
    """Asks for files."""

    pattern: Annotated[str, Meta(max_length=1_000, description="See docs/protocol.md, Patterns.")]
    limit: Annotated[Count, Meta(description="At most so many files.")] | UnsetType = UNSET


class AskChanges(Ask, frozen=True, kw_only=True):
    """Asks for changes."""

    since: Annotated[str, Meta(
        description="The token behind which they are; without it there are none, and the present token.",
        extra_json_schema={"pattern": f"^{TOKEN_PATTERN}$"})] | UnsetType = UNSET
    wait: Wait = 0.0
    limit: Annotated[int, Meta(ge=1, le=MAX_CHANGES, description="At most so many changes.")] = 1_000

    def get_since(self) -> Token | None:
        """Return the token, None for the present one; raises RequestRefused 422."""
        if self.since is UNSET:
            return None
        token = parse_token(self.since)
        if token is None:
            raise RequestRefused(422, f"since={self.since!r:.100} is no token; leave it out to get the present one")
        return token


class AskJob(Ask, frozen=True, kw_only=True):
    """Asks for a scan."""

    job_id: str


def read_question(request: Request, kind: type[Q]) -> Q:
    """
    Read what a request asks in its path and query.

    Flags may be said in all ways that the public protocol takes. What is not known is ignored.

    Raises:
        RequestRefused: 422 with name and value.
    """
    given: dict[str, Any] = dict(request.query_params) | request.path_params
    for name in given.keys() & _find_flags(kind):
        given[name] = _FLAGS.get(given[name].lower(), given[name])
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as err:
        reason, _, place = str(err).partition(" - at `$.")
        name = place[:-1]
        raise RequestRefused(422, f"{name}={given[name]!r:.100}: {reason}" if name else reason) from err


@functools.cache
def _find_flags(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(kind) if isinstance(field.default, bool))
