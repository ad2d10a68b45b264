"""The OpenAPI document of the pages' API, made from the endpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from perdure.server.api.endpoint import Endpoint, Nothing

VERSION = "3.1.0"
"""OpenAPI 3.1 takes JSON Schema as msgspec writes it."""
_REF = "#/components/schemas/{name}"
_PLACE = re.compile(r"\{(\w+)(?::path)?\}")


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """The document, ready to be written as JSON."""
    kinds = list(dict.fromkeys(kind for one in endpoints for kind in _kinds(one)))
    schemas, components = msgspec.json.schema_components(kinds, schema_hook=_anything, ref_template=_REF)
    schema_of = dict(zip(kinds, schemas, strict=True))
    _require_all(components, {kind.__name__ for one in endpoints for kind in (one.query, one.body)})
    error = {"$ref": _REF.format(name="Problem")}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation: dict[str, Any] = {
            "operationId": endpoint.name,
            "summary": endpoint.summary,
            "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint, components)],
            "responses": {
                "200": _content("What was asked for.", schema_of[endpoint.result]),
                "default": _content("What is wrong, and what to do.", error),
            },
        }
        if endpoint.body is not Nothing:
            operation["requestBody"] = _content("", schema_of[endpoint.body]) | {"required": True}
        paths.setdefault(_PLACE.sub(r"{\1}", endpoint.path), {})[endpoint.method.lower()] = operation
    components["Problem"] = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
    }
    return {
        "openapi": VERSION,
        "info": {"title": "Perdure", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _require_all(components: dict[str, Any], taken: set[str]) -> None:
    """Answers hold all of their fields, also those that have a default; only what is taken may leave some out."""
    for name, schema in components.items():
        if name not in taken and "properties" in schema:
            schema["required"] = list(schema["properties"])


def _anything(kind: type) -> dict[str, Any]:
    """The schema of `object`, which stands for any JSON."""
    if kind is object:
        return {"description": "Any JSON."}
    raise NotImplementedError


def _kinds(endpoint: Endpoint) -> list[Any]:
    return [kind for kind in (endpoint.result, endpoint.query, endpoint.body) if kind is not Nothing]


def _content(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PLACE.findall(endpoint.path)
    ]


def _query_parameters(endpoint: Endpoint, components: dict[str, Any]) -> list[dict[str, Any]]:
    if endpoint.query is Nothing:
        return []
    schema = components[endpoint.query.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": part}
        for name, part in schema["properties"].items()
    ]
