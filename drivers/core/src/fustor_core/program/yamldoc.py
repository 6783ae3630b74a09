"""YAML text to plain values, knowing the line of every key."""

from collections.abc import Hashable
from typing import Any

import msgspec
import yaml

from fustor_core.program.problems import KeyPath

_DEEPEST = 50
_MOST_NODES = 100_000
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class YamlError(Exception):
    """
    The text is not YAML, or not YAML that a configuration may use.

    Args:
        reason: What is wrong.
        line: Where, counted from 1; None when unknown.
    """

    def __init__(self, reason: str, *, line: int | None) -> None:
        super().__init__(reason)
        self.line = line


class Repeated(msgspec.Struct, frozen=True):
    """A key that stands twice in one mapping; YAML would silently keep the last."""

    path: KeyPath
    line: int
    first_line: int


class Document(msgspec.Struct, frozen=True):
    """
    A parsed text.

    Args:
        value: Mappings, lists and scalars.
        lines: The line of each key and each list item, counted from 1.
        repeated: Keys that stand twice.
    """

    value: Any
    lines: dict[KeyPath, int]
    repeated: tuple[Repeated, ...]

    def find_line(self, path: KeyPath) -> int | None:
        """Return the line of a key, or of the closest key above it that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def parse(text: str) -> Document:
    """
    Parse one YAML document.

    Args:
        text: The file's content.

    Raises:
        YamlError: Not YAML, nested too deeply, or an anchor that contains itself.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        reason = " ".join(filter(None, (err.problem, err.context)))
        raise YamlError(reason, line=mark.line + 1 if mark else None) from err
    except yaml.YAMLError as err:
        raise YamlError(" ".join(str(err).split()), line=None) from err
    except RecursionError as err:
        raise YamlError("it is nested too deeply", line=None) from err
    reader = _Reader(loader)
    value = reader.read(node, ()) if node is not None else None
    return Document(value=value, lines=reader.lines, repeated=tuple(reader.repeated))


class _Loader(yaml.SafeLoader):
    """A safe loader in which `<<` cannot multiply: merges of merges would describe billions of keys."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replace `<<` by the keys that it names."""
        super().flatten_mapping(node)
        if len(node.value) > _MOST_NODES:
            raise YamlError("its merges (<<) name too many keys", line=node.start_mark.line + 1)


class _Reader:
    """Walks a node graph; `yaml` itself would lose the lines and the repeated keys."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader = loader
        self._nodes = 0
        self.lines: dict[KeyPath, int] = {}
        self.repeated: list[Repeated] = []

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        # An alias may contain itself, and a few lines of aliases can describe billions of nodes.
        if len(path) > _DEEPEST or self._nodes > _MOST_NODES:
            raise YamlError("it is nested too deeply or refers to itself", line=line)
        if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN_TAGS:
            raise YamlError(f"the tag {node.tag} cannot be used here", line=line)
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, place)) for place, child in enumerate(node.value)]
        return self._read_scalar(node)

    def _read_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[Any, Any]:
        self._note_repeated(node, path)
        try:
            self._loader.flatten_mapping(node)
        except yaml.MarkedYAMLError as err:
            raise YamlError(str(err.problem), line=node.start_mark.line + 1) from err
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self._read_scalar(key_node)
            if not isinstance(key, Hashable):
                raise YamlError("a key must be plain text", line=key_node.start_mark.line + 1)
            here = (*path, str(key))
            self.lines[here] = key_node.start_mark.line + 1
            result[key] = self.read(value_node, here)
        return result

    def _note_repeated(self, node: yaml.MappingNode, path: KeyPath) -> None:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            name, line = str(key_node.value), key_node.start_mark.line + 1
            if name in seen:
                self.repeated.append(Repeated(path=(*path, name), line=line, first_line=seen[name]))
            seen.setdefault(name, line)

    def _read_scalar(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node, deep=True)
        except yaml.MarkedYAMLError as err:
            raise YamlError(str(err.problem), line=node.start_mark.line + 1) from err
        except Exception as err:  # The constructors check little: `!!bool maybe` raises KeyError.
            reason = str(err) if isinstance(err, ValueError) else f"it is not what its tag {node.tag} says"
            raise YamlError(reason, line=node.start_mark.line + 1) from err
