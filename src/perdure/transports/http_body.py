"""The body of one answer: put together from pieces, decoded, and never larger than allowed."""

from __future__ import annotations

import importlib
import zlib
from typing import Any, Protocol

from perdure.protocol.calls import CallFailure

MAX_GZIP_MEMBERS = 100
"""A gzip body may be a chain of files (RFC 1952, 2.2); more than this is taken for an attack."""

_GZIP_WINDOW = 31
_ZLIB_WINDOW = 15
_RAW_WINDOW = -15


class Decoder(Protocol):
    """Undoes one content coding, piece by piece."""

    def decode(self, data: bytes, room: int) -> bytes:
        """Decode a piece into at most `room` + 1 bytes; more than `room` means that the rest was not decoded.

        Raises ValueError if the data is not what it claims to be.
        """

    @property
    def complete(self) -> bool:
        """Whether the data ended where its coding says that it ends."""


class GzipDecoder:
    """gzip (RFC 1952)."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_WINDOW)
        self._members = 1

    def decode(self, data: bytes, room: int) -> bytes:
        parts: list[bytes] = []
        while data:
            if self._stream.eof:
                self._members += 1
                if self._members > MAX_GZIP_MEMBERS:
                    raise ValueError("too many gzip members")
                self._stream = zlib.decompressobj(_GZIP_WINDOW)
            part = _inflate(self._stream, data, room + 1)
            parts.append(part)
            room -= len(part)
            if room < 0:
                break
            data = self._stream.unused_data
        return b"".join(parts)

    @property
    def complete(self) -> bool:
        return self._stream.eof


class DeflateDecoder:
    """deflate: zlib format (RFC 1950) as the standard says, or raw (RFC 1951) as some servers send."""

    def __init__(self) -> None:
        self._stream: Any = None

    def decode(self, data: bytes, room: int) -> bytes:
        if self._stream is None:
            # A zlib header's first byte is method 8 and a window of at most 7; no encoder starts a raw stream so.
            is_zlib = data[0] & 0x8F == 8
            self._stream = zlib.decompressobj(_ZLIB_WINDOW if is_zlib else _RAW_WINDOW)
        out = _inflate(self._stream, data, room + 1)
        if self._stream.unused_data:
            raise ValueError("data after the end")
        return out

    @property
    def complete(self) -> bool:
        return self._stream is not None and bool(self._stream.eof)


class BrotliDecoder:
    """br (RFC 7932), with the `brotli` package, 1.2 or later: earlier ones cannot bound what they put out."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def decode(self, data: bytes, room: int) -> bytes:
        parts: list[bytes] = []
        while True:
            try:
                # A Decompressor is made by an optional module whose error type has no common base but Exception.
                part = self._stream.process(data, output_buffer_limit=room + 1)
            except Exception as error:
                raise ValueError("not brotli") from error
            parts.append(part)
            room -= len(part)
            data = b""
            if room < 0 or self._stream.is_finished() or self._stream.can_accept_more_data():
                return b"".join(parts)

    @property
    def complete(self) -> bool:
        return bool(self._stream.is_finished())


def _inflate(stream: Any, data: bytes, most: int) -> bytes:
    try:
        out: bytes = stream.decompress(data, most)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return out


def find_decoder(coding: str) -> Decoder | None:
    """The decoder of a Content-Encoding value, or None if there is none for it here."""
    match coding.strip().lower():
        case "gzip" | "x-gzip":
            return GzipDecoder()
        case "deflate":
            return DeflateDecoder()
        case "br":
            return _find_brotli()
    return None


def _find_brotli() -> Decoder | None:
    try:
        stream = importlib.import_module("brotli").Decompressor()
    except (ImportError, AttributeError):
        return None
    return BrotliDecoder(stream) if hasattr(stream, "can_accept_more_data") else None


class BodyReader:
    """Collects the pieces of one body.

    `fault` is set as soon as the body cannot be accepted; from then on pieces are dropped. Neither what arrives nor
    what it decodes to may be larger than `limit` bytes, so a small answer cannot unfold into a huge one.
    """

    __slots__ = ("_arrived", "_decoder", "_kept", "_limit", "_who", "fault", "size")

    def __init__(self, who: str, limit: int) -> None:
        self.size = 0
        self.fault: CallFailure | None = None
        self._who = who
        self._limit = limit
        self._kept: bytes | bytearray = b""
        self._decoder: Decoder | None = None
        self._arrived = 0

    def expect(self, headers: dict[str, str]) -> None:
        """Take note of what the headers say about the body."""
        coding = headers.get("content-encoding")
        if coding is not None and coding not in ("", "identity"):
            self._decoder = find_decoder(coding)
            if self._decoder is None:
                text = f"The answer of {self._who} is encoded as {coding[:40]!r}, which cannot be read here."
                self.fault = CallFailure("http_unreachable", text)
        length = headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > self._limit:
            self._refuse_size()

    def add(self, data: bytes) -> None:
        """Take the next piece."""
        if self.fault is not None:
            return
        self._arrived += len(data)
        if self._arrived > self._limit:
            self._refuse_size()
            return
        if self._decoder is not None:
            try:
                data = self._decoder.decode(data, self._limit - self.size)
            except ValueError:
                self.fault = CallFailure(
                    "http_unreachable", f"The answer of {self._who} could not be decoded."
                )
                return
            if self.size + len(data) > self._limit:
                self._refuse_size()
                return
        if not self.size:
            self._kept = data
        elif isinstance(self._kept, bytearray):
            self._kept += data
        else:
            # Many pieces may be a byte long (keep-alive spaces): one growing buffer, not a list of them.
            self._kept = bytearray(self._kept)
            self._kept += data
        self.size += len(data)

    def finish(self) -> bytes:
        """The whole body. Check `fault` afterwards: a coded body may prove to be cut short."""
        if self._decoder is not None and self._arrived and not self._decoder.complete and self.fault is None:
            text = f"The answer of {self._who} was cut short within its compressed body."
            self.fault = CallFailure("http_unreachable", text)
        kept, self._kept = self._kept, b""
        return kept if isinstance(kept, bytes) else bytes(kept)

    def _refuse_size(self) -> None:
        self._kept = b""
        text = f"The answer of {self._who} is larger than the {self._limit} bytes that are read."
        self.fault = CallFailure("output_too_large", text)
