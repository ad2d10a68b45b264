"""An endpoint: what it takes and gives, and the route that reads the one and writes the other.

Queries, bodies and answers are msgspec structs, so that reading, checking, writing and describing them all come
from one declaration. Times are ms since the epoch, durations ms; bodies of users travel as the JSON they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.errors import RequestError
from perdure.server.context import Server
from perdure.server.json import JsonResponse
from perdure.server.routing import read_request

Q = TypeVar("Q")
B = TypeVar("B")


class Nothing(msgspec.Struct, frozen=True):
    """No fields at all."""


@dataclass(frozen=True, slots=True)
class Asked(Generic[Q, B]):
    """One request: the names in its path, its query and its body."""

    path: dict[str, str]
    query: Q
    body: B


Handler = Callable[[Server, Asked[Any, Any]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method of a path. The handler's name is the operation's, its docstring the summary.

    `result` is what the handler gives. Fields of `query` that are tuples may be given several times.
    """

    method: str
    path: str
    handle: Handler
    result: Any
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] = Nothing

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.handle.__name__

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (self.handle.__doc__ or "").strip().partition("\n")[0]


def routes_of(server: Server, endpoints: list[Endpoint]) -> list[Route]:
    """The routes of endpoints: one a path, for all of its methods."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return [_route(server, path, methods) for path, methods in by_path.items()]


def _route(server: Server, path: str, methods: dict[str, Endpoint]) -> Route:
    async def handle(request: Request) -> Response:
        endpoint = methods["GET" if request.method == "HEAD" else request.method]
        query = read_query(request.query_params, endpoint.query)
        body = Nothing() if endpoint.body is Nothing else await read_request(server, request, endpoint.body)
        answer = await endpoint.handle(server, Asked(request.path_params, query, body))
        return answer if isinstance(answer, Response) else JsonResponse(answer)

    return Route(path, handle, methods=list(methods))


def read_query(given: QueryParams, kind: type[msgspec.Struct]) -> Any:
    """The query as its type. Raises `RequestError` 400 that names the field."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    found: dict[str, object] = {}
    for name in given:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise RequestError(400, f"the query has {name[:60]!r}, which is not known here (known: {known})")
        many = getattr(fields[name], "__origin__", None) is tuple
        found[name] = tuple(given.getlist(name)) if many else given[name]
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(400, f"the query is wrong: {error}") from None
