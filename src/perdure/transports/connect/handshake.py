"""Whether a worker is let in: what its introduction must hold, in the order in which it is looked at."""

from __future__ import annotations

from collections.abc import Callable

from perdure.protocol.connect.messages import (
    AppConfiguration,
    SystemAttributes,
    WorkerConnectRequestData,
    read_extensions,
)
from perdure.protocol.connect.registration import read_slugs
from perdure.protocol.connect.wire import WireError, decode
from perdure.protocol.ids import is_ulid
from perdure.transports.connect.connection import Description, Group, group_hash

POLICY = 1008
INTERNAL = 1011
GOING_AWAY = 1001

HELLO_TIMEOUT = "connect_worker_hello_timeout"
INVALID_MESSAGE = "connect_worker_hello_invalid_msg"
INVALID_PAYLOAD = "connect_worker_hello_invalid_payload"
AUTHENTICATION_FAILED = "connect_authentication_failed"
TOO_MANY_APPS = "connect_too_many_apps_per_connection"
INVALID_FUNCTIONS = "connect_invalid_function_config"
INTERNAL_ERROR = "connect_internal_error"
CLOSING = "connect_gateway_closing"


class Refusal(Exception):
    """The worker is not let in: its socket is closed with this code and reason. `message` says more, for its author."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


def read_introduction(payload: bytes, is_token: Callable[[str], bool], max_apps: int) -> Description:
    """What a worker says of itself. Raises `Refusal`.

    `is_token` says whether a session token is one of ours and good still.
    """
    try:
        said = decode(payload, WorkerConnectRequestData)
    except WireError as error:
        raise Refusal(POLICY, INVALID_PAYLOAD, str(error)) from None
    if not is_ulid(said.connection_id):
        raise Refusal(POLICY, INVALID_PAYLOAD, "connection_id is not a ULID")
    if not said.instance_id:
        raise Refusal(POLICY, INVALID_PAYLOAD, "instance_id is empty")
    if said.auth_data is None or not is_token(said.auth_data.session_token):
        text = "the session token is not one that this server has given out, or is too old; ask for a new one"
        raise Refusal(POLICY, AUTHENTICATION_FAILED, text)
    if not said.apps:
        raise Refusal(POLICY, INVALID_PAYLOAD, "it has no apps")
    if len(said.apps) > max_apps:
        raise Refusal(POLICY, TOO_MANY_APPS, f"it has {len(said.apps)} apps; at most {max_apps} are taken")
    return _describe(said)


def _describe(said: WorkerConnectRequestData) -> Description:
    sdk = f"{said.sdk_language}:{said.sdk_version}"
    groups = {app.app_name: _group(app, sdk, said.platform or "") for app in said.apps}
    return Description(
        id=said.connection_id,
        instance_id=said.instance_id,
        sdk_language=said.sdk_language,
        sdk_version=said.sdk_version,
        platform=said.platform or "",
        framework=said.framework,
        system=said.system_attributes or SystemAttributes(),
        capabilities=said.capabilities,
        extensions=read_extensions(said.capabilities),
        limit=max(said.max_worker_concurrency or 0, 0),
        manual=said.worker_manual_readiness_ack,
        groups=groups,
    )


def _group(app: AppConfiguration, sdk: str, platform: str) -> Group:
    version = app.app_version or ""
    if not app.app_name:
        raise Refusal(POLICY, INVALID_PAYLOAD, "an app has no name")
    try:
        slugs = read_slugs(app.functions)
    except WireError as error:
        raise Refusal(POLICY, INVALID_FUNCTIONS, f"app {app.app_name}: {error}") from None
    hashed = group_hash(app.app_name, version, app.functions, sdk, platform)
    return Group(app.app_name, version, slugs, app.functions, hashed)
