"""Requests and answers as adapters of web frameworks give and take them, and how the SDK names itself in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from urllib.parse import parse_qsl, urlsplit

import msgspec

import perdure

LANGUAGE = "perdure-py"
SDK = f"{LANGUAGE}:v{perdure.__version__}"
REQUEST_VERSION = "2"
"""Version of the execution protocol that this SDK speaks."""
MAX_BODY = 64 * 1024 * 1024
"""Longest request that adapters need to read, in bytes; a call with its steps has at most some MiB."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request as adapters give it: header names in lower case, `url` with host and query."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))


class Response(msgspec.Struct, frozen=True, gc=False):
    """An answer. With a `stream` its chunks are the body, and `body` is empty."""

    status: int
    headers: dict[str, str]
    body: bytes
    stream: AsyncIterator[bytes] | None = None
