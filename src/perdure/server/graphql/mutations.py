"""What GraphQL clients may change."""

from __future__ import annotations

from typing import Any

import msgspec
from graphql import GraphQLError

from perdure.core.model import RunStatus
from perdure.protocol.events import read_invoke
from perdure.protocol.urls import normalize_app_url
from perdure.reading.port import RunRecord
from perdure.server.graphql.session import Session, checked_run_id, unknown_run
from perdure.server.invoking import invoke_function as invoke
from perdure.server.rerunning import WantedStep, rerun_run
from perdure.shard.commands import CancelRun, Command, RemoveApp
from perdure.shard.rows import AppRow

SYNC_SECONDS = 15.0
"""An app has 10 s to answer a sync."""


def submit(session: Session, command: Command) -> object:
    """Give a command to the shard, and wait until it is on disk."""

    async def done() -> object:
        return await session.server.submit(command)

    return session.ask(done)


# Apps


def create_app(_: object, session: Session, input: dict[str, str]) -> AppRow:
    """Sync the app at a URL."""
    return _sync(session, input["url"])


def update_app(_: object, session: Session, input: dict[str, str]) -> AppRow:
    """Sync an app from another URL. What is served there must be the same app."""
    known = session.app(input["id"])
    if known is None:
        raise GraphQLError(f"there is no app {input['id'][:100]!r}")
    found = _sync(session, input["url"])
    if found.id != known.id:
        raise GraphQLError(
            f"{input['url'][:300]} serves the app {found.name!r}, which is synced now; "
            f"{known.name!r} was left as it was"
        )
    return found


def _sync(session: Session, text: str) -> AppRow:
    url = normalize_app_url(text)
    sync = session.server.sync
    if sync is None or not url.startswith(("http://", "https://")):
        raise GraphQLError(f"{text[:300]!r} is not a URL like http://localhost:3000/api/inngest")
    outcome = session.wait_for(lambda: sync(url), SYNC_SECONDS)
    if outcome.error:
        raise GraphQLError(f"{outcome.error}: {outcome.message}")
    session.forget_apps()
    for app in session.apps():
        if app.url == url and app.name:
            return app
    raise GraphQLError(f"{url} was synced, but registered under another URL; see `apps`")


def delete_app(_: object, session: Session, id: str) -> str:
    """Archive an app; its id."""
    _remove(session, id)
    return id


def delete_app_by_name(_: object, session: Session, name: str) -> bool:
    """Archive an app."""
    for app in session.apps():
        if app.name == name:
            _remove(session, app.id)
            return True
    raise GraphQLError(f"there is no app {name[:200]!r}")


def _remove(session: Session, app_id: str) -> None:
    if not submit(session, RemoveApp(app_id=app_id)):
        raise GraphQLError(f"there is no app {app_id[:100]!r}")


# Runs


def invoke_function(
    _: object,
    session: Session,
    functionSlug: str,
    data: object = None,
    user: object = None,
    meta: object = None,
    debugSessionID: str | None = None,
    debugRunID: str | None = None,
) -> bool:
    """Start a run of a function. An unknown one is an error: nothing would ever come of it."""
    if debugSessionID or debugRunID:
        raise GraphQLError("debug sessions are not offered by this server")
    found = [function for function in session.functions() if functionSlug in (function.slug, function.id)]
    if not found:
        raise GraphQLError(f"could not find function with ID: {functionSlug[:200]}")
    given = {
        key: value for key, value in (("data", data), ("user", user), ("meta", meta)) if value is not None
    }
    request = read_invoke(msgspec.json.encode(given))
    session.ask(lambda: invoke(session.server, found[0], request))
    return True


def cancel_run(_: object, session: Session, runID: str) -> RunRecord:
    """Cancel a run. One that has ended is an error."""
    before = submit(session, CancelRun(run=checked_run_id(runID)))
    if before is None:
        raise unknown_run(runID)
    if before not in (RunStatus.QUEUED, RunStatus.RUNNING):
        raise GraphQLError("cannot cancel an ended run")
    session.forget_run(runID)
    found = session.run(runID)
    if found is None:
        raise unknown_run(runID)
    return found


def rerun(
    _: object,
    session: Session,
    runID: str,
    fromStep: dict[str, str] | None = None,
    debugSessionID: str | None = None,
    debugRunID: str | None = None,
) -> str:
    """Run a run again from its events, or from one of its steps; the new run's id."""
    if debugSessionID or debugRunID:
        raise GraphQLError("debug sessions are not offered by this server")
    run_id = checked_run_id(runID)
    wanted = None
    if fromStep is not None:
        given = fromStep.get("input")
        wanted = WantedStep(fromStep["stepID"], None if given is None else given.encode())
    new = session.ask(lambda: rerun_run(session.server, run_id, wanted))
    if new is None:
        raise unknown_run(runID)
    return new


def not_offered(what: str) -> Any:
    """A resolver for what this server does not do."""

    def resolve(_: object, __: Session, **___: object) -> object:
        raise GraphQLError(f"{what} are not offered by this server")

    return resolve


RESOLVERS: dict[str, dict[str, Any]] = {
    "Mutation": {
        "createApp": create_app,
        "updateApp": update_app,
        "deleteApp": delete_app,
        "deleteAppByName": delete_app_by_name,
        "invokeFunction": invoke_function,
        "cancelRun": cancel_run,
        "rerun": rerun,
        "createDebugSession": not_offered("debug sessions"),
    },
    "Query": {
        "debugRun": not_offered("debug runs"),
        "debugSession": not_offered("debug sessions"),
    },
}
