"""Calls that our own small client does not carry: TLS, and addresses that are unusual in any way. aiohttp does these.

The library is imported on first need, in a thread, because most servers of a development machine never need it.
Redirects, decoding and limits are ours on this way too, so an answer does not depend on how it came.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from typing import Any

from perdure.protocol.calls import Call, CallFailure
from perdure.transports.http_answer import MAX_HEADER_BYTES
from perdure.transports.http_body import BodyReader
from perdure.transports.http_budget import ReadBudget
from perdure.transports.http_connect import describe_connect_error, open_socket
from perdure.transports.http_request import name_host, sendable_headers

_MAX_HEADERS = 1000
_PIECE = 64 * 1024

Fetched = tuple[int, dict[str, str], bytes]
"""Status, headers and body of an answer."""


class _PausableRead:
    """How the budget pauses a reader that is a coroutine."""

    def __init__(self) -> None:
        self.held = 0
        self.may_read = asyncio.Event()
        self.may_read.set()

    def pause(self) -> None:
        self.may_read.clear()

    def resume(self) -> None:
        self.may_read.set()


class LibraryClient:
    """Carries one request at a time for whoever calls `fetch`; connections are shared."""

    def __init__(
        self,
        *,
        tls_verify: bool,
        user_agent: str,
        budget: ReadBudget,
        connect_timeout: float,
        max_idle: float,
    ) -> None:
        self._tls_verify = tls_verify
        self._user_agent = user_agent
        self._budget = budget
        self._connect_timeout = connect_timeout
        self._max_idle = max_idle
        self._opening = asyncio.Lock()
        self._session: Any = None
        self._trust: ssl.SSLContext | bool | None = None
        self._aiohttp: Any = None

    async def fetch(self, call: Call, url: str) -> Fetched | CallFailure:
        """Send `call` to `url` and read the answer; redirects are not followed. Raises only CancelledError."""
        who = name_host(url)
        if not url.lower().startswith(("http://", "https://")):
            return CallFailure(
                "http_unreachable", f"The address of {who} begins with neither http:// nor https://."
            )
        try:
            headers = sendable_headers(call, self._user_agent)
        except ValueError as error:
            return CallFailure("http_unreachable", str(error))
        await self._open(secure=url[:6].lower() == "https:")
        try:
            return await self._exchange(call, url, who, headers)
        except (self._aiohttp.ClientError, OSError, ValueError, TypeError) as error:
            return CallFailure("http_unreachable", self._describe(error, who))

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _open(self, *, secure: bool) -> None:
        async with self._opening:
            loop = asyncio.get_running_loop()
            if self._session is None:
                self._aiohttp = await loop.run_in_executor(None, importlib.import_module, "aiohttp")
                self._session = self._new_session()
            if secure and self._trust is None:
                # Reading the system's certificates takes tens of milliseconds.
                context = await loop.run_in_executor(None, ssl.create_default_context)
                self._trust = context if self._tls_verify else False

    def _new_session(self) -> Any:
        aiohttp = self._aiohttp
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=self._max_idle, socket_factory=open_socket
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout),
            auto_decompress=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=_MAX_HEADERS,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def _exchange(
        self, call: Call, url: str, who: str, headers: list[tuple[str, str]]
    ) -> Fetched | CallFailure:
        yarl = importlib.import_module("yarl")
        # What is fit for the wire goes as it is; only addresses with other characters are quoted.
        address = yarl.URL(url, encoded=url.isascii() and url.isprintable() and " " not in url)
        request = self._session.request(
            call.method,
            address,
            data=call.body or None,
            headers=headers,
            allow_redirects=False,
            ssl=True if self._trust is None else self._trust,
        )
        async with request as response:
            return await self._read(call, response, who)

    async def _read(self, call: Call, response: Any, who: str) -> Fetched | CallFailure:
        headers = {name.lower(): value for name, value in response.headers.items()}
        body = BodyReader(who, call.max_answer)
        reader = _PausableRead()
        if call.method != "HEAD" and response.status not in (204, 304):
            body.expect(headers)
        try:
            while body.fault is None:
                await reader.may_read.wait()
                piece = await response.content.read(_PIECE)
                if not piece:
                    break
                body.add(piece)
                self._budget.hold(reader, body.size)
            answer = body.finish()
        finally:
            self._budget.free(reader)
        return body.fault or (response.status, headers, answer)

    def _describe(self, error: Exception, who: str) -> str:
        aiohttp = self._aiohttp
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            reason = getattr(error.certificate_error, "verify_message", None) or "it could not be verified"
            return f"The certificate of {who} was not accepted: {reason}."
        if isinstance(error, aiohttp.ClientSSLError):
            return f"No TLS connection to {who}: {getattr(error.os_error, 'reason', None) or 'the handshake failed'}."
        if isinstance(error, aiohttp.ClientConnectorError):
            return describe_connect_error(error.os_error, who)
        if isinstance(error, TimeoutError):
            return f"No connection to {who} within {self._connect_timeout:g} s."
        if isinstance(error, aiohttp.ClientPayloadError):
            return f"{who} closed the connection within an unfinished answer."
        if isinstance(error, aiohttp.ClientResponseError):
            return f"{who} answered with something that is not HTTP."
        if isinstance(error, aiohttp.InvalidURL | ValueError | TypeError):
            return f"The address of {who} cannot be understood."
        return f"{who} closed the connection before it answered."
