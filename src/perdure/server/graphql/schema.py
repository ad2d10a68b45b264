"""The schema, with a resolver bound to each field.

Every field has one, written down by type and name, so that none answers by accident; what is made here as a
dictionary is read by key. Sources are the records of `reading` and the shard, never copies of them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

from graphql import (
    GraphQLError,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
)

from perdure.errors import PerdureError, RequestError
from perdure.server.graphql import apps, events, mutations, runs, spans, workers
from perdure.server.graphql.session import Session

Resolver = Callable[..., Any]

CONNECTIONS = ("RunsV2Connection", "EventsConnection", "ConnectV1WorkerConnectionsConnection")
EDGES = ("FunctionRunV2Edge", "EventsEdge", "ConnectV1WorkerConnectionEdge")
KEYED = frozenset(
    (
        "FunctionTrigger",
        "FunctionConfiguration",
        "RetryConfiguration",
        "CancellationConfiguration",
        "EventsBatchConfiguration",
        "ConcurrencyConfiguration",
        "ConcurrencyLimitConfiguration",
        "RateLimitConfiguration",
        "DebounceConfiguration",
        "ThrottleConfiguration",
        "SingletonConfiguration",
        "RunTraceTrigger",
        "RunHistoryItem",
        "SpanResponse",
        "SpanMetadata",
        # Nobody ever has one of these: events have no sources but clients.
        "EventSource",
    )
)
"""Types whose values are dictionaries."""


_PAGES: dict[str, dict[str, Resolver]] = {
    "PageInfo": {
        "hasNextPage": lambda page, _: page.has_next,
        "hasPreviousPage": lambda page, _: page.has_previous,
        "startCursor": lambda page, _: page.cursors[0] if page.cursors else None,
        "endCursor": lambda page, _: page.end,
    },
    **{
        name: {
            "edges": lambda page, _: list(zip(page.nodes, page.cursors, strict=True)),
            "pageInfo": lambda page, _: page,
            "totalCount": lambda page, _: page.count(),
        }
        for name in CONNECTIONS
    },
    **{name: {"node": lambda edge, _: edge[0], "cursor": lambda edge, _: edge[1]} for name in EDGES},
}

_TABLES: tuple[dict[str, dict[str, Resolver]], ...] = (
    apps.RESOLVERS,
    events.RESOLVERS,
    runs.RESOLVERS,
    spans.RESOLVERS,
    mutations.RESOLVERS,
    workers.RESOLVERS,
    _PAGES,
)


def make_schema() -> GraphQLSchema:
    """Read the schema and bind its resolvers. Raises RuntimeError if a field has none, or one has no field."""
    text = resources.files("perdure.server.graphql").joinpath("schema.graphql").read_text("utf-8")
    schema = build_schema(text)
    bound: dict[str, dict[str, Resolver]] = {}
    for table in _TABLES:
        for name, fields in table.items():
            bound.setdefault(name, {}).update(fields)
    for name, kind in schema.type_map.items():
        if isinstance(kind, GraphQLObjectType) and not name.startswith("__"):
            _bind(kind, bound.pop(name, {}))
    if bound:
        raise RuntimeError(f"resolvers without a type: {sorted(bound)}")
    info = schema.type_map["StepInfo"]
    assert isinstance(info, GraphQLUnionType)
    info.resolve_type = spans.info_type
    return schema


def _bind(kind: GraphQLObjectType, fields: dict[str, Resolver]) -> None:
    for name, field in kind.fields.items():
        resolver = fields.pop(name, None)
        if resolver is None and kind.name in KEYED:
            resolver = _by_key(name)
        if resolver is None:
            raise RuntimeError(f"{kind.name}.{name} has no resolver")
        field.resolve = _counted(resolver)
    if fields:
        raise RuntimeError(f"{kind.name} has no fields {sorted(fields)}")


def _by_key(name: str) -> Resolver:
    def resolve(source: dict[str, object], _: Session) -> object:
        return source.get(name)

    return resolve


def _counted(resolver: Resolver) -> Resolver:
    """The resolver as the library calls it, within the bounds of the request."""

    def resolve(source: object, info: GraphQLResolveInfo[Session], **arguments: object) -> object:
        session = info.context
        session.count_field()
        try:
            return resolver(source, session, **arguments)
        except RequestError as error:
            raise GraphQLError(error.message) from error
        except PerdureError as error:
            raise GraphQLError(str(error)) from error

    return resolve
