"""Read a YAML configuration file, and place what is wrong with it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from fustor_core.program import yamldoc
from fustor_core.program.errors import BadConfig
from fustor_core.program.problems import Problem, format_key, make_encodable, show
from fustor_core.program.shape import Finding

MAX_BYTES = 4 << 20
"""Room for ten thousand pipes; what is larger is another file by mistake, and would take minutes to parse."""

# Ids become file names, worker names and parts of URLs.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ID_RULE = "use up to 64 letters, digits, dots, hyphens and underscores, beginning with a letter or digit"


def read_yaml(path: Path, *, if_missing: str) -> yamldoc.Document:
    """
    Read and parse a file; an empty one is an empty mapping.

    Args:
        path: The file.
        if_missing: What to do when there is no such file.

    Raises:
        BadConfig: It cannot be read, or is not YAML.
    """
    file = make_encodable(str(path))
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            reason = f"it is larger than {MAX_BYTES} bytes"
            raise BadConfig([Problem(file, None, "", "", reason, "name a configuration file, or shorten it")])
        document = yamldoc.parse(data.decode())
    except FileNotFoundError as err:
        raise BadConfig([Problem(file, None, "", "", "there is no such file", if_missing)]) from err
    except OSError as err:
        reason = f"it cannot be read: {err.strerror}"
        raise BadConfig([Problem(file, None, "", "", reason, "correct the path or its permissions")]) from err
    except UnicodeDecodeError as err:
        raise BadConfig([Problem(file, None, "", "", "it is not UTF-8 text", "save it as UTF-8")]) from err
    except yamldoc.YamlError as err:
        raise BadConfig([Problem(file, err.line, "", "", str(err), "correct the YAML")]) from err
    return yamldoc.Document({}, document.lines, document.repeated) if document.value is None else document


def find_repeated(document: yamldoc.Document) -> list[Finding]:
    """Find the keys that stand twice in one mapping."""
    return [
        Finding(one.path, None, f"it stands here twice (first in line {one.first_line})", "remove one of the two")
        for one in document.repeated
    ]


def is_id(text: str) -> bool:
    """Tell whether a text can be an id."""
    return _ID.fullmatch(text) is not None


def check_ids(group: str, ids: Mapping[int, str]) -> Iterator[Finding]:
    """
    Find the ids of a list that cannot be used, or stand twice.

    Args:
        group: The key of the list.
        ids: By the place of their entry.
    """
    seen: dict[str, int] = {}
    for place, name in ids.items():
        if not is_id(name):
            yield Finding((group, place, "id"), name, "it is not a usable id", ID_RULE)
        if name in seen:
            yield Finding((group, place, "id"), name, f"{group}[{seen[name]}] has the same id", "rename one of the two")
        seen.setdefault(name, place)


def list_ids(value: object, group: str) -> dict[int, str]:
    """Return the ids that stand in a list of a parsed document, by the place of their entry."""
    entries = value.get(group) if isinstance(value, dict) else None
    if not isinstance(entries, list):
        return {}
    ids = {place: entry.get("id") for place, entry in enumerate(entries) if isinstance(entry, dict)}
    return {place: name for place, name in ids.items() if isinstance(name, str)}


def to_problem(one: Finding, *, file: str, document: yamldoc.Document) -> Problem:
    """Say where in a file a finding is."""
    value = "" if one.value is None else show(one.path, one.value)
    return Problem(file, document.find_line(one.path), format_key(one.path), value, one.reason, one.remedy)
