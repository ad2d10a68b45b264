"""Events as clients send them and as calls carry them.

`EventReader` turns the body of a request into `IncomingEvent`s while it arrives. Nothing of `data` and `user`
is decoded: they go from the request into the delivered event as the bytes they came in, with two exceptions.
A key `_inngest` in `data` is the server's own and is taken out, which writes the object's top level anew; and
half a surrogate pair becomes U+FFFD.

A batch is not atomic. The events ahead of the first bad one stand; that one and all behind it are refused,
and the answer says both. A body that is one object is taken only once nothing has followed it.

Two paths lead to the same events. A body that is complete and small is split by msgspec; one that is large,
or that turns out to be bad, by `raw_json.Splitter`, which keeps up with the socket and knows how far the good
events reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from perdure.errors import RequestError
from perdure.protocol import event_fields as fields_of
from perdure.protocol.event_fields import NOT_JSON, OWN_KEY, Fields, malformed
from perdure.protocol.ids import Seed, seed_ulid
from perdure.protocol.raw_json import (
    MAX_NESTING,
    NOT_EVENTS,
    Element,
    Splitter,
    is_tidy,
    kind,
    nests_too_deep,
)

MAX_EVENTS = 5000
"""Most events of one request."""

MAX_EVENT_BYTES = 3 * 1024 * 1024
"""Largest event, its whole JSON as sent."""

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Largest request body. Events that lie wholly before the cut are kept."""


INVOKE_UNREADABLE = "Unable to read post data request"

_SMALL_BODY = 64 * 1024
"""Up to this size a body is read in one go when it is complete."""

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


class IncomingEvent(msgspec.Struct, gc=False):
    """An event that was accepted.

    `internal_id` is the server's ULID, `id` the client's own or else the same ULID; `client_id` tells which.
    `ts` is in ms since the epoch. `body` is the JSON that calls carry, its keys in canonical order.
    """

    internal_id: str
    name: str
    id: str
    client_id: bool
    ts: int
    body: bytes


class InvokeRequest(msgspec.Struct, frozen=True, gc=False):
    """The body of a direct invoke. `data`, `user` and `meta` are raw JSON objects, `ts` ms since the epoch."""

    data: bytes
    user: bytes
    ts: int | None
    v: str | None
    meta: bytes | None


class _Delivered(msgspec.Struct, gc=False):
    """An event as calls carry it. The order of the fields is the canonical order of the keys."""

    data: msgspec.Raw
    id: str
    meta: msgspec.Raw | msgspec.UnsetType
    name: str
    ts: int
    user: msgspec.Raw
    v: str | msgspec.UnsetType


class _Response(msgspec.Struct, gc=False):
    ids: Sequence[str]
    status: int
    error: str | msgspec.UnsetType


_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODER = msgspec.json.Encoder()


class EventReader:
    """Reads the body of an event request, in whatever pieces it arrives.

    `feed` each piece, then call `finish`; `events` are the accepted events in input order, and `error` says
    what was wrong with the one after them, or None. Once `error` is set, nothing that follows is read, and
    the caller may stop.

    `seed` is the client's (see `ids.parse_seed`) or None, then `entropy(10)` is called for one. `now_ms` is
    the receive time. `content_type` is the header's value, only used to word an error. `max_body` is in
    bytes.
    """

    def __init__(
        self,
        seed: Seed | None,
        now_ms: int,
        entropy: Callable[[int], bytes],
        content_type: str,
        max_body: int = MAX_BODY_BYTES,
    ) -> None:
        self.events: list[IncomingEvent] = []
        self.error: RequestError | None = None
        self._seed = seed
        self._now_ms = now_ms
        self._entropy = entropy
        self._content_type = content_type
        self._max_body = max_body
        self._received = 0
        self._pieces: list[bytes] = []
        self._splitter: Splitter | None = None
        self._held: Element | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        if self.error is not None:
            return
        room = self._max_body - self._received
        self._received += len(chunk)
        if self._splitter is None and self._received <= _SMALL_BODY and len(chunk) <= room:
            self._pieces.append(chunk)
            return
        self._split(chunk[:room] if len(chunk) > room else chunk)
        if self.error is None and len(chunk) > room:
            self.error = RequestError(413, f"Request body is over the max size: Max {self._max_body} bytes")

    def finish(self) -> None:
        """The body is complete: read what is left of it."""
        if self.error is not None:
            return
        if self._splitter is None:
            if self._read_at_once(b"".join(self._pieces)):
                return
            self.events.clear()
            self._split(b"")
        self._end()

    def _read_at_once(self, body: bytes) -> bool:
        """Read a small and complete body if nothing at all is wrong with it."""
        try:
            clean = is_tidy(body) and OWN_KEY not in body
            if body[:1] == b"{":
                self._accept(body, clean, nests_too_deep(body))
                return True
            if body[:1] != b"[":
                return not body
            elements = _ARRAY.decode(body)
            if len(elements) > MAX_EVENTS:
                return False
            for element in elements:
                raw = bytes(element)
                self._accept(raw, clean, nests_too_deep(raw))
        except (RequestError, *NOT_JSON):
            return False
        return True

    def _split(self, piece: bytes) -> None:
        if self._splitter is None:
            self._splitter = Splitter(MAX_EVENT_BYTES)
            piece = b"".join([*self._pieces, piece])
            self._pieces.clear()
        try:
            for element in self._splitter.feed(piece):
                if self._splitter.single:
                    self._held = element
                else:
                    self._accept_element(element)
        except RequestError as error:
            self.error = _without_frames(error)
            return
        if self._splitter.fault is not None:
            self.error = self._fault(self._splitter)

    def _end(self) -> None:
        assert self._splitter is not None
        if self.error is not None:
            return
        rest = self._splitter.end()
        if self._splitter.fault is not None:
            reason = None if rest is None else fields_of.why_malformed(rest)
            self.error = malformed(reason) if reason else RequestError(400, self._splitter.fault)
        elif self._held is not None:
            try:
                self._accept_element(self._held)
            except RequestError as error:
                self.error = _without_frames(error)

    def _accept_element(self, element: Element) -> None:
        if len(self.events) == MAX_EVENTS:
            raise RequestError(400, f"Cannot have more than {MAX_EVENTS} events in a batch")
        if element.raw is None:
            raise _too_large(element.size)
        clean = is_tidy(element.raw) and OWN_KEY not in element.raw
        self._accept(element.raw, clean, element.deep)

    def _accept(self, raw: bytes, clean: bool, deep: bool) -> None:
        """Read one event. `clean` says that there is nothing to mend in its text."""
        if deep:
            raise malformed(f"an event is nested deeper than {MAX_NESTING} levels")
        fields = fields_of.read_fields(raw if clean else fields_of.tidied(raw))
        if self._seed is None:
            self._seed = Seed(self._now_ms, self._entropy(10))
        internal_id = seed_ulid(self._seed, len(self.events) + 1)
        self.events.append(_accepted(fields, clean, internal_id, self._now_ms))

    def _fault(self, splitter: Splitter) -> RequestError:
        fault = splitter.fault or NOT_EVENTS
        if fault == NOT_EVENTS and self._content_type.split(";")[0].strip().lower() in _FORMS:
            fault += "; a form cannot carry events"
        return RequestError(400, fault)


def _without_frames(error: RequestError) -> RequestError:
    """Kept with its traceback, an error keeps the reader whose frames it came through, which keeps the error."""
    error.__traceback__ = None
    return error


def event_response(ids: Sequence[str], error: RequestError | None) -> tuple[int, bytes]:
    """Status and JSON body of the answer: ids of the accepted events in input order, and what was wrong then."""
    if error is None:
        return 200, _ENCODER.encode(_Response(ids, 200, msgspec.UNSET))
    return error.status, _ENCODER.encode(_Response(ids, error.status, error.message))


def internal_event(
    name: str,
    data: bytes,
    internal_id: str,
    event_id: str,
    ts: int,
    user: bytes = b"{}",
    meta: bytes | None = None,
    v: str | None = None,
) -> IncomingEvent:
    """An event that the server makes itself; reserved names are allowed.

    `data`, `user` and `meta` are raw JSON objects.
    """
    body = _ENCODER.encode(
        _Delivered(
            msgspec.Raw(data),
            event_id,
            msgspec.UNSET if meta is None else msgspec.Raw(meta),
            name,
            ts,
            msgspec.Raw(user),
            msgspec.UNSET if v is None else v,
        )
    )
    return IncomingEvent(internal_id, name, event_id, event_id != internal_id, ts, body)


def read_invoke(body: bytes) -> InvokeRequest:
    """Read the body of a direct invoke: an event without a name.

    Raises RequestError 400: `Unable to read post data request` if the body is not one JSON object, and the
    texts of the event API if it is too large or one of its fields is wrong.
    """
    if len(body) > MAX_EVENT_BYTES:
        raise _too_large(len(body))
    if nests_too_deep(body) or kind(body.lstrip(b" \t\r\n")) != "an object":
        raise RequestError(400, INVOKE_UNREADABLE)
    try:
        raw = fields_of.tidied(body)
    except RequestError:
        raise RequestError(400, INVOKE_UNREADABLE) from None
    if fields_of.why_malformed(raw) is not None:
        raise RequestError(400, INVOKE_UNREADABLE)
    fields = fields_of.read_fields(raw)
    return InvokeRequest(
        data=bytes(fields_of.checked_data(fields.data, clean=False)),
        user=bytes(fields_of.checked_object(fields.user, "user")),
        ts=fields_of.checked_ts(fields.ts) if fields.ts else None,
        v=fields.v or None,
        meta=fields_of.checked_meta(fields.meta),
    )


def _accepted(fields: Fields, clean: bool, internal_id: str, now_ms: int) -> IncomingEvent:
    """The event that a client's fields make. Raises RequestError if they do not make one."""
    name = fields_of.checked_name(fields.name)
    ts = fields_of.checked_ts(fields.ts) if fields.ts else now_ms
    event_id = fields_of.checked_id(fields.id) if fields.id else internal_id
    meta = fields_of.checked_meta(fields.meta)
    delivered = _Delivered(
        fields_of.checked_data(fields.data, clean),
        event_id,
        msgspec.UNSET if meta is None else msgspec.Raw(meta),
        name,
        ts,
        fields_of.checked_object(fields.user, "user"),
        fields.v or msgspec.UNSET,
    )
    return IncomingEvent(internal_id, name, event_id, bool(fields.id), ts, _ENCODER.encode(delivered))


def _too_large(size: int) -> RequestError:
    return RequestError(400, f"Event is over the max size: Max {MAX_EVENT_BYTES} bytes / Size {size} bytes")
