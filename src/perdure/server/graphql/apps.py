"""Apps and functions."""

from __future__ import annotations

from typing import Any

from graphql import GraphQLError

from perdure.core.functions import Function
from perdure.protocol.durations import format_duration
from perdure.protocol.functions import FunctionConfig
from perdure.protocol.lifecycle import FAILED
from perdure.server.development import shown_function
from perdure.server.graphql.session import Session
from perdure.server.graphql.values import always, json_text
from perdure.shard.rows import CONNECT, AppRow


def apps(_: object, session: Session, filter: dict[str, str] | None = None) -> list[AppRow]:
    """Apps that are not archived."""
    method = (filter or {}).get("method")
    return [app for app in session.apps() if method in (None, app.method)]


def app(_: object, session: Session, id: str) -> AppRow | None:
    """One app, also an archived one."""
    return session.app(id)


def functions(_: object, session: Session) -> list[Function]:
    """Functions that are not archived."""
    return session.functions()


def function_by_slug(_: object, session: Session, query: dict[str, str]) -> Function:
    """One function. An unknown one is an error."""
    slug = query["functionSlug"]
    for function in session.functions():
        if function.slug == slug:
            return function
    raise GraphQLError(f"there is no function {slug[:200]!r}")


def function_of(session: Session, function_id: str) -> Function:
    """The function of a run, which may be archived by now."""
    function = session.function(function_id)
    if function is None:
        raise GraphQLError(f"the function {function_id} is not known any more")
    return function


def app_of(session: Session, app_id: str) -> AppRow:
    """The app of a function, which may be archived by now."""
    found = session.app(app_id)
    if found is None:
        raise GraphQLError(f"the app {app_id} is not known any more")
    return found


def _sdk(app: AppRow) -> tuple[str, str]:
    language, _, version = app.sdk.partition(":")
    return language.removeprefix("inngest-"), version


def _config(function: Function, _: Session) -> str:
    return json_text(shown_function(function))


def _overrides(function: Function, session: Session) -> str | None:
    given = session.function_row(function.id).overrides
    return None if given is None else given.decode()


def _triggers(function: Function, _: Session) -> list[dict[str, str | None]]:
    return [
        {
            "type": "EVENT" if trigger.event else "CRON",
            "value": trigger.event or trigger.cron or "",
            "condition": trigger.expression,
        }
        for trigger in function.config.triggers
    ]


def _failure_handler(function: Function, session: Session) -> Function | None:
    """The function that an SDK registers beside this one to be run when it fails."""
    for other in session.functions(function.app_id):
        if other.slug == f"{function.slug}-failure" and any(t.event == FAILED for t in other.triggers):
            return other
    return None


def _configuration(function: Function, _: Session) -> dict[str, object]:
    config = function.config
    return {
        "retries": {"value": function.attempts - 1, "isDefault": config.retries is None},
        "cancellations": [
            {"event": cancel.event, "condition": cancel.condition, "timeout": _duration(cancel.timeout_ms)}
            for cancel in config.cancel
        ],
        "priority": config.priority,
        "concurrency": [
            {"scope": limit.scope.upper(), "limit": {"value": limit.limit}, "key": limit.key}
            for limit in config.concurrency
        ],
        **_flow(config),
    }


def _flow(config: FunctionConfig) -> dict[str, object]:
    batch, rate, bounce = config.batch, config.rate_limit, config.debounce
    throttle, single = config.throttle, config.singleton
    return {
        "eventsBatch": None
        if batch is None
        else {"maxSize": batch.max_size, "timeout": _duration(batch.timeout_ms), "key": batch.key},
        "rateLimit": None
        if rate is None
        else {"limit": rate.limit, "period": _duration(rate.period_ms), "key": rate.key},
        "debounce": None if bounce is None else {"period": _duration(bounce.period_ms), "key": bounce.key},
        "throttle": None
        if throttle is None
        else {
            "limit": throttle.limit,
            "period": _duration(throttle.period_ms),
            "burst": throttle.burst,
            "key": throttle.key,
        },
        "singleton": None if single is None else {"mode": single.mode.upper(), "key": single.key},
    }


def _duration(ms: int | None) -> str | None:
    return None if ms is None else format_duration(ms)


def _has_worker(session: Session, app: AppRow) -> bool:
    """Whether somebody would take a call: always, for an app that the server calls at its URL."""
    if app.method != CONNECT:
        return True
    return any(served.name == app.name for worker in session.workers for served in worker.apps)


RESOLVERS: dict[str, dict[str, Any]] = {
    "Query": {"apps": apps, "app": app, "functions": functions, "functionBySlug": function_by_slug},
    "App": {
        "id": lambda app, _: app.id,
        "externalID": lambda app, _: app.name,
        "name": lambda app, _: app.name,
        "sdkLanguage": lambda app, _: _sdk(app)[0],
        "sdkVersion": lambda app, _: _sdk(app)[1],
        "framework": lambda app, _: app.framework or None,
        "url": lambda app, _: app.url or None,
        "checksum": lambda app, _: app.checksum or None,
        "error": lambda app, _: app.error or None,
        "functions": lambda app, session: session.functions(app.id),
        "connectionType": lambda app, _: "CONNECT" if app.method == "CONNECT" else "SERVERLESS",
        "method": lambda app, _: app.method or "SERVE",
        "appVersion": lambda app, _: app.app_version,
        "connected": lambda app, session: (
            not app.error and app.archived_at is None and _has_worker(session, app)
        ),
        "functionCount": lambda app, session: len(session.functions(app.id)),
        "autodiscovered": always(None),
    },
    "Function": {
        "id": lambda function, _: function.id,
        "name": lambda function, _: function.name,
        "slug": lambda function, _: function.slug,
        "url": lambda function, _: function.url.to("step"),
        "appID": lambda function, _: function.app_id,
        "app": lambda function, session: app_of(session, function.app_id),
        "config": _config,
        "configuration": _configuration,
        "overrides": _overrides,
        "paused": lambda function, session: session.function_row(function.id).paused or None,
        "concurrency": lambda function, _: (
            function.config.concurrency[0].limit if function.config.concurrency else 0
        ),
        "triggers": _triggers,
        "failureHandler": _failure_handler,
    },
}

__all__ = ["RESOLVERS", "app_of", "function_of"]
