"""Registration of apps: `POST /fn/register`, `DELETE /fn/remove`."""

from __future__ import annotations

from urllib.parse import parse_qs

from perdure.core.cron import check_cron
from perdure.core.expressions import compile_expression
from perdure.errors import RequestError
from perdure.protocol.ids import app_uuid
from perdure.protocol.registration import (
    Registration,
    RegistrationError,
    kind_mismatch,
    read_registration,
    register_answer,
    register_error,
)
from perdure.protocol.urls import normalize_app_url
from perdure.server.context import Server
from perdure.server.http import TEXT_JSON, Receive, Scope, Send, header, read_body, respond
from perdure.shard.commands import PutApp, RegisterApp, Registered, RemoveApp
from perdure.shard.rows import AppRow

MAX_REGISTRATION_BYTES = 16 * 1024 * 1024


async def register(server: Server, scope: Scope, receive: Receive, send: Send) -> None:
    """Take in an app's registration. A refused one leaves the app's last good version running."""
    body = await read_body(receive, MAX_REGISTRATION_BYTES)
    try:
        expected = header(scope, b"x-inngest-expected-server-kind")
        if expected and expected != server.config.kind:
            raise kind_mismatch(server.config.kind, expected)
        registered = await take_in(server, body)
    except RegistrationError as error:
        await respond(send, error.status, register_error(error), TEXT_JSON)
        return
    answer = register_answer(
        modified=registered.modified, sync_id=server.new_uuid(), app_id=registered.app_id
    )
    await respond(send, 200, answer, TEXT_JSON)


async def take_in(server: Server, body: bytes, fallback_url: str | None = None) -> Registered:
    """Check a registration and store it.

    Raises `RegistrationError`, after noting on the app what was wrong.
    """
    try:
        registration = read_registration(
            body, check_expression=_check_expression, check_cron=check_cron, fallback_url=fallback_url
        )
    except RegistrationError as error:
        if error.registration is not None and error.registration.app_name:
            await note_error(server, error.registration, error.reason)
        raise
    method = "CONNECT" if registration.deploy_type == "connect" else "SERVE"
    registered = await server.submit(RegisterApp(registration=registration, method=method))
    assert isinstance(registered, Registered)
    return registered


def _check_expression(text: str) -> None:
    compile_expression(text)


async def note_error(server: Server, registration: Registration, reason: str) -> None:
    """Show on the app why its newest registration was refused; what it registered before stays."""
    app_id = app_uuid(registration.app_name)
    now = server.clock.now()
    known = server.shard.state.apps.get(app_id)
    if known is not None:
        row = known._replace(error=reason, synced_at=now)
    else:
        row = AppRow(
            app_id,
            registration.app_name,
            registration.url,
            registration.sdk,
            registration.framework,
            registration.app_version,
            "SERVE",
            "",
            reason,
            now,
            now,
            None,
        )
    await server.submit(PutApp(app=row))


async def remove(server: Server, scope: Scope, send: Send) -> None:
    """Forget the app with the URL given as `url`."""
    url = (parse_qs(scope["query_string"].decode("latin-1")).get("url") or [""])[0]
    wanted = normalize_app_url(url) if url else ""
    for app in server.shard.state.apps.values():
        if app.archived_at is None and app.url in (url, wanted):
            await server.submit(RemoveApp(app_id=app.id))
            await respond(send, 200, b'{"ok":true}\n', TEXT_JSON)
            return
    raise RequestError(404, f"App not found: {url}")
