"""HTTP by hand, so that a test can send what no library would: a body in slow pieces, cut short, or of a wrong length."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httptools

PATIENCE_S = 5.0


class Hang(AssertionError):
    """The server neither answered nor closed the connection in time."""


@dataclass
class Answer:
    """What came back; `status` is 0 if the server closed the connection without a word."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent: int
    """Bytes of the body that had been sent when the answer came."""


class _Reader:
    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""
        self.done = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True


def request(
    url: str,
    head: bytes,
    pieces: Iterable[bytes] = (),
    *,
    then_close: bool = False,
    patience: float = PATIENCE_S,
) -> Answer:
    """Send a head (request line and headers, without the empty line) and a body piece by piece; read the answer.

    Stops sending as soon as an answer has come. `then_close` shuts the sending side after the last piece. Raises
    `Hang` if `patience` seconds pass after the last piece.
    """
    host, port = url.removeprefix("http://").split(":")
    reader = _Reader()
    parser: Any = httptools.HttpResponseParser(reader)
    sent = 0
    with socket.create_connection((host, int(port)), timeout=patience) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.sendall(head + b"\r\n\r\n")
            for piece in pieces:
                if select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(piece)
                sent += len(piece)
            if then_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        end = time.monotonic() + patience
        while not reader.done:
            left = end - time.monotonic()
            if left <= 0 or not select.select([connection], [], [], left)[0]:
                raise Hang(f"no answer within {patience:g} s to {head[:200]!r}")
            try:
                data = connection.recv(65536)
            except OSError:
                break
            if not data:
                break
            parser.feed_data(data)
    status = parser.get_status_code() if reader.headers or reader.done else 0
    return Answer(int(status), reader.headers, reader.body, sent)


def chunked(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """Pieces as HTTP/1.1 chunks, with the last one."""
    for piece in pieces:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
