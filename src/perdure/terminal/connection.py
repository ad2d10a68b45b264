"""One HTTP request at a time, with the errors that a person can do something about."""

from __future__ import annotations

import http.client
import socket
import ssl
from urllib.parse import urlsplit

import msgspec

from perdure.terminal.failures import TerminalError, Unavailable, Unreachable, WrongKey

TIMEOUT_S = 60.0
"""How long an answer may take. Those of the server itself take milliseconds."""

NO_SIGNING_KEY = "The server asks for its signing key; give it with --signing-key or PERDURE_SIGNING_KEY."
WRONG_SIGNING_KEY = (
    "The server knows another signing key; check --signing-key and PERDURE_SIGNING_KEY against "
    "what it was started with."
)


_MARK = "X-Inngest-Server-Kind"
"""A header of every answer. One without it comes from somebody else."""


class Answer(msgspec.Struct):
    """An answer of the server, whatever its status."""

    status: int
    body: bytes

    def error(self) -> str:
        """What the server says of a failure: its own sentence, or the status."""
        try:
            return msgspec.json.decode(self.body, type=_Error).error or f"HTTP {self.status}"
        except msgspec.MsgspecError:
            return f"HTTP {self.status}"


class _Error(msgspec.Struct):
    error: str = ""


class Connection:
    """Where the server is, and the bearer token for it. Connects anew for each request."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        self.url = url
        self._token = token
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._prefix = parts.path.rstrip("/")

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send a request.

        Raises `Unreachable` without an answer, `WrongKey` if the bearer token is refused, `Unavailable` if the
        server cannot do it now, and `TerminalError` if it is no Perdure.
        """
        headers = {"User-Agent": "perdure"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connect()
        try:
            connection.request(method, self._prefix + path, body, headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.read())
            ours = response.headers.get(_MARK) is not None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self.url, _reason(error)) from None
        finally:
            connection.close()
        if not ours and answer.status < 500:
            raise self.stranger()
        if answer.status == 401 and not path.startswith("/e/"):
            raise WrongKey(NO_SIGNING_KEY if self._token is None else WRONG_SIGNING_KEY)
        if answer.status >= 500:
            raise Unavailable(f"The server could not answer: {answer.error()}")
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S)
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)

    def stranger(self) -> TerminalError:
        """For an answer that no Perdure gives."""
        return TerminalError(
            f"What answers at {self.url} is no Perdure server, or one of another version; check --url and PERDURE_URL."
        )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {TIMEOUT_S:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, ConnectionError | http.client.RemoteDisconnected):
        return "the connection broke off"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "what it sent is not HTTP"
