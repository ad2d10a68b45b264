"""Events as authors write them: names with types, triggers, and events to send.

`event("shop/order.created", Order)` says once what the data of an event of that name is. It triggers
functions, it makes events to send, and steps wait for it; so a handler that takes another type than the
event has is an error of the type checker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast, overload

import msgspec

from perdure.sdk import codec
from perdure.sdk.durations import Duration, Moment, duration_text, moment_ms
from perdure.sdk.errors import UsageError

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """One event: its name, its data, and what else it carries.

    To send one, only `name` and `data` are needed. `id` makes a second send of the same event start nothing
    (for 24 hours). `ts` is in ms since the epoch, by default when the server receives it.
    """

    name: str
    data: T
    id: str | None = None
    ts: int | None = None
    user: Mapping[str, Any] = field(default_factory=dict)
    v: str | None = None


class Trigger(Generic[T]):
    """What starts a function: an event, perhaps under a condition, or a schedule.

    `decode` makes the handler's argument of the event's data.
    """

    def __init__(self, name: str, annotation: Any, wire: dict[str, Any]) -> None:
        self.name = name
        self.annotation = annotation
        self.decode = codec.decoder(annotation)
        self.wire = wire

    def matches(self, name: str) -> bool:
        """Whether an event of this name may have started the function by this trigger; `*` stands for anything."""
        if "*" not in self.name:
            return name == self.name
        head, _, _ = self.name.partition("*")
        return name.startswith(head)

    def __or__(self, other: Trigger[U] | AnyOf[U]) -> AnyOf[T | U]:
        """Any of several: the handler then takes the data of each, `Order | Refund`."""
        return AnyOf((self, *other.triggers)) if isinstance(other, AnyOf) else AnyOf((self, other))


class AnyOf(Generic[T]):
    """Several triggers, any of which starts a function."""

    def __init__(self, triggers: tuple[Trigger[Any], ...]) -> None:
        self.triggers = triggers

    def __or__(self, other: Trigger[U]) -> AnyOf[T | U]:
        return AnyOf((*self.triggers, other))


class EventType(Trigger[T]):
    """Events of one name, whose data have one type. Call it with data to make an event to send."""

    def __init__(self, name: str, annotation: Any) -> None:
        super().__init__(name, annotation, {"event": name})

    def __call__(
        self,
        data: T,
        *,
        id: str | None = None,
        ts: Moment | int | None = None,
        user: Mapping[str, Any] | None = None,
        v: str | None = None,
    ) -> Event[T]:
        """An event of this name, ready to be sent."""
        when = ts if ts is None or isinstance(ts, int) else moment_ms(ts, f"ts of {self.name}")
        return Event(self.name, data, id, when, dict(user or {}), v)

    def when(self, expression: str) -> Trigger[T]:
        """A trigger for those of these events that meet a condition, such as `event.data.total > 10`."""
        return Trigger(self.name, self.annotation, {"event": self.name, "expression": expression})

    def __repr__(self) -> str:
        return f"event({self.name!r}, {getattr(self.annotation, '__name__', self.annotation)})"


@overload
def event(name: str) -> EventType[dict[str, Any]]: ...
@overload
def event(name: str, type: type[T]) -> EventType[T]: ...
def event(name: str, type: Any = dict[str, Any]) -> EventType[Any]:
    """Events called `name`, whose data are of `type`.

    The type is a pydantic model, a dataclass, a TypedDict, a msgspec Struct, or left out for a plain dict. An
    object of a class that is bound to one name can be sent as it is: `await app.send(Order(...))`.
    """
    if not name:
        raise UsageError('An event needs a name, such as "shop/order.created".')
    made: EventType[Any] = EventType(name, type)
    if isinstance(type, _CLASS) and type not in _BUILTIN:
        _NAMES.setdefault(type, set()).add(name)
    return made


def cron(
    schedule: str, *, timezone: str | None = None, jitter: Duration | None = None
) -> Trigger[dict[str, Any]]:
    """A schedule of five fields, such as `"0 9 * * 1-5"`, in a time zone such as `"Europe/Paris"` (default UTC).

    `jitter` moves each start by up to that long (1 second to 5 minutes), so that not everything starts at once.
    """
    text = f"TZ={timezone} {schedule}" if timezone else schedule
    wire: dict[str, Any] = {"cron": text}
    if jitter is not None:
        wire["jitter"] = duration_text(jitter, f"jitter of cron({schedule!r})")
    return Trigger("inngest/scheduled.timer", dict[str, Any], wire)


_CLASS = type
_BUILTIN = (dict, list, str, int, float, bool)
_NAMES: dict[type, set[str]] = {}


def as_event(value: object) -> Event[Any]:
    """What was given to be sent, as an event. Raises UsageError if its name cannot be told."""
    if isinstance(value, Event):
        return value
    names = _NAMES.get(type(value))
    if names is not None and len(names) == 1:
        return Event(next(iter(names)), value)
    if names:
        raise UsageError(
            f"{type(value).__qualname__} is the data of several events ({', '.join(sorted(names))}). Say which: call "
            "the event's type with it, as in app.send(order_created(data))."
        )
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        fields = {key: part for key, part in value.items() if key in _FIELDS}
        return Event(**{"data": {}, **fields})
    raise UsageError(
        f"A {type(value).__qualname__} cannot be sent, since no event was declared with that type. Declare it, "
        f'event("some/name", {type(value).__qualname__}), or send perdure.Event("some/name", data).'
    )


_FIELDS = frozenset(("name", "data", "id", "ts", "user", "v"))


def event_json(one: Event[Any]) -> bytes:
    """An event as it is sent."""
    if not one.name:
        raise UsageError("An event has no name.")
    wire: dict[str, Any] = {
        "name": one.name,
        "data": msgspec.Raw(codec.encode(one.data, f"The data of the event {one.name}")),
    }
    if one.id is not None:
        wire["id"] = one.id
    if one.ts is not None:
        wire["ts"] = one.ts
    if one.user:
        wire["user"] = msgspec.Raw(codec.encode(dict(one.user), f"The user of the event {one.name}"))
    if one.v is not None:
        wire["v"] = one.v
    return msgspec.json.encode(wire)


class _Wire(msgspec.Struct, gc=False):
    name: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")
    id: str | None = None
    ts: int | None = None
    user: msgspec.Raw = msgspec.Raw(b"{}")
    v: str | None = None


_READ: msgspec.json.Decoder[_Wire] = msgspec.json.Decoder(_Wire)


def read_event(raw: bytes, decode: codec.Decode) -> Event[Any]:
    """An event that the server sent, its data by `decode`."""
    wire = _READ.decode(raw)
    user = codec.plain(bytes(wire.user)) or {}
    return Event(
        wire.name, decode(bytes(wire.data)), wire.id, wire.ts, cast("Mapping[str, Any]", user), wire.v
    )
