"""The embedded Fusion as commands ask it: one view, with the key that may only read."""

import argparse
import base64
import os
import sys
from collections.abc import Iterator
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from fustor_agent.consoleclient import read_agent
from fustor_agent.httpclient import Server
from fustor_agent.paths import find_paths
from fustor_core.program.errors import ProgramError
from fustor_core.program.secretfile import read_secret

_TIMEOUT_S: Final = 60.0
_NOT_FOUND: Final = 404

T = TypeVar("T")


class Node(msgspec.Struct, frozen=True):
    """
    One node of an answer.

    Args:
        path: In the view.
        type: As `export` says it; "" elsewhere.
        raw: The path's bytes in base64, if they are no UTF-8.
        target: Of a symbolic link.
    """

    path: str
    type: str = ""
    raw: str | None = None
    target: str | None = None

    def get_path(self) -> str:
        """Return the path as the system names it."""
        return self.path if self.raw is None else os.fsdecode(base64.b64decode(self.raw))


def read_lines(args: argparse.Namespace, endpoint: str, **query: str) -> Iterator[bytes]:
    """
    Ask a question whose answer has lines.

    Args:
        args: With `view` and `sync`.
        endpoint: Of the view.
        query: Its parameters; `path` may be any bytes that the system takes for a name.

    Raises:
        NotRunning, ProgramError: There is no answer, and why.
    """
    paths = find_paths()
    agent = read_agent(paths)
    if agent.fusion is None:
        raise ProgramError("the embedded Fusion does not run; no enabled pipe has a sender with `endpoint: embedded`")
    view = _choose(args.view, agent.views)
    path = query.pop("path", None)
    if path is not None:
        query["raw"] = base64.urlsafe_b64encode(os.fsencode(path)).decode()
    if args.sync is not None:
        query["sync"] = f"{args.sync:g}"
    fusion = Server("Fusion", agent.fusion, {"X-API-Key": read_secret(paths.reader_key)})
    question = f"/api/v1/views/{quote(view, safe='')}/{endpoint}?{urlencode(query)}"
    with fusion.ask("GET", question, timeout_s=_TIMEOUT_S + (args.sync or 0.0)) as response:
        if response.status == _NOT_FOUND and path is not None:
            raise ProgramError(f'"{path}" is not in the view "{view}"')
        fusion.require_ok(response)
        because = response.headers["X-Fustor-Not-Current-Because"]
        if because:
            print(f"the view is not current: {because}", file=sys.stderr)
        yield from response


def read_answer(args: argparse.Namespace, kind: type[T], endpoint: str, **query: str) -> tuple[bytes, T]:
    """Ask a question whose answer is one JSON value; returns it as it came, and decoded."""
    body = b"".join(read_lines(args, endpoint, **query))
    return body, msgspec.json.decode(body, type=kind)


def _choose(wanted: str | None, views: list[str]) -> str:
    if wanted is None and len(views) == 1:
        return views[0]
    if wanted not in views:
        asked = f'there is no view "{wanted}"' if wanted else "there are several views"
        raise ProgramError(f"{asked}; use --view with one of: {', '.join(views)}")
    return wanted
