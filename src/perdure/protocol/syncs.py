"""Syncs: the server PUTs to an app's URL, and the app registers in turn. What came of it, from the app's
answer.

Each failure has one of the protocol's words and a sentence for the person who looks at the app: what is
wrong, and how to mend it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from perdure.protocol.calls import START_THE_APP, CallAnswer, CallFailure
from perdure.protocol.payloads import unquoted, valid_utf8

SYNC_KIND_HEADER = "x-inngest-sync-kind"
IN_BAND = "in_band"
OUT_OF_BAND = "out_of_band"
SDK_HEADER = "x-inngest-sdk"

APP_CODES = {
    "invalid_signing_key": "the app has another signing key than this server: give both the same one",
    "missing_signing_key": "the app is in cloud mode and has no signing key: set INNGEST_SIGNING_KEY, or INNGEST_DEV=1",
    "missing_branch_env_name": "the app is on a branch environment and does not name it: set INNGEST_ENV",
    "no_functions": "the app serves no functions: pass them to its serve handler",
    "invalid_function": "the app has a function that it cannot describe: look at the app's own log",
    "server_kind_mismatch": "the app expects another kind of server: set INNGEST_DEV=1 for a dev server, 0 for another",
    "sig_verification_failed": "the app could not verify the request's signature: compare the signing keys",
}
"""Words that an app may give as the reason of a refusal, and what they mean."""

_STATUS_ERRORS = {
    401: ("unauthorized", "the app refused the request: compare the signing keys of app and server"),
    403: ("forbidden", "something in front of the app forbids the request: let the server through"),
    404: ("url_not_found", "nothing is served there: check the path, which is usually /api/inngest"),
    500: ("internal_server_error", "the app failed while it answered: look at the app's own log"),
}

MAX_SHOWN = 300


class SyncOutcome(msgspec.Struct, frozen=True, gc=False):
    """What came of a sync.

    `error` is empty on success, else one of the protocol's words; `message` then says what is wrong and how
    to mend it. `kind` is `in_band` if `body` is the app's registration, `out_of_band` if the app has
    registered by a request of its own. `sdk` and `framework` are as the answer's headers name them. `refused`
    is what the app says that this server told it, if it was refused.
    """

    error: str = ""
    message: str = ""
    kind: str = OUT_OF_BAND
    body: bytes = b""
    sdk: str = ""
    framework: str = ""
    refused: str = ""


class _Body(msgspec.Struct, gc=False):
    code: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    modified: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


class _Problem(msgspec.Struct, gc=False):
    function: str = ""
    message: str = ""


_BODY: msgspec.json.Decoder[_Body] = msgspec.json.Decoder(_Body)
_REGISTERED = "Successfully registered"


def interpret_sync_answer(answer: CallAnswer | CallFailure, url: str = "") -> SyncOutcome:
    """What the app's answer to a PUT, or the lack of one, means. `url` is where the PUT went. Never raises."""
    where = url or (answer.url if isinstance(answer, CallAnswer) else "")
    if url and not _is_http(url):
        return SyncOutcome("unsupported_protocol", f"{url} cannot be synced: only http and https URLs can.")
    if isinstance(answer, CallFailure):
        return _unanswered(answer, where)
    sdk, framework = answer.headers.get(SDK_HEADER, ""), answer.headers.get("x-inngest-framework", "")
    if not 200 <= answer.status <= 299:
        error, message = _refusal(answer, where)
        return SyncOutcome(error, message, sdk=sdk, framework=framework)
    if not sdk:
        message = (
            f"{where or 'The URL'} answered with HTTP {answer.status}, but no SDK did: check that the URL is that of "
            "the app's serve handler, and that no proxy or login page stands before it."
        )
        return SyncOutcome("not_sdk", message, framework=framework)
    if answer.headers.get(SYNC_KIND_HEADER, "").lower() == IN_BAND:
        return SyncOutcome(kind=IN_BAND, body=answer.body, sdk=sdk, framework=framework)
    return SyncOutcome(sdk=sdk, framework=framework, refused=_told(answer.body))


def registered_elsewhere(url: str, port: int, outcome: SyncOutcome) -> SyncOutcome:
    """The app says that it has registered, and no registration came here; this server listens at `port`."""
    message = (
        f"{url} says that it has registered, but no registration came here: the app talks to another server. "
        f"Set INNGEST_BASE_URL (PERDURE_URL with Perdure's own SDK), or the base URL in its code, to "
        f"http://localhost:{port}."
    )
    return SyncOutcome("registered_elsewhere", message, sdk=outcome.sdk, framework=outcome.framework)


def _is_http(url: str) -> bool:
    try:
        return urlsplit(url).scheme in {"http", "https"}
    except ValueError:
        return False


def _unanswered(failure: CallFailure, where: str) -> SyncOutcome:
    subject = where or "The app"
    if failure.code == "output_too_large":
        message = f"{subject} answered with more than the server reads: {failure.message}"
        return SyncOutcome("output_too_large", message)
    why = failure.message.removesuffix(f": {START_THE_APP}.")
    return SyncOutcome(
        "unreachable",
        f"{subject} cannot be reached: {_sentence(why)} Start the app, or correct its URL.",
    )


def _sentence(text: str) -> str:
    """The text with a mark at its end, whether it brought one or not."""
    text = text.rstrip(". ")
    return text if text.endswith(("?", "!")) else f"{text}."


def _refusal(answer: CallAnswer, where: str) -> tuple[str, str]:
    """Word and sentence for an answer that is no success."""
    subject = f"{where or 'The app'} answered with HTTP {answer.status}"
    body = _read(answer.body)
    said = _text(body.message) or _text(body.error)
    if answer.status in _STATUS_ERRORS:
        error, advice = _STATUS_ERRORS[answer.status]
        code = _text(body.code)
        advice = APP_CODES.get(code, advice)
        return error, f"{subject}: {advice}.{_quoted(said)}"
    raw = answer.body[: 4 * MAX_SHOWN].decode("utf-8", "replace").strip()
    if answer.status == 400:
        code = _text(body.code) or (said if said in APP_CODES else "")
        if code in APP_CODES:
            return code, f"{subject}: {APP_CODES[code]}.{_quoted(said if said != code else '')}"
        return code or said or raw[:MAX_SHOWN] or "bad_request", f"{subject}.{_quoted(said or raw)}"
    return (
        f"http_{answer.status}",
        f"{subject}: look at the log of whatever serves that URL.{_quoted(said or raw)}",
    )


def _told(body: bytes) -> str:
    """What an app that answered with success was told by the server that refused it.

    JavaScript apps give the server's text as `message` with `modified` false; Python apps hand on the server's body.
    """
    fields = _read(body)
    error = _text(fields.error)
    if error:
        return "\n".join([error, *_problems(fields.data, error)])
    if bytes(fields.modified) != b"false":
        return ""
    message = _text(fields.message)
    return "" if message == _REGISTERED else message


def _problems(data: msgspec.Raw, told: str) -> list[str]:
    """A line for each problem of which `told` does not say it already."""
    try:
        problems = msgspec.json.decode(data, type=list[_Problem]) if bytes(data) else []
    except (msgspec.MsgspecError, RecursionError):
        return []
    lines = [f"- {problem.function or 'a function'}: {problem.message}" for problem in problems]
    return [line for line in lines if line not in told]


def _read(body: bytes) -> _Body:
    try:
        return _BODY.decode(valid_utf8(body))
    except (msgspec.DecodeError, RecursionError):
        return _Body()


def _text(raw: msgspec.Raw) -> str:
    text = unquoted(bytes(raw))
    return text.decode() if text is not None else ""


def _quoted(text: str) -> str:
    if not text:
        return ""
    return f" It said: {text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + '…'}"
