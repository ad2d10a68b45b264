"""What an app tells of itself: to whoever asks, and to the server so that it knows the functions."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

import perdure
from perdure.errors import PerdureError
from perdure.protocol.signing import hash_signing_key
from perdure.sdk.app import App
from perdure.sdk.exchange import LANGUAGE

SCHEMA_VERSION = "2024-05-24"
CAPABILITIES = {"in_band_sync": "v1", "trust_probe": "v1"}


def describe(app: App, framework: str, signed: bool | None) -> dict[str, Any]:
    """The answer to a GET; the whole of it only to one who has signed the request."""
    settings = app.settings
    keys = settings.signing_keys
    body: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "function_count": sum(not function.is_failure_handler for function in app.functions.values()),
        "has_event_key": settings.event_key is not None,
        "has_signing_key": bool(keys),
        "has_signing_key_fallback": len(keys) > 1,
        "mode": "dev" if settings.dev else "cloud",
    }
    if signed is not None:
        body["authentication_succeeded"] = signed
    if signed:
        body.update(_details(app, framework))
    return body


def _details(app: App, framework: str) -> dict[str, Any]:
    settings = app.settings
    keys = settings.signing_keys
    return {
        "authentication_succeeded": True,
        "api_origin": f"{settings.api_url}/",
        "app_id": app.name,
        "capabilities": CAPABILITIES,
        "env": settings.env,
        "event_api_origin": f"{settings.event_url}/",
        "event_key_hash": None
        if settings.event_key is None
        else hashlib.sha256(settings.event_key.encode()).hexdigest(),
        "framework": framework,
        "sdk_language": LANGUAGE,
        "sdk_version": perdure.__version__,
        "serve_origin": settings.serve_origin,
        "serve_path": settings.serve_path,
        "signing_key_hash": hash_signing_key(keys[0]) if keys else None,
        "signing_key_fallback_hash": hash_signing_key(keys[1]) if len(keys) > 1 else None,
    }


def _functions(app: App, url: str) -> list[dict[str, Any]]:
    return [function.config(url) for function in app.functions.values()]


def in_band(app: App, framework: str, url: str) -> dict[str, Any]:
    """The registration as the answer to the server's own request."""
    return {
        "app_id": app.name,
        "appVersion": app.version,
        "capabilities": CAPABILITIES,
        "env": app.settings.env,
        "framework": framework,
        "functions": _functions(app, url),
        "inspection": {**describe(app, framework, None), **_details(app, framework)},
        "platform": None,
        "sdk_author": "perdure",
        "sdk_language": LANGUAGE,
        "sdk_version": perdure.__version__,
        "url": url,
    }


async def register(
    app: App, framework: str, url: str, deploy_id: str | None, server_kind: str | None
) -> tuple[int, bytes]:
    """Tell the server of the functions: its status and its answer, or what kept it from answering."""
    body: dict[str, Any] = {
        "url": url,
        "v": "0.1",
        "deployType": "ping",
        "sdk": f"{LANGUAGE}:v{perdure.__version__}",
        "framework": framework,
        "appName": app.name,
        "functions": _functions(app, url),
        "headers": {"env": app.settings.env or "", "platform": ""},
        "capabilities": CAPABILITIES,
    }
    if app.version is not None:
        body["appVersion"] = app.version
    headers = {"x-inngest-framework": framework}
    if server_kind:
        headers["x-inngest-expected-server-kind"] = server_kind
    path = "/fn/register"
    if deploy_id:
        body["deployId"] = deploy_id
        path += f"?deployId={deploy_id}"
    try:
        answer = await app.api.call("POST", path, msgspec.json.encode(body), headers)
    except (OSError, TimeoutError, ValueError, PerdureError) as error:
        message = (
            f"The app {app.name} could not reach the server at {app.settings.api_url} to register: {error}. "
            "PERDURE_URL says where the server is."
        )
        return 502, msgspec.json.encode({"code": "server_unreachable", "message": message, "error": message})
    if answer.body.lstrip()[:1] == b"{":
        return answer.status, answer.body
    text = answer.body[:300].decode("utf-8", "replace").strip()
    status = answer.status if answer.status >= 400 else 502
    return status, msgspec.json.encode({"message": text, "error": text, "code": "registration_failed"})
