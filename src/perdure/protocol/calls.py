"""A call to an app and what comes back, as plain values.

A transport carries a `Call` and ends it with exactly one `CallAnswer` or `CallFailure`. What the answer
means is decided in `protocol.replies`; a transport knows HTTP, not functions.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Largest body a call may answer with (protocol limits table); more is `output_too_large`."""

CALL_TIMEOUT_S = 2 * 60 * 60.0
"""How long a function may run within one call, in seconds."""


class Call(msgspec.Struct, frozen=True, gc=False):
    """One HTTP request to an app.

    `headers` are sent as they are, in order, besides Host and Content-Length, which the transport adds.
    `timeout` is in seconds, from the start of the connection to the last byte of the answer.
    """

    url: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"
    timeout: float = CALL_TIMEOUT_S
    max_answer: int = MAX_ANSWER_BYTES


class CallAnswer(msgspec.Struct, frozen=True, gc=False):
    """A complete HTTP answer. Header names are lower case; of repeated headers the last one stands.

    `body` is already decoded (gzip, br, deflate, chunks); redirects are already followed. `url` is where
    the answer came from. `on_stored`, if given, is called once what follows from the answer is on disk.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    url: str = ""
    on_stored: Callable[[], None] | None = None


START_THE_APP = "start the app, or correct its address"
"""What to do where nothing listens; the message of such a failure ends with it."""


class CallFailure(msgspec.Struct, frozen=True, gc=False):
    """The call brought no complete answer.

    `code` is one of: `http_unreachable` (refused, reset, cut short, DNS, TLS, not HTTP), `timeout`,
    `output_too_large`, `too_many_redirects`, `cancelled` (by us), `STOPPED_RESPONDING`, or one of
    `UNDELIVERED`. `message` is one sentence for the person who reads the run.
    """

    code: str
    message: str


STOPPED_RESPONDING = "connect_worker_stopped_responding"
"""Code that says that a worker took the call, and was not heard of any more."""

UNDELIVERED = frozenset(("connect_no_healthy_connection", "connect_all_workers_at_capacity"))
"""Codes that say that no worker has taken the call: it is no attempt, and is made when there is one."""
