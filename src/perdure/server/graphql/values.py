"""Values on their way in and out: times, JSON text, cursors."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TypeVar

import msgspec
from graphql import GraphQLError

from perdure.protocol.durations import format_time, parse_time

MAX_PAGE = 400
"""Most entries of a page."""

T = TypeVar("T")


def time_text(ms: int | None) -> str | None:
    """A time as RFC 3339 text."""
    return None if ms is None else format_time(ms)


def read_time(text: object, name: str) -> int | None:
    """A time argument in ms since the epoch, None if it was not given. Raises `GraphQLError` if it is none."""
    if text is None:
        return None
    try:
        return parse_time(str(text))
    except ValueError:
        raise GraphQLError(
            f"{name} is {str(text)[:60]!r}; it must be a time like 2026-01-31T12:00:00Z"
        ) from None


def read_page(first: int) -> int:
    """The size of a page. Raises `GraphQLError` if it is out of range."""
    if not 1 <= first <= MAX_PAGE:
        raise GraphQLError(f"first is {first}; it must be from 1 to {MAX_PAGE}")
    return first


def cursor(place: msgspec.Struct) -> str:
    """The opaque text of a place in a listing."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def read_cursor(text: str | None, kind: type[T]) -> T | None:
    """The place that a cursor names. Raises `GraphQLError` if the server did not make it."""
    if not text:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text), type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise GraphQLError("after is not a cursor of this listing") from None


def json_text(value: object) -> str:
    """A value as JSON text."""
    return msgspec.json.encode(value).decode()


def always(value: object) -> Callable[[object, object], object]:
    """A resolver for a field that is the same for all."""

    def resolve(_: object, __: object) -> object:
        return value

    return resolve


class Page(msgspec.Struct):
    """A page of a listing: nodes with their cursors, and where to go on."""

    nodes: list[object]
    cursors: list[str]
    has_next: bool
    has_previous: bool
    end: str | None
    """Cursor from which the listing goes on."""
    count: object = None
    """What counts the whole listing: a function without arguments."""
