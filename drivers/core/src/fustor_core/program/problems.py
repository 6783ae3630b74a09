"""One thing that is wrong with a configuration, as a person is told."""

import re
from typing import Any

import msgspec

_SECRET_WORDS = ("credential", "password", "passwd", "secret", "token", "api_key", "apikey")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]*@")
_LONGEST_VALUE = 80

KeyPath = tuple[str | int, ...]


class Problem(msgspec.Struct, frozen=True):
    """
    One thing that is wrong.

    Args:
        file: The file, or `environment`.
        line: Counted from 1; None where there is none, as for a missing file.
        key: Dotted path of the key, `pipes[0].source_id`.
        value: The value as a person would write it; secrets are hidden; "" when there is none.
        reason: Why it is wrong.
        remedy: What to do; "" when the reason says it.
    """

    file: str
    line: int | None
    key: str
    value: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        what = f"{self.key} = {self.value}" if self.value else self.key
        why = f"{self.reason}; {self.remedy}" if self.remedy else self.reason
        return f"{place}: {what}: {why}" if what else f"{place}: {why}"


def format_key(path: KeyPath) -> str:
    """Write a key's path as `pipes[0].source_id`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def make_encodable(text: str) -> str:
    """Write as escapes what is no UTF-8: a path is bytes, and Python keeps those in a way that nothing can encode."""
    return text.encode("utf-8", "backslashreplace").decode()


def show(path: KeyPath, value: Any) -> str:
    """
    Write a value for a message, without secrets and without flooding the terminal.

    Args:
        path: Where it stands; names like `credential` hide it.
        value: Anything that YAML can hold.
    """
    if any(word in str(part).lower() for part in path for word in _SECRET_WORDS):
        return "(hidden)"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = make_encodable(_URL_PASSWORD.sub(r"\1***@", str(value)))
    if len(text) > _LONGEST_VALUE:
        text = text[:_LONGEST_VALUE] + "…"
    return f'"{text}"' if isinstance(value, str) else "nothing" if value is None else text
