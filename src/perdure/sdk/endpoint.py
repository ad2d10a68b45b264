"""The server's requests to an app, and the answers: one core for every web framework.

GET says what is served here, PUT tells the server of the functions, POST calls one of them. Adapters turn a
framework's request into a `Request`, and the `Response` into what the framework sends.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from perdure.protocol import signing
from perdure.protocol.syncs import IN_BAND, OUT_OF_BAND, SYNC_KIND_HEADER
from perdure.sdk import calling, introspection, world
from perdure.sdk.app import App
from perdure.sdk.errors import UsageError
from perdure.sdk.exchange import REQUEST_VERSION, SDK, Request, Response
from perdure.sdk.reply import Reply

log = logging.getLogger("perdure")

BEAT_S = 3.0
"""A streamed answer sends a space this often until it is there, in seconds."""


class Endpoint:
    """Answers for one app in one web framework."""

    def __init__(self, app: App, framework: str, *, streaming: bool = False) -> None:
        self.app = app
        self.framework = framework
        self.streaming = streaming
        self._headers = {
            "content-type": "application/json",
            "x-inngest-sdk": SDK,
            "x-inngest-framework": framework,
            "x-inngest-req-version": REQUEST_VERSION,
        }
        if app.settings.env:
            self._headers["x-inngest-env"] = app.settings.env

    async def handle(self, request: Request) -> Response:
        """Answer a request. Never raises, but for cancellation."""
        try:
            if request.method == "POST":
                return await self._post(request)
            if request.method == "PUT":
                return await self._put(request)
            if request.method == "GET":
                return self._get(request)
        except UsageError as error:
            return self._problem(request, 400, "invalid_request", str(error))
        except Exception as error:
            log.exception("A request to the app %s could not be answered", self.app.name)
            return self._problem(request, 500, "internal_server_error", f"{type(error).__name__}: {error}")
        return self._problem(request, 405, "method_not_allowed", f"{request.method} is not known here.")

    def key_of(self, request: Request) -> str | None:
        """The signing key by which a request is signed, None if by none of them."""
        header = request.headers.get("x-inngest-signature", "")
        now_s = world.now_ms() // 1000
        return next(
            (
                key
                for key in self.app.settings.signing_keys
                if signing.verify(request.body, header, [key], now_s)
            ),
            None,
        )

    def _get(self, request: Request) -> Response:
        key = self.key_of(request)
        if key is None and not self.app.settings.dev:
            return self._unauthorized(request)
        tried = "x-inngest-signature" in request.headers
        signed = None if not tried or not self.app.settings.signing_keys else key is not None
        body = introspection.describe(self.app, self.framework, signed)
        return self._answer(200, msgspec.json.encode(body), key)

    async def _put(self, request: Request) -> Response:
        key = self.key_of(request)
        query = request.query()
        if request.headers.get(SYNC_KIND_HEADER, "") == IN_BAND and self.app.settings.in_band_sync:
            if key is None and not self.app.settings.dev:
                return self._unauthorized(request, "sig_verification_failed")
            body = introspection.in_band(self.app, self.framework, self.url_of(request))
            return self._answer(200, msgspec.json.encode(body), key, {SYNC_KIND_HEADER: IN_BAND})
        status, answer = await introspection.register(
            self.app,
            self.framework,
            self.url_of(request),
            query.get("deployId"),
            request.headers.get("x-inngest-server-kind"),
        )
        return self._answer(status, answer, key, {SYNC_KIND_HEADER: OUT_OF_BAND})

    async def _post(self, request: Request) -> Response:
        key = self.key_of(request)
        if key is None and not self.app.settings.dev:
            return self._unauthorized(request, "sig_verification_failed")
        query = request.query()
        if "probe" in query:
            known = query["probe"] == "trust"
            return (
                self._answer(200, b"null", key)
                if known
                else self._problem(
                    request, 400, "unknown_probe", f"The probe {query['probe']!r} is not known."
                )
            )
        function = self.app.functions.get(query.get("fnId", ""))
        if function is None:
            text = calling.unknown_function(self.app, query.get("fnId"))
            return self._problem(request, 404, "function_not_found", text)
        work = calling.answer_call(self.app, function, request, query.get("stepId", ""))
        if not self.streaming:
            return self._of_reply(await work, key)
        return Response(
            201, self._headers, b"", calling.beating(work, BEAT_S, lambda reply: self._wrapped(reply, key))
        )

    def _of_reply(self, reply: Reply, key: str | None) -> Response:
        return self._answer(reply.status, reply.body, key, retry_headers(reply))

    def _wrapped(self, reply: Reply, key: str | None) -> bytes:
        """A reply inside of a streamed answer."""
        answer = self._of_reply(reply, key)
        body = reply.body.decode()
        return msgspec.json.encode({"status": answer.status, "headers": answer.headers, "body": body})

    def url_of(self, request: Request) -> str:
        """The URL at which the app is served, as the server should call it."""
        parts = urlsplit(request.url)
        settings = self.app.settings
        origin = settings.serve_origin or f"{parts.scheme}://{parts.netloc}"
        kept = "&".join(
            part for part in parts.query.split("&") if part and part.partition("=")[0] not in _OWN_PARAMETERS
        )
        path = settings.serve_path or parts.path
        return f"{origin.rstrip('/')}{path}{'?' + kept if kept else ''}"

    def _answer(
        self, status: int, body: bytes, key: str | None, more: Mapping[str, str] | None = None
    ) -> Response:
        headers = {**self._headers, **(more or {})}
        keys = self.app.settings.signing_keys
        if keys and (key is not None or self.app.settings.dev):
            headers["x-inngest-signature"] = signing.sign(body, key or keys[0], world.now_ms() // 1000)
        return Response(status, headers, body)

    def _problem(self, request: Request, status: int, code: str, message: str) -> Response:
        body = {"code": code, "message": message, "name": code, "error": message}
        return self._answer(status, msgspec.json.encode(body), self.key_of(request))

    def _unauthorized(self, request: Request, code: str = "unauthorized") -> Response:
        """Tell a stranger nothing but that there is an SDK."""
        if request.headers.get("x-inngest-signature"):
            log.warning(
                "A request to %s was signed with another key than PERDURE_SIGNING_KEY and its fallback, or is older "
                "than 5 minutes; it was refused.", self.app.name,
            )  # fmt: skip
        else:
            log.warning(
                "A request to %s was not signed and was refused. If it came from a server in development, which has no "
                "key, start the app without PERDURE_SIGNING_KEY, or with PERDURE_DEV=1.", self.app.name,
            )  # fmt: skip
        headers = {"content-type": "application/json", "x-inngest-sdk-handled": "true"}
        return Response(401, headers, msgspec.json.encode({"message": "Unauthorized", "code": code}))


_OWN_PARAMETERS = frozenset(("fnId", "stepId", "deployId", "probe"))


def retry_headers(reply: Reply) -> dict[str, str]:
    """What an answer's headers say about trying again."""
    headers = {}
    if reply.no_retry is not None:
        headers["x-inngest-no-retry"] = "true" if reply.no_retry else "false"
    if reply.retry_after is not None:
        headers["retry-after"] = reply.retry_after
    return headers
