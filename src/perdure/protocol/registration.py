"""Registration: an app says which functions it has, and where they are called.

It does so in the body of `POST /fn/register`, or in-band, in its answer to the server's PUT. Both bodies are
read by the same code: SDKs spell the fields now with capitals in the middle, now with underscores, now in
lower case.

A payload with mistakes is refused as a whole, with all its mistakes at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import msgspec

from perdure.errors import RequestError
from perdure.protocol.function_rules import load_function, read_function
from perdure.protocol.functions import FunctionConfig
from perdure.protocol.payloads import (
    TOO_DEEP,
    json_string,
    nests_too_deeply,
    unquoted,
    valid_utf8,
    without_lone_surrogates,
)
from perdure.protocol.problems import Problem
from perdure.protocol.syncs import SyncOutcome, interpret_sync_answer
from perdure.protocol.urls import StepUrl, normalize_app_url

# What a server needs for registration is reached from here, whichever file it is written in.
__all__ = [
    "FunctionConfig",
    "Problem",
    "Registration",
    "RegistrationError",
    "StepUrl",
    "SyncOutcome",
    "interpret_sync_answer",
    "kind_mismatch",
    "load_function",
    "normalize_app_url",
    "read_registration",
    "register_answer",
    "register_error",
]

INVALID_FUNCTIONS = "At least one function is invalid"
NO_APP_ID = "App ID required"
SDK_DENIED = "sdk_version_denied"

# JavaScript SDKs with a known security hole.
_FIRST_DENIED, _FIRST_ALLOWED = (3, 22, 0), (3, 54, 0)
_JS_VERSION = re.compile(r"(?:inngest-)?js:v?(\d+)\.(\d+)\.(\d+)")


class Registration(msgspec.Struct, frozen=True):
    """What an app says of itself.

    `url` is normalised. `sdk` reads `js:v4.24.0`; `version` is that of the protocol. `deploy_type` is `ping`
    or `connect`. `checksum` is the same for the same payload: the SHA-256, in hex, without what changes by
    itself.
    """

    url: str
    app_name: str
    sdk: str = ""
    framework: str = ""
    platform: str = ""
    version: str = ""
    app_version: str = ""
    deploy_type: str = "ping"
    deploy_id: str = ""
    idempotency_key: str = ""
    functions: tuple[FunctionConfig, ...] = ()
    capabilities: dict[str, str] = {}
    checksum: str = ""

    @property
    def sdk_language(self) -> str:
        """`js`, `py`, `go`; empty if the app does not say."""
        return self.sdk.partition(":")[0].removeprefix("inngest-")

    @property
    def sdk_version(self) -> str:
        """The SDK's version without the `v`; empty if the app does not say."""
        return self.sdk.partition(":")[2].removeprefix("v")


class RegistrationError(RequestError):
    """A registration that cannot be taken; always answered with status 400.

    `problems` are all mistakes of the functions. `registration` is what could be read all the same, without
    functions: the app is shown with the error. `bare` errors are answered with their text alone.
    """

    def __init__(
        self,
        message: str,
        code: str | None = None,
        problems: tuple[Problem, ...] = (),
        registration: Registration | None = None,
        *,
        bare: bool = False,
    ) -> None:
        data = [msgspec.to_builtins(problem) for problem in problems] or None
        super().__init__(400, _with_problems(message, problems), code, data)
        self.problems = problems
        self.registration = registration
        self.bare = bare

    @property
    def reason(self) -> str:
        """What is wrong, with each problem on a line of its own."""
        return self.message


def _with_problems(message: str, problems: tuple[Problem, ...]) -> str:
    """Some SDKs show a person the text of the error only, so all problems stand in it."""
    lines = [f"- {problem.function or 'a function'}: {problem.message}" for problem in problems]
    return "\n".join([f"{message}:", *lines]) if lines else message


_FIELDS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])

# What an app may send anew with every registration although nothing has changed.
_UNSTABLE = frozenset(("featureobservations", "deployid", "idempotencykey"))


def read_registration(
    body: bytes,
    *,
    check_expression: Callable[[str], None],
    check_cron: Callable[[str], None],
    fallback_url: str | None = None,
) -> Registration:
    """The registration in `body`, of `POST /fn/register` or of an in-band answer.

    `check_expression` raises `ExpressionError`, and `check_cron` ValueError, for what does not compile.
    `fallback_url` stands in for a missing `url`. Raises `RegistrationError`.
    """
    fields = _read_fields(body)
    registration = _read_app(fields, fallback_url)
    _refuse_denied_sdk(registration)
    functions, problems = _read_functions(fields.get("functions"), check_expression, check_cron)
    if problems:
        raise RegistrationError(INVALID_FUNCTIONS, None, tuple(problems), registration)
    if not registration.url:
        url = normalize_app_url(functions[0].url) if functions else ""
        if not url:
            raise RegistrationError(
                "Invalid request: url is missing; it must be the URL at which the app is served", bare=True
            )
        registration = msgspec.structs.replace(registration, url=url)
    return msgspec.structs.replace(registration, functions=tuple(functions))


def _read_fields(body: bytes) -> dict[str, bytes]:
    """The fields that are there, by name in lower case."""
    body = without_lone_surrogates(valid_utf8(body))
    if nests_too_deeply(body):
        raise RegistrationError(f"Invalid request: {TOO_DEEP}", bare=True)
    try:
        fields = _FIELDS.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RegistrationError(f"Invalid request: {error}", bare=True) from None
    return {name.lower(): bytes(value) for name, value in fields.items() if bytes(value) != b"null"}


def _read_app(fields: dict[str, bytes], fallback_url: str | None) -> Registration:
    def text(*names: str) -> str:
        for name in names:
            value = unquoted(fields.get(name, b""))
            if value:
                return value.decode()
        return ""

    app_name = text("appname", "app_id")
    if not app_name.strip():
        raise RegistrationError(NO_APP_ID)
    sdk = text("sdk")
    if not sdk and text("sdk_language"):
        sdk = f"{text('sdk_language')}:v{text('sdk_version').removeprefix('v')}"
    headers = _strings(fields.get("headers"))
    return Registration(
        url=normalize_app_url(text("url") or fallback_url or ""),
        app_name=app_name,
        sdk=sdk,
        framework=text("framework"),
        platform=text("platform") or headers.get("platform", ""),
        version=text("v"),
        app_version=text("appversion", "app_version"),
        deploy_type=text("deploytype") or "ping",
        deploy_id=text("deployid"),
        idempotency_key=text("idempotencykey"),
        capabilities=_strings(fields.get("capabilities")),
        checksum=_checksum(fields),
    )


def _strings(raw: bytes | None) -> dict[str, str]:
    """The string values of an object; nothing if it is none."""
    try:
        values = _FIELDS.decode(raw) if raw is not None else {}
    except msgspec.DecodeError:
        return {}
    texts = ((name, unquoted(bytes(value))) for name, value in values.items())
    return {name: text.decode() for name, text in texts if text is not None}


def _checksum(fields: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(fields.keys() - _UNSTABLE):
        digest.update(b"%b:%b\n" % (name.encode(), fields[name]))
    return digest.hexdigest()


def _refuse_denied_sdk(registration: Registration) -> None:
    match = _JS_VERSION.match(registration.sdk)
    if match is None:
        return
    version = tuple(int(number) for number in match.groups())
    if _FIRST_DENIED <= version < _FIRST_ALLOWED:
        raise RegistrationError(
            f"The app uses version {registration.sdk_version} of the Inngest JavaScript SDK, which has a known "
            "security hole (CVE-2026-42047). Upgrade the package inngest to 3.54.0 or later, and register again.",
            SDK_DENIED,
            registration=registration,
        )


def _read_functions(
    raw: bytes | None, check_expression: Callable[[str], None], check_cron: Callable[[str], None]
) -> tuple[list[FunctionConfig], list[Problem]]:
    if raw is None:
        return [], []
    try:
        items = _LIST.decode(raw)
    except msgspec.DecodeError:
        raise RegistrationError("Invalid request: functions must be an array of objects", bare=True) from None
    functions: list[FunctionConfig] = []
    problems: list[Problem] = []
    slugs: set[str] = set()
    for item in items:
        config, found = read_function(bytes(item), check_expression, check_cron)
        problems += found
        if config.id and config.id in slugs:
            message = (
                f"id is {config.id!r}, as that of another function of the app; give each an id of its own."
            )
            problems.append(Problem(config.id, "id", config.id, message, "config_invalid"))
        slugs.add(config.id)
        functions.append(config)
    return functions, problems


def kind_mismatch(own_kind: str, expected: str) -> RegistrationError:
    """The app expects another kind of server (`dev` or `cloud`) than this one."""
    return RegistrationError(
        f"Expected server kind {own_kind}, got {expected}", "server_kind_mismatch", bare=True
    )


def register_answer(*, modified: bool, sync_id: str, app_id: str) -> bytes:
    """The body of a successful registration."""
    return b'{"ok":true,"modified":%b,"sync_id":%b,"app_id":%b}' % (
        b"true" if modified else b"false",
        json_string(sync_id),
        json_string(app_id),
    )


def register_error(error: RequestError) -> bytes:
    """The body of a refused registration; `data` lists the problems of its functions."""
    if isinstance(error, RegistrationError) and error.bare:
        return msgspec.json.encode({"error": error.message})
    body: dict[str, object] = {"error": error.message, "status": error.status, "data": error.data}
    if error.code is not None:
        body["code"] = error.code
    return msgspec.json.encode(body)
