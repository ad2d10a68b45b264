"""What an app answers, read from the bytes of one connection. No I/O here.

Parsing is llhttp's, in its strict mode. What is decided here is when an answer may be believed and whether anything can
follow it on the same connection, because a mistake in either gives a caller the answer to somebody else's question. An
answer counts when its framing says that it is whole: Content-Length reached, last chunk seen, or, for an answer without
either, an orderly end of the stream. Anything else is `http_unreachable`.
"""

from __future__ import annotations

from typing import Any

import httptools

from perdure.protocol.calls import CallFailure
from perdure.transports.http_body import BodyReader

MAX_HEADER_BYTES = 64 * 1024
"""Most bytes of headers, trailers included, that an answer may have. Of what cannot be counted before it is whole (a
single header, a chunk extension) it is noticed one read later at most."""

_TLS_ALERT = b"\x15\x03"
_MAX_KNOWN_NAMES = 1000
_header_names: dict[bytes, str] = {}


class AnswerReader:
    """Reads one answer after another.

    `body` is None until the answer is whole; `fault` says why there will be none. `headers` is None until they are
    complete. `last` is whether nothing may follow on the connection.
    """

    __slots__ = (
        "_header_bytes",
        "_lines",
        "_no_body",
        "_parser",
        "_pieces",
        "_unparsed",
        "_until_end",
        "_who",
        "body",
        "fault",
        "headers",
        "last",
        "status",
    )

    def __init__(self, who: str) -> None:
        self._who = who
        self._parser: Any = httptools.HttpResponseParser(self)
        self.expect(no_body=False, max_answer=0)

    def expect(self, *, no_body: bool, max_answer: int) -> None:
        """Make ready for the answer to a request. `no_body`: the request was a HEAD. `max_answer` is in bytes."""
        self.status = 0
        self.headers: dict[str, str] | None = None
        self.body: bytes | None = None
        self.fault: CallFailure | None = None
        self.last = False
        self._no_body = no_body
        self._pieces = BodyReader(self._who, max_answer)
        self._lines: dict[str, str] = {}
        self._header_bytes = 0
        self._unparsed = 0
        self._until_end = False

    @property
    def size(self) -> int:
        """How many bytes of the body are held."""
        return self._pieces.size

    def feed(self, data: bytes) -> bool:
        """Take what arrived; True if that ended the answer, well (`body`) or not (`fault`)."""
        self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fault = self._unreachable("switched to another protocol instead of answering")
        except httptools.HttpParserError as error:
            self.last = True
            if self.body is None and self.fault is None:
                self.fault = self._not_http(data, error)
        if self._header_bytes > MAX_HEADER_BYTES or (self._unparsed > MAX_HEADER_BYTES and self.body is None):
            what = f"sent more than {MAX_HEADER_BYTES} bytes of headers in its answer"
            self.fault = self.fault or self._unreachable(what)
        return self.fault is not None or self.body is not None

    def end(self, *, orderly: bool) -> None:
        """The connection has ended: the answer is whole, if it was one that lasts until then, or never will be."""
        self.last = True
        if orderly and self._until_end:
            self._complete()
        elif self.headers is None:
            self.fault = self._unreachable("closed the connection before it answered")
        else:
            what = f"closed the connection after {self.size} bytes of an unfinished answer"
            self.fault = self._unreachable(what)

    def forget(self) -> None:
        """Let go of the parser, which knows this object and would wait for the garbage collector."""
        self._parser = None

    # ------------------------------------------------------------------ the parser's callbacks

    def on_message_begin(self) -> None:
        if self.body is not None:
            self.last = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        self._lines[_header_names.get(name) or _learn_name(name)] = text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self.body is not None:
            return
        self._unparsed = 0
        self.status = status
        headers = self.headers = self._lines
        self._lines = {}
        if self._no_body or status in (204, 304):
            if self._no_body:
                # The parser does not know that a HEAD was sent and would wait for the body.
                self.last = True
                self.body = b""
            return
        if headers:
            self._pieces.expect(headers)
            self.fault = self._pieces.fault
        coding = headers.get("transfer-encoding")
        if coding is None:
            self._until_end = "content-length" not in headers
        elif coding.strip().lower() != "chunked":
            self.fault = self._unreachable(f"answered with the transfer coding {coding[:40]!r}")

    def on_body(self, data: bytes) -> None:
        if self.body is not None:
            return
        self._unparsed = 0
        self._pieces.add(data)
        if self._pieces.fault is not None:
            self.fault = self._pieces.fault

    def on_message_complete(self) -> None:
        if self.body is not None:
            self.last = True
        elif self.headers is None:
            # Informational (1xx): the answer proper follows. What it brought still counts as headers.
            self._lines = {}
        else:
            # Asked here: the parser forgets the answer's framing right after this callback.
            self.last = not self._parser.should_keep_alive()
            self._complete()

    # ------------------------------------------------------------------ ends

    def _complete(self) -> None:
        self.body = self._pieces.finish()
        self.fault = self.fault or self._pieces.fault

    def _unreachable(self, what: str) -> CallFailure:
        return CallFailure("http_unreachable", f"{self._who} {what}.")

    def _not_http(self, data: bytes, error: Exception) -> CallFailure:
        if self.headers is not None:
            return self._unreachable(f"broke off its answer with something that is not HTTP ({error})")
        if data.startswith(_TLS_ALERT):
            return self._unreachable("speaks TLS: its address should begin with https://")
        return self._unreachable(f"answered with something that is not HTTP ({error})")


def _learn_name(name: bytes) -> str:
    lower = name.decode("latin-1").lower()
    if len(_header_names) < _MAX_KNOWN_NAMES:
        _header_names[name] = lower
    return lower
