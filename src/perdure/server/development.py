"""`/health`, `/dev`, and the helps for tests that only `perdure dev` offers."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from perdure.core.functions import Function
from perdure.errors import RequestError
from perdure.server.context import Server
from perdure.server.json import JsonResponse
from perdure.shard.commands import CancelRun, OverrideLimits

_SHOWN = (
    "concurrency",
    "batchEvents",
    "rateLimit",
    "debounce",
    "throttle",
    "priority",
    "singleton",
    "cancel",
    "timeouts",
)
_STEP_LIMIT_MAX = 10_000
_STATE_LIMIT_MAX = 32 * 1024 * 1024


class _Config(msgspec.Struct):
    """The parts of a registered configuration that are shown as they came."""

    triggers: msgspec.Raw = msgspec.Raw(b"[]")


def health(server: Server) -> Response:
    """Whether the server takes events: 200, or 503 with the reason."""
    if server.shard.accepting:
        return JsonResponse({"status": 200, "message": "OK"})
    return JsonResponse({"status": 503, "message": server.shard.trouble}, 503)


def info(server: Server) -> Response:
    """What the server is, and the functions that it knows, in the order of their names."""
    config = server.config
    functions = [f for f in server.shard.state.functions.by_id.values() if not f.archived]
    keyed = bool(config.signing_keys)
    body = {
        "version": server.version,
        "authed": keyed,
        "startOpts": {
            "autodiscover": config.discovery,
            "urls": list(config.urls),
            "poll": config.poll,
            "poll_interval": config.poll_interval,
            "tick": config.tick * 1_000_000,
            "retry_interval": config.retry_interval or 0,
            "queue_workers": config.queue_workers,
        },
        "functions": [_function(function) for function in sorted(functions, key=lambda f: (f.name, f.slug))],
        "handlers": None,
        "isSingleNodeService": False,
        "isMissingSigningKey": config.mode == "start" and not config.signing_keys,
        "isMissingEventKeys": config.mode == "start" and not config.event_keys,
        "features": {"FEATURE_CEL_SEARCH": False, "enable-step-metadata": False, "run-details-v4": False},
    }
    return JsonResponse(body)


def _function(function: Function) -> dict[str, object]:
    raw = msgspec.json.decode(function.config.raw, type=dict[str, msgspec.Raw])
    shown: dict[str, object] = {
        "id": function.id,
        "fv": 1,
        "name": function.name,
        "slug": function.slug,
        "triggers": raw.get("triggers", msgspec.Raw(b"[]")),
        "steps": [{"id": "step", "name": "step", "uri": function.url.to("step")}],
    }
    shown |= {key: raw[key] for key in _SHOWN if key in raw and bytes(raw[key]) not in (b"null", b"[]")}
    return shown


async def step_limit(server: Server, request: Request) -> Response:
    """Set (POST) or remove (DELETE) the limit of steps of one function."""
    return await _limit(server, request, "steps_per_run", _STEP_LIMIT_MAX)


async def state_size_limit(server: Server, request: Request) -> Response:
    """Set (POST) or remove (DELETE) the limit of state, in bytes, of one function."""
    return await _limit(server, request, "state_bytes", _STATE_LIMIT_MAX)


async def _limit(server: Server, request: Request, name: str, most: int) -> Response:
    slug = request.query_params.get("functionId", "")
    value: int | None = None
    if request.method == "POST":
        text = request.query_params.get("limit", "")
        if not text.isdecimal() or not 0 < int(text[:12]) <= most:
            raise RequestError(400, f"limit is {text[:40]!r}; it must be a number from 1 to {most}")
        value = int(text)
    steps = value if name == "steps_per_run" else None
    state_bytes = value if name == "state_bytes" else None
    if not await server.submit(OverrideLimits(slug=slug, steps=steps, state_bytes=state_bytes, change=name)):
        raise RequestError(404, f"could not find function with ID: {slug}")
    return JsonResponse({"ok": True})


async def cancel_for_test(server: Server, request: Request) -> Response:
    """Cancel the run given as `runId` (or `run_id`)."""
    run_id = request.query_params.get("runId") or request.query_params.get("run_id") or ""
    if await server.submit(CancelRun(run=run_id)) is None:
        raise RequestError(404, f"run not found: {run_id}")
    return JsonResponse({"ok": True})


def queue_size(server: Server, request: Request) -> Response:
    """How many items of a function (`functionId`, slug or id) wait in memory."""
    function = server.shard.state.functions.find(request.query_params.get("functionId", ""))
    if function is None:
        raise RequestError(
            404, f"could not find function with ID: {request.query_params.get('functionId', '')}"
        )
    queue = server.shard.state.queues.by_function.get(function.id)
    return JsonResponse({"size": len(queue.heap) if queue is not None else 0})


def telemetry() -> Response:
    """Take an SDK's telemetry and keep none of it."""
    return PlainTextResponse("")
