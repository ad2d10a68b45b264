"""`/health`, and `/dev`: what the server is and knows."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from perdure.core.functions import Function
from perdure.protocol.durations import format_time
from perdure.server.clock import shown_ahead
from perdure.server.context import Server
from perdure.server.json import JsonResponse

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


def health(server: Server) -> Response:
    """Whether the server takes events: 200, or 503 with the reason."""
    if server.shard.accepting:
        return JsonResponse({"status": 200, "message": "OK"})
    return JsonResponse({"status": 503, "message": server.shard.trouble}, 503, {"Retry-After": "1"})


def info(server: Server) -> Response:
    """What the server is, and the functions that it knows, in the order of their names.

    `apps` and `clock` are Perdure's own: each app with what is wrong with its newest sync, and how to mend it; and how
    far travel in time has moved the clock.
    """
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
        "functions": [
            shown_function(function) for function in sorted(functions, key=lambda f: (f.name, f.slug))
        ],
        "apps": _apps(server),
        "clock": shown_ahead(server),
        "handlers": None,
        "isSingleNodeService": False,
        "isMissingSigningKey": config.mode == "start" and not config.signing_keys,
        "isMissingEventKeys": config.mode == "start" and not config.event_keys,
        "features": {"FEATURE_CEL_SEARCH": True, "enable-step-metadata": True, "run-details-v4": False},
    }
    return JsonResponse(body)


def _apps(server: Server) -> list[dict[str, object]]:
    state = server.shard.state
    counts: dict[str, int] = {}
    for function in state.functions.by_id.values():
        if not function.archived:
            counts[function.app_id] = counts.get(function.app_id, 0) + 1
    return [
        {
            "id": app.id,
            "name": app.name,
            "url": app.url,
            "sdk": app.sdk,
            "framework": app.framework,
            "method": app.method,
            "functions": counts.get(app.id, 0),
            "error": app.error or None,
            "synced_at": format_time(app.synced_at),
        }
        for app in sorted(state.apps.values(), key=lambda app: (app.name, app.url))
        if app.archived_at is None
    ]


def shown_function(function: Function) -> dict[str, object]:
    """A function as `/dev` shows it: what it is, and those of its rules that it sets."""
    raw = msgspec.json.decode(function.config.raw, type=dict[str, msgspec.Raw])
    given = {name.lower(): value for name, value in raw.items() if bytes(value) not in (b"null", b"[]")}
    shown: dict[str, object] = {
        "id": function.id,
        "fv": 1,
        "name": function.name,
        "slug": function.slug,
        "triggers": _without_nulls(given.get("triggers")),
        "steps": [{"id": "step", "name": "step", "uri": function.url.to("step")}],
    }
    return shown | {key: given[key.lower()] for key in _SHOWN if key.lower() in given}


def _without_nulls(triggers: msgspec.Raw | None) -> list[dict[str, Any]]:
    """Triggers as they came, less what older SDKs give as null: clients compare them with their own lists."""
    found: Any = [] if triggers is None else msgspec.json.decode(triggers)
    if isinstance(found, dict):
        found = [found]
    return [{key: value for key, value in trigger.items() if value is not None} for trigger in found]
