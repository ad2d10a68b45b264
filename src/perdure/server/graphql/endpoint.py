"""`POST /v0/gql`: from the request to the answer.

A query that is run answers 200, also when parts of it failed: `errors` names them. One that is not (no JSON,
syntax, what does not fit the schema, too much at once) is 400 or 422, with a code in `extensions`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from graphql import GraphQLError, execute_sync

from perdure.errors import RequestError
from perdure.server.context import Server
from perdure.server.graphql.documents import VALIDATION_FAILED, Documents, Refused
from perdure.server.graphql.schema import make_schema
from perdure.server.graphql.session import Session
from perdure.server.http import JSON, Receive, Scope, Send, header, read_body, respond

log = logging.getLogger("perdure.server")

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Data for an invocation may be in it."""
THREADS = 2
"""Requests answered at once; they share the interpreter with the event loop."""
MAX_WAITING = 32
"""Requests that wait for a thread; more are told to come again."""

UNEXPECTED = "The server failed to answer this; its log says why."


class _Request(msgspec.Struct):
    query: str = ""
    variables: dict[str, Any] | None = None
    operationName: str | None = None


_REQUEST = msgspec.json.Decoder(_Request)


class GraphqlEndpoint:
    """Answers GraphQL requests. Made at the first of them."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._schema = make_schema()
        self._documents = Documents(self._schema)
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="perdure-graphql")
        self._waiting = 0

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] != "POST":
            said = msgspec.json.encode(_failed([GraphQLError("GraphQL requests are POST")]))
            await respond(send, 405, said, JSON, [(b"allow", b"POST")])
            return
        kind = (header(scope, b"content-type") or "").partition(";")[0].strip().lower()
        if kind not in ("application/json", "application/graphql+json"):
            await _respond(send, 400, _failed([GraphQLError("transport not supported")]))
            return
        try:
            request = _REQUEST.decode(await read_body(receive, MAX_BODY_BYTES, self._server.intake))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            message = f"The body must be a JSON object with `query`: {error}"
            await _respond(send, 400, _failed([GraphQLError(message)]))
            return
        if self._waiting >= MAX_WAITING:
            raise RequestError(503, "Too many GraphQL requests wait for an answer. Try again in a moment.")
        loop = asyncio.get_running_loop()
        session = Session(self._server, loop)
        self._waiting += 1
        try:
            status, body = await loop.run_in_executor(self._threads, self._run, request, session)
        finally:
            self._waiting -= 1
        await respond(send, status, body, JSON)

    def _run(self, request: _Request, session: Session) -> tuple[int, bytes]:
        """In a thread: run the query, and write out its answer."""
        try:
            with self._lock:
                document = self._documents.read(request.query)
        except Refused as refusal:
            return 422, msgspec.json.encode(_failed(refusal.errors, refusal.code))
        result = execute_sync(
            self._schema,
            document,
            context_value=session,
            variable_values=request.variables,
            operation_name=request.operationName,
        )
        if result.data is None and result.errors and not any(error.path for error in result.errors):
            # Nothing was run: the variables do not fit, or no operation was named.
            return 422, msgspec.json.encode(_failed(result.errors, VALIDATION_FAILED))
        answer: dict[str, object] = {"data": result.data}
        if result.errors:
            answer["errors"] = [_shown(error) for error in result.errors]
        if session.notices:
            answer["extensions"] = {"notices": session.notices}
        return 200, msgspec.json.encode(answer)


async def _respond(send: Send, status: int, body: dict[str, object]) -> None:
    await respond(send, status, msgspec.json.encode(body), JSON)


def _failed(errors: list[GraphQLError], code: str | None = None) -> dict[str, object]:
    """The answer to a query that was not run."""
    shown = [_shown(error) for error in errors]
    if code is not None:
        for error in shown:
            error["extensions"] = {"code": code}
    return {"errors": shown, "data": None}


def _shown(error: GraphQLError) -> dict[str, object]:
    original = error.original_error
    shown: dict[str, object] = {"message": error.message}
    if original is not None and not isinstance(original, GraphQLError):
        log.error("a GraphQL field failed at %s", error.path, exc_info=original)
        shown["message"] = UNEXPECTED
    if error.locations:
        shown["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path is not None:
        shown["path"] = list(error.path)
    return shown
