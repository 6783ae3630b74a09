"""The OpenAPI document: made of the endpoints' declarations and of the Structs that they decode and encode with."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from fustor_fusion.answers import Refusal
from fustor_fusion.endpoints import JSON, Endpoint
from fustor_fusion.keyfile import Role
from fustor_fusion.protocol import COMPONENTS, PublicRow, SentinelUpdate
from fustor_fusion.reading import BECAUSE, CURRENT, TOKEN

_MEANING: Final = {
    400: "The body is compressed or was cut off.",
    401: "The key is missing, unknown, or for less than this.",
    403: "The key is not for this view, or host or origin are not served.",
    404: "There is no such thing.",
    409: "It cannot be done as things are now.",
    410: "The token is too old.",
    412: "A directory is not where it was moved from; nothing of the batch is applied.",
    408: "The body comes too slowly.",
    413: "The body is too long.",
    419: "The session is over.",
    422: "The request is malformed.",
    503: "The database cannot be read or written now, or the key not be checked; the request may be repeated.",
    504: "What was to be waited for did not come in time.",
    505: "By HTTP/1.0, no answer is given that is so long.",
}
_HEADERS: Final = {
    CURRENT: ("Whether the view holds what its agents see.", {"enum": ["true", "false"]}),
    BECAUSE: ("Why it does not.", {"type": "string"}),
    TOKEN: ("Where `changes` go on behind this answer.", {"type": "string"}),
}
_KEY: Final = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
_KEYS: Final = {
    Role.AGENT: _KEY | {"description": "The key of an agent."},
    Role.READER: _KEY | {"description": "The key of a reader."},
}
_PARTS: Final = (PublicRow, SentinelUpdate)
"""Types that bodies name without decoding them at once."""


def describe(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """
    Make the document.

    Args:
        endpoints: All that is served.
        version: Of the program.
    """
    questions = _Schemas(endpoint.asked for endpoint in endpoints)
    types = [*_PARTS, Refusal]
    for endpoint in endpoints:
        types += _list_answers(endpoint)
        if endpoint.body is not None:
            types.append(endpoint.body)
    schemas = _Schemas(types)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _describe(endpoint, questions, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fustor Fusion", "version": version, "description": "See docs/protocol.md."},
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {role.value: scheme for role, scheme in _KEYS.items()},
        },
    }


class _Schemas:
    """The schemas of some types, and the components that these refer to."""

    def __init__(self, types: Iterable[Any]) -> None:
        self._types = list(types)
        self._schemas, self.components = msgspec.json.schema_components(
            self._types, ref_template=COMPONENTS + "{name}")

    def get(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a type, as where it is referred to."""
        return self._schemas[self._types.index(kind)]

    def get_whole(self, kind: type) -> dict[str, Any]:
        """Return the schema of a Struct itself."""
        whole: dict[str, Any] = self.components[_name(self.get(kind))]
        return whole


def _describe(endpoint: Endpoint, questions: _Schemas, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.about.__name__,
        "summary": (endpoint.about.__doc__ or "").strip().partition("\n")[0],
        "parameters": _describe_parameters(endpoint, questions.get_whole(endpoint.asked)),
        "responses": {"200": _describe_answer(endpoint, [schemas.get(kind) for kind in _list_answers(endpoint)])},
        "security": [{role.value: []} for role in _list_roles(endpoint)],
    }
    if endpoint.body is not None:
        content = {endpoint.body_type: {"schema": schemas.get(endpoint.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    refusal = {JSON: {"schema": schemas.get(Refusal)}}
    for status in _list_refusals(endpoint):
        operation["responses"][str(status)] = {"description": _MEANING[status], "content": refusal}
    return operation


def _describe_parameters(endpoint: Endpoint, question: dict[str, Any]) -> list[dict[str, Any]]:
    in_path = re.findall(r"{(\w+)}", endpoint.path)
    parameters = []
    for name, found in question["properties"].items():
        schema = dict(found)
        parameter = {"name": name, "in": "path" if name in in_path else "query", "schema": schema,
                     "required": name in question["required"]}
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        parameters.append(parameter)
    return parameters


def _describe_answer(endpoint: Endpoint, schemas: list[dict[str, Any]]) -> dict[str, Any]:
    schema: dict[str, Any] = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    if endpoint.answer_type != JSON:
        schema = {"type": "string", "description": f"One object a line, each a {_name(schema)}."}
    described: dict[str, Any] = {"description": "Done.", "content": {endpoint.answer_type: {"schema": schema}}}
    if endpoint.headers:
        described["headers"] = {name: {"description": text, "schema": of} for name, (text, of) in _HEADERS.items()}
    return described


def _name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).removeprefix(COMPONENTS)


def _list_answers(endpoint: Endpoint) -> list[Any]:
    return list(endpoint.answers) if isinstance(endpoint.answers, tuple) else [endpoint.answers]


def _list_roles(endpoint: Endpoint) -> list[Role]:
    return {None: [], Role.AGENT: [Role.AGENT], Role.READER: [Role.READER, Role.AGENT]}[endpoint.key]


def _list_refusals(endpoint: Endpoint) -> list[int]:
    usual = {403} if endpoint.key is None else {401, 403, 422, 503}
    return sorted(usual | set(endpoint.refusals))
