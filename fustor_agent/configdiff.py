"""What differs between two configurations, for a person who reloads; pure."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from fustor_agent.config import Config
from fustor_core.program.problems import show

_Keys: TypeAlias = Mapping[tuple[str, ...], Any]


def list_differences(before: Config, after: Config) -> tuple[str, ...]:
    """
    Say what another configuration changes, without secrets.

    Returns:
        One line for each entry that came or went, and for each key of the others:
        `sources[a].config.uri: "/x" -> "/y"`.
    """
    old, new = _list_sections(before), _list_sections(after)
    lines = [line for name in sorted(old | new) for line in _compare(name, old.get(name), new.get(name))]
    for id in sorted(before.digests.keys() & after.digests.keys()):
        if before.digests[id] != after.digests[id]:
            lines.append(f"senders[{id}].config: a file that it names has changed")
    return tuple(lines)


def _list_sections(config: Config) -> dict[str, _Keys]:
    sections: dict[str, msgspec.Struct] = {name: getattr(config, name) for name in ("console", "fusion", "workers")}
    for kind, entries in (("sources", config.sources), ("senders", config.senders), ("pipes", config.pipes)):
        sections |= {f"{kind}[{entry.id}]": entry for entry in entries}
    # A driver's configuration may hold anything that YAML can.
    return {name: dict(_flatten((), msgspec.to_builtins(each, enc_hook=str))) for name, each in sections.items()}


def _flatten(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten((*path, str(key)), inner)
    else:
        yield path, value


def _compare(name: str, old: _Keys | None, new: _Keys | None) -> Iterator[str]:
    if old is None or new is None:
        yield f"{name} is new" if old is None else f"{name} is gone"
        return
    for path in sorted(old.keys() | new.keys()):
        key = ".".join((name, *path))
        if path not in old or path not in new:
            what = f"{show(path, new[path])} is new" if path in new else f"{show(path, old[path])} is gone"
            yield f"{key}: {what}"
        elif old[path] != new[path]:
            texts = show(path, old[path]), show(path, new[path])
            yield f"{key}: {texts[0]} -> {texts[1]}" if texts[0] != texts[1] else f"{key}: changed"
