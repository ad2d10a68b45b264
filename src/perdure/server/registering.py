"""Registration of apps: `POST /fn/register`, `DELETE /fn/remove`."""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

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
from perdure.server.http import read_body
from perdure.shard.commands import PutApp, RegisterApp, Registered, RemoveApp
from perdure.shard.rows import CONNECT, SERVE, AppRow

log = logging.getLogger("perdure.sync")

MAX_REGISTRATION_BYTES = 16 * 1024 * 1024


def registration_routes(server: Server) -> list[Route]:
    """The routes of this module."""

    async def on_register(request: Request) -> Response:
        return await register(server, request)

    async def on_remove(request: Request) -> Response:
        return await remove(server, request)

    return [
        Route("/fn/register", on_register, methods=["POST"]),
        Route("/fn/remove", on_remove, methods=["DELETE"]),
    ]


async def register(server: Server, request: Request) -> Response:
    """Take in an app's registration. A refused one leaves the app's last good version running."""
    server.registrations += 1
    body = await read_body(request.receive, MAX_REGISTRATION_BYTES, server.intake)
    try:
        expected = request.headers.get("x-inngest-expected-server-kind")
        if expected and expected != server.config.kind:
            raise kind_mismatch(server.config.kind, expected)
        registered = await take_in(server, body)
    except RegistrationError as error:
        return Response(register_error(error), error.status, media_type="text/plain")
    answer = register_answer(
        modified=registered.modified, sync_id=server.new_uuid(), app_id=registered.app_id
    )
    return Response(answer, media_type="text/plain")


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
    registered = await server.submit(RegisterApp(registration=registration, method=_method(registration)))
    assert isinstance(registered, Registered)
    return registered


def _method(registration: Registration) -> str:
    return CONNECT if registration.deploy_type == "connect" else SERVE


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
            _method(registration),
            "",
            reason,
            now,
            now,
            None,
        )
    await server.submit(PutApp(app=row))


async def remove(server: Server, request: Request) -> Response:
    """Forget the app with the URL given as `url`."""
    url = request.query_params.get("url", "")
    wanted = normalize_app_url(url) if url else ""
    for app in server.shard.state.apps.values():
        if app.archived_at is None and url and app.url in (url, wanted):
            await server.submit(RemoveApp(app_id=app.id))
            return Response(b'{"ok":true}\n', media_type="text/plain")
    raise RequestError(404, f"App not found: {url[:300]}")
