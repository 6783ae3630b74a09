"""
Writes what the documentation takes from the code: `python docs/generate.py`.

All of config.md, the state diagram in operations.md, and the table of keys in fusion.md. A test compares them with what
stands here, so run this after a change of a configuration Struct or of the state table.
"""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as shapes

from fustor_agent import config as agent
from fustor_agent.drivers import DriverKind, list_drivers, load_pusher, load_source
from fustor_fusion.configfile import StandaloneConfig
from fustor_supervisor.states import draw_mermaid

DOCS = Path(__file__).parent
CONFIG = DOCS / "config.md"
OPERATIONS = DOCS / "operations.md"
FUSION = DOCS / "fusion.md"

_INTRODUCTION = """\
# Configuration

<!-- Generated from the code by docs/generate.py; do not edit. -->

One YAML file, `agent-config.yaml` in `FUSTOR_HOME` unless `--config` names another.
`fustor-agent init` writes a commented starter, `fustor-agent validate` checks a file.
`fustor-agent reload` takes a changed one over.
All errors are reported at once, each with file, line, key, value and remedy.
An unknown key and a key that stands twice are errors; so is a relative path in `uri`.
An id has up to 64 letters, digits, dots, hyphens and underscores, and begins with a letter or a digit.

```yaml
console: {host: 127.0.0.1, port: 8100}          # optional; port 0 = off
fusion:  {host: 127.0.0.1, port: 8102}          # optional; where the embedded Fusion listens
sources:
  - id: my-local-files
    type: fs
    config:
      uri: /data/research                       # absolute path
      driver_params: {file_pattern: "*"}
senders:
  - id: to-fusion
    type: fusion
    config:
      endpoint: http://localhost:8102           # or: embedded
      credential: YOUR_API_KEY                  # or {env: NAME} or {file: PATH}
pipes:
  - {id: phase-files-to-fusion, source_id: my-local-files, sender_id: to-fusion, enabled: true}
```

With `endpoint: embedded` the agent runs a Fusion of its own and fills `credential` in by itself.
With `--watch DIR` there is no file: one `fs` source, one `fusion` sender with the embedded Fusion, and one pipe.
All of them are called `watch`.

Two environment variables go before what the file says:

| variable | key |
|---|---|
| `FUSTOR_CONSOLE_PORT` | `console.port` |
| `FUSTOR_FUSION_PORT` | `fusion.port` |
"""
_KINDS = {
    shapes.StrType: "text",
    shapes.BoolType: "true or false",
    shapes.FloatType: "number",
    shapes.NoneType: "null",
}


def render_config() -> str:
    """Return config.md."""
    sections = [
        ("`console`", agent.ConsoleConfig),
        ("`fusion`", agent.FusionConfig),
        ("`sources[]`", agent.SourceConfig),
        ("`senders[]`", agent.SenderConfig),
        ("`pipes[]`", agent.PipeConfig),
        ("`workers.source`, `workers.pusher`, `workers.fusion`, `workers.console`", agent.WorkerConfig),
    ]
    for driver in list_drivers():
        if driver.kind is DriverKind.SOURCE:
            sections.append((f"`config` of a source of type `{driver.type}`", load_source(driver.type).Config))
        else:
            sections.append((f"`config` of a sender of type `{driver.type}`", load_pusher(driver.type).Config))
    return "\n".join([_INTRODUCTION, *(_render_section(title, struct) for title, struct in sections)])


def render_states(text: str) -> str:
    """Return operations.md with the diagram of the present table."""
    diagram = f"<!-- states -->\n```mermaid\n{draw_mermaid()}```\n<!-- /states -->"
    return re.sub(r"<!-- states -->.*<!-- /states -->", lambda _: diagram, text, flags=re.DOTALL)


def render_fusion(text: str) -> str:
    """Return fusion.md with the table of the present keys."""
    table = f"<!-- config -->\n{_render_table(StandaloneConfig)}\n<!-- /config -->"
    return re.sub(r"<!-- config -->.*<!-- /config -->", lambda _: table, text, flags=re.DOTALL)


def list_keys(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, shapes.Field, str]]:
    """Yield every key below a Struct, with what its docstring says about it, parents first."""
    meanings = _read_args(struct)
    info = shapes.type_info(struct)
    assert isinstance(info, shapes.StructType)
    for field in info.fields:
        yield prefix + field.encode_name, field, meanings[field.name]
        dot = "[]." if isinstance(field.type, shapes.VarTupleType) else "."
        for inner in _find_structs(field.type):
            yield from list_keys(inner.cls, f"{prefix}{field.encode_name}{dot}")


def _render_section(title: str, struct: Any) -> str:
    return f"## {title}\n\n{_render_table(struct)}\n"


def _render_table(struct: Any) -> str:
    rows = [
        f"| `{key}` | {_name_type(field.type)} | {_show_default(field)} | {meaning} |"
        for key, field, meaning in list_keys(struct)
    ]
    return "\n".join(["| key | value | default | means |", "|---|---|---|---|", *rows])


def _read_args(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Return the `Args:` of a docstring; a field without one is an error, since nobody could use it."""
    _, _, args = inspect.getdoc(struct).partition("Args:\n")  # type: ignore[union-attr]  # every Struct has one
    found: dict[str, str] = {}
    name = ""
    for line in args.splitlines():
        if match := re.match(r"    (\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif name and line.startswith("        "):
            found[name] += f" {line.strip()}"
    return {name: re.sub(r"\bNone\b", "`null`", text) for name, text in found.items()}


def _find_structs(shape: shapes.Type) -> list[shapes.StructType]:
    if isinstance(shape, shapes.StructType):
        return [shape]
    if isinstance(shape, shapes.VarTupleType):
        return _find_structs(shape.item_type)
    parts = shape.types if isinstance(shape, shapes.UnionType) else ()
    return [part for part in parts if isinstance(part, shapes.StructType)]


def _name_type(shape: shapes.Type) -> str:
    if isinstance(shape, shapes.UnionType):
        return ", or ".join(_name_type(part) for part in shape.types if not isinstance(part, shapes.NoneType))
    if isinstance(shape, shapes.IntType):
        if shape.ge is None:
            return "whole number"
        return f"{shape.ge} or more" if shape.le is None else f"{shape.ge} to {shape.le}"
    if isinstance(shape, shapes.StructType):
        return "mapping: " + ", ".join(f"`{field.encode_name}`" for field in shape.fields)
    if isinstance(shape, shapes.LiteralType):
        return ", or ".join(f"`{value}`" for value in shape.values)
    if isinstance(shape, shapes.VarTupleType):
        return f"list, each {_name_type(shape.item_type)}"
    if isinstance(shape, shapes.FloatType) and shape.ge is not None and shape.le is not None:
        return f"number from {shape.ge:g} to {shape.le:.0f}"
    return "mapping" if isinstance(shape, shapes.DictType) else _KINDS[type(shape)]


def _show_default(field: shapes.Field) -> str:
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT or isinstance(field.default, msgspec.Struct):
        return "the defaults of its keys" if _find_structs(field.type) else "`{}`"
    return "–" if field.default is None else f"`{json.dumps(field.default)}`"


if __name__ == "__main__":
    CONFIG.write_text(render_config())
    OPERATIONS.write_text(render_states(OPERATIONS.read_text()))
    FUSION.write_text(render_fusion(FUSION.read_text()))
