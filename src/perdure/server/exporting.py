"""The export of a run: one JSON document with all that is known of it, which `perdure.testing` can replay.

    format, version     "perdure.run", 1: what this document is; a change that readers must know raises the version
    exported_at         when it was made, by the server's clock
    server              name and version of what made it
    app, function       who ran it, and the function's configuration as it was registered
    run                 its status, times, output, and where it came from
    events              its trigger events, as calls carry them
    steps               what has finished, in the order in which it did: `memo` is what calls carry for it
    pending             what is still to happen to it, and what it waits for
    history             what happened to it, as `GET /v1/runs/{id}/history` tells it

**What is left out.** The options of requests that the server makes for a run (`step.fetch`, `step.ai.infer`), with
their keys and headers: they stand in items, and of these only the name and the time are told. Credentials and the
query of the URLs by which an app is called, since hosts put tokens there. Headers of answers that carry credentials.
The data of events and the results of steps are the author's and are given as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.errors import RequestError
from perdure.protocol.durations import format_time
from perdure.protocol.ids import is_ulid
from perdure.protocol.payloads import NULL
from perdure.reading.port import StepRecord, WaitRecord, WholeRun
from perdure.reading.timeline import REQUESTS
from perdure.server.context import Server
from perdure.server.routing import route_of
from perdure.shard.rows import AppRow, FunctionRow

FORMAT = "perdure.run"
VERSION = 1

_SECRET_HEADERS = frozenset(("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"))
_REMOVED = "[removed]"


def export_routes(server: Server) -> list[Route]:
    """The routes of this module."""
    route = partial(route_of, server)
    return [route("/v1/runs/{run_id}/export", GET=export)]


async def export(server: Server, request: Request) -> Response:
    """A run as a document. It is not wrapped in `data`, so that it can be saved as it comes."""
    run_id: str = request.path_params["run_id"]
    if not is_ulid(run_id):
        raise RequestError(400, f"Invalid run ID: {run_id[:100]}")
    whole = await server.reader.whole_run(run_id.upper())
    if whole is None:
        raise RequestError(404, f"There is no run {run_id}.")
    steps = await server.reader.steps_of_run(whole.run.id)
    state = server.shard.state
    function = state.function_rows.get(whole.run.function_id)
    app = None if function is None else state.apps.get(function.app_id)
    body = export_document(whole, steps, function, app, server.version, server.shard.now())
    name = f'attachment; filename="run-{whole.run.id}.json"'
    return Response(body, media_type="application/json", headers={"Content-Disposition": name})


def export_document(
    whole: WholeRun,
    steps: Sequence[StepRecord],
    function: FunctionRow | None,
    app: AppRow | None,
    server_version: str,
    now: int,
) -> bytes:
    """The document. `steps` may have more than `whole`, which is of one moment: what came later is left out."""
    known = {step.id for step in whole.steps}
    waits = {wait.n: wait for wait in whole.waits}
    document = {
        "format": FORMAT,
        "version": VERSION,
        "exported_at": format_time(now),
        "server": {"name": "perdure", "version": server_version},
        "app": None if app is None else _app(app),
        "function": None if function is None else _function(function),
        "run": _run(whole),
        "events": [msgspec.Raw(event.body) for event in whole.events],
        "steps": [_step(step) for step in steps if step.id in known],
        "pending": [
            {
                "kind": item.kind,
                "step": item.step_id or None,
                "name": item.name or None,
                "due_at": format_time(item.due),
                "attempt": item.attempt,
                **_waited_for(waits.get(item.n)),
            }
            for item in whole.items
        ],
        "history": [
            {
                "n": entry.n,
                "at": format_time(entry.at),
                "kind": entry.kind,
                "details": msgspec.Raw(entry.body),
            }
            for entry in whole.history
        ],
        "history_complete": not whole.more,
    }
    return msgspec.json.encode(document)


def _app(app: AppRow) -> dict[str, object]:
    return {"name": app.name, "sdk": app.sdk, "framework": app.framework, "version": app.app_version or None}


def _function(function: FunctionRow) -> dict[str, object]:
    return {"slug": function.slug, "name": function.name, "config": _config(function.config)}


def _config(raw: bytes) -> dict[str, Any]:
    config: dict[str, Any] = msgspec.json.decode(raw)
    for step in config.get("steps", {}).values():
        runtime = step.get("runtime") if isinstance(step, dict) else None
        if isinstance(runtime, dict) and isinstance(runtime.get("url"), str):
            runtime["url"] = _bare(runtime["url"])
    return config


def _bare(url: str) -> str:
    """A URL without credentials and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _run(whole: WholeRun) -> dict[str, object]:
    run = whole.run
    return {
        "id": run.id,
        "status": run.status,
        "queued_at": format_time(run.created_at),
        "started_at": None if run.started_at is None else format_time(run.started_at),
        "ended_at": None if run.ended_at is None else format_time(run.ended_at),
        "output": msgspec.Raw(run.output if run.output is not None else NULL),
        "original_run_id": run.original_run_id,
        "from_step": None if run.from_step is None else msgspec.Raw(run.from_step),
        "batch_id": run.batch_id,
        "cron": run.cron,
    }


def _step(step: StepRecord) -> dict[str, object]:
    return {
        "id": step.id,
        "name": step.name,
        "op": step.op,
        "ended_at": format_time(step.at),
        "memo": msgspec.Raw(_without_secrets(step)),
    }


def _without_secrets(step: StepRecord) -> bytes:
    """The memo; of a request without the headers of the answer that carry credentials."""
    if step.op not in REQUESTS:
        return step.memo
    memo: Any = msgspec.json.decode(step.memo)
    data: Any = memo.get("data") if isinstance(memo, dict) else None
    headers: Any = data.get("headers") if isinstance(data, dict) else None
    if not isinstance(headers, dict) or not any(name.lower() in _SECRET_HEADERS for name in headers):
        return step.memo
    data["headers"] = {
        name: _REMOVED if name.lower() in _SECRET_HEADERS else value for name, value in headers.items()
    }
    return msgspec.json.encode(memo)


def _waited_for(wait: WaitRecord | None) -> dict[str, object]:
    """What ends an item before its time."""
    return {} if wait is None else {"wait": wait.kind, "event": wait.event, "expression": wait.expression}
