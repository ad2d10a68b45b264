"""HTTP by hand: what no library would send, as a body in slow pieces, cut short, or of a wrong length."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httptools

PATIENCE_S = 5.0
CONTINUE = 100
"""The status that asks for the body; the answer comes after it."""


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
    """Collects an answer. One to a HEAD request is complete with its headers, whatever length they tell."""

    def __init__(self, *, bodiless: bool) -> None:
        self._bodiless = bodiless
        self.parser: Any = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.done = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.done = self._bodiless and self.status != CONTINUE

    def on_message_complete(self) -> None:
        self.done = self.status != CONTINUE

    def read(self, connection: socket.socket) -> bool:
        """Take what has arrived. False if that is the end."""
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.done = True
            return False
        self.parser.feed_data(data)
        return not self.done


def _readable(connection: socket.socket, seconds: float) -> bool:
    return bool(select.select([connection], [], [], max(seconds, 0))[0])


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
    reader = _Reader(bodiless=head.startswith(b"HEAD "))
    sent = 0
    with socket.create_connection((host, int(port)), timeout=patience) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.sendall(head + b"\r\n\r\n")
            for piece in pieces:
                while _readable(connection, 0) and reader.read(connection):
                    pass
                if reader.done:
                    break
                connection.sendall(piece)
                sent += len(piece)
            if then_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        end = time.monotonic() + patience
        while not reader.done:
            if not _readable(connection, end - time.monotonic()):
                raise Hang(f"no answer within {patience:g} s to {head[:200]!r}")
            reader.read(connection)
    status = 0 if reader.status == CONTINUE else reader.status
    return Answer(status, reader.headers, reader.body, sent)


def chunked(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """Pieces as HTTP/1.1 chunks, with the last one."""
    for piece in pieces:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
