"""Asking the server for a gateway, and what a worker says of itself there."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

import perdure
from perdure.protocol.connect.messages import (
    AppConfiguration,
    AuthData,
    Extensions,
    StartRequest,
    StartResponse,
    SystemAttributes,
    Timestamp,
    WorkerConnectRequestData,
)
from perdure.protocol.connect.wire import WireError, decode, encode
from perdure.sdk.app import App
from perdure.sdk.connect.setbacks import Setback, refused_start, unreachable
from perdure.sdk.exchange import LANGUAGE
from perdure.sdk.introspection import CAPABILITIES

START_PATH = "/v0/connect/start"
PROTOBUF = {"content-type": "application/protobuf"}
FRAMEWORK = "connect"
FUNCTIONS_URL = "wss://connect"
"""Stands for the address of functions that have none, as in the official SDKs."""
EXTENSIONS = Extensions(checkpoints=1, bundles=1, logs=1)
"""What this SDK adds to the protocol, with gateways that know it."""


async def ask_for_gateway(app: App, exclude: Sequence[str]) -> StartResponse:
    """Which gateway to dial; not one of the groups that have failed, if possible. Raises Setback."""
    settings = app.settings
    body = encode(StartRequest(list(exclude)))
    try:
        answer = await app.api.call("POST", START_PATH, body, PROTOBUF)
    except (OSError, TimeoutError, ValueError, EOFError) as error:
        raise unreachable(settings.api_url, error) from None
    if answer.status != 200:
        text = answer.body[:200].decode("utf-8", "replace").strip()
        raise refused_start(settings.api_url, answer.status, text, bool(settings.signing_keys))
    try:
        start = decode(answer.body, StartResponse)
    except WireError as error:
        raise Setback(f"The server at {settings.api_url} named a gateway in no known form: {error}") from None
    return start


def check_endpoint(endpoint: str) -> str:
    """A gateway's address that can be dialled. Raises Setback."""
    parts = urlsplit(endpoint)
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        raise Setback(
            f"The gateway's address {endpoint!r} must be like ws://host:8289/v0/connect or wss://…; it is what the "
            "server named, or what `gateway_url` made of it.",
            final=True,
        )
    return endpoint


def introduction(
    apps: Sequence[App], start: StartResponse, instance_id: str, max_concurrency: int | None, started_ms: int
) -> bytes:
    """The payload of WORKER_CONNECT: the apps with their functions, and the worker."""
    seconds, ms = divmod(started_ms, 1000)
    return encode(
        WorkerConnectRequestData(
            connection_id=start.connection_id,
            instance_id=instance_id,
            auth_data=AuthData(start.session_token, start.sync_token),
            capabilities=msgspec.json.encode({**CAPABILITIES, "connect": "v1", "perdure": EXTENSIONS}),
            apps=[_app(app) for app in apps],
            worker_manual_readiness_ack=True,
            system_attributes=SystemAttributes(os.cpu_count() or 0, _memory(), platform.system().lower()),
            environment=apps[0].settings.env,
            framework=FRAMEWORK,
            platform=None,
            sdk_version=f"v{perdure.__version__}",
            sdk_language=LANGUAGE,
            started_at=Timestamp(seconds, ms * 1_000_000),
            max_worker_concurrency=max_concurrency,
        )
    )


def _app(app: App) -> AppConfiguration:
    configs = [function.config(FUNCTIONS_URL, runtime="ws") for function in app.functions.values()]
    return AppConfiguration(app.name, app.version, msgspec.json.encode(configs))


def _memory() -> int:
    """All memory of the machine in bytes; 0 where that is not told."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
