"""How a function is to be run: limits, collecting, cancelling. Each class is one option of `app.function`.

Durations are timedeltas, seconds or texts such as `"1h30m"`. Keys and conditions are CEL expressions over the
event, such as `event.data.user`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from perdure.sdk.durations import Duration, Moment, duration_text, moment_ms, moment_text
from perdure.sdk.errors import UsageError
from perdure.sdk.events import EventType


@dataclass(frozen=True, kw_only=True, slots=True)
class Concurrency:
    """At most `limit` steps at once: of this function, or for each value of `key`.

    `scope` "env" or "account" counts over all functions that use the same key; both need one. `runs` counts
    whole runs in place of steps.
    """

    limit: int
    key: str | None = None
    scope: Literal["fn", "env", "account"] = "fn"
    runs: bool = False

    def wire(self) -> dict[str, Any]:
        return _without_none({"limit": self.limit, "key": self.key, "scope": self.scope})


@dataclass(frozen=True, kw_only=True, slots=True)
class Throttle:
    """At most `limit` starts in each `period` (and `burst` at once); later ones wait."""

    limit: int
    period: Duration
    burst: int | None = None
    key: str | None = None

    def wire(self) -> dict[str, Any]:
        period = duration_text(self.period, "throttle period")
        return _without_none({"limit": self.limit, "period": period, "burst": self.burst, "key": self.key})


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """At most `limit` starts in each `period`; events beyond it start nothing."""

    limit: int
    period: Duration
    key: str | None = None

    def wire(self) -> dict[str, Any]:
        period = duration_text(self.period, "rate_limit period")
        return _without_none({"limit": self.limit, "period": period, "key": self.key})


@dataclass(frozen=True, kw_only=True, slots=True)
class Debounce:
    """One run, with the last event, once no event has come for `period`; after `timeout` at the latest."""

    period: Duration
    key: str | None = None
    timeout: Duration | None = None

    def wire(self) -> dict[str, Any]:
        timeout = None if self.timeout is None else duration_text(self.timeout, "debounce timeout")
        period = duration_text(self.period, "debounce period")
        return _without_none({"period": period, "key": self.key, "timeout": timeout})


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One run for up to `size` events, or for those that came within `timeout`. The handler takes a list.

    `when` is a condition for being batched; other events run alone, as a list of one.
    """

    size: int
    timeout: Duration
    key: str | None = None
    when: str | None = None

    def wire(self) -> dict[str, Any]:
        timeout = duration_text(self.timeout, "batch timeout")
        return _without_none({"maxSize": self.size, "timeout": timeout, "key": self.key, "if": self.when})


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel the run when an event comes.

    `match` names what must be equal in both events (`data.order_id`); `when` is a condition over `event`, the
    run's, and `async`, the cancelling one. After `timeout` the event cancels no more.
    """

    event: EventType[Any] | str
    when: str | None = None
    match: str | None = None
    timeout: Duration | Moment | None = None

    def wire(self) -> dict[str, Any]:
        name = event_name(self.event)
        condition = condition_of(self.when, self.match, f"cancel_on {name}")
        return _without_none({"event": name, "if": condition, "timeout": _timeout(self.timeout, name)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """Cancel a run that has not started within `start`, or not finished within `finish` of its start."""

    start: Duration | None = None
    finish: Duration | None = None

    def wire(self) -> dict[str, Any]:
        fields = {"start": self.start, "finish": self.finish}
        return {
            name: duration_text(value, f"timeouts {name}")
            for name, value in fields.items()
            if value is not None
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Singleton:
    """Only one run at a time, or one for each value of `key`: a new event is skipped, or cancels the old run."""

    mode: Literal["skip", "cancel"] = "skip"
    key: str | None = None

    def wire(self) -> dict[str, Any]:
        return _without_none({"mode": self.mode, "key": self.key})


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """How finished steps are reported while the function goes on.

    `steps` is how many are posted together: with 1 no finished step can be lost; with 10 a step costs a third,
    and up to 10 are run again if the process dies. `max_runtime` ends a call after that long, at the next
    step, for hosts that limit the length of a request.
    """

    steps: int = 1
    max_runtime: Duration | None = None

    def wire(self) -> dict[str, Any]:
        runtime = (
            None if self.max_runtime is None else duration_text(self.max_runtime, "checkpoint max_runtime")
        )
        return _without_none({"batch_steps": self.steps, "batch_interval": "0s", "max_runtime": runtime})


Concurrencies: TypeAlias = int | Concurrency | Sequence[Concurrency]


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "retries": ((int,), "retries=3"),
    "concurrency": (
        (int, Concurrency, list, tuple),
        'Concurrency(limit=5, key="event.data.user"), or a number',
    ),
    "throttle": ((Throttle,), 'Throttle(limit=10, period="1m")'),
    "rate_limit": ((RateLimit,), 'RateLimit(limit=10, period="1h")'),
    "debounce": ((Debounce,), 'Debounce(period="10s")'),
    "batch": ((Batch,), 'Batch(size=100, timeout="5s")'),
    "priority": ((str,), 'priority="event.data.vip ? 120 : 0"'),
    "cancel_on": ((Cancel, list, tuple), 'Cancel(refunded, match="data.id")'),
    "timeouts": ((Timeouts,), 'Timeouts(start="10s", finish="1h")'),
    "idempotency": ((str,), 'idempotency="event.data.id"'),
    "singleton": ((Singleton,), 'Singleton(key="event.data.id", mode="skip")'),
    "checkpoint": ((Checkpoint,), "Checkpoint(steps=10)"),
}


def check_options(**given: Any) -> None:
    """Raises UsageError for an argument of `app.function` that is of another kind than its option."""
    parts = [(name, value) for name, value in given.items() if value is not None]
    for several, kind in (("concurrency", Concurrency), ("cancel_on", Cancel)):
        if isinstance(given.get(several), list | tuple):
            wrong = [one for one in given[several] if not isinstance(one, kind)]
            parts += [(several, _Wrong(one)) for one in wrong]
    for name, value in parts:
        kinds, example = _KINDS[name]
        if not isinstance(value, kinds) or isinstance(value, bool):
            shown = value.value if isinstance(value, _Wrong) else value
            raise UsageError(f"{name} of app.function is given {shown!r}; write {example}.")


@dataclass(frozen=True, slots=True)
class _Wrong:
    """A part of a list that is of the wrong kind."""

    value: object


def concurrency_wire(given: Concurrencies) -> Any:
    """One or two limits as they are registered."""
    if isinstance(given, int):
        return given
    limits = [given] if isinstance(given, Concurrency) else list(given)
    if not any(limit.runs for limit in limits):
        return [limit.wire() for limit in limits]
    runs = [limit.wire() for limit in limits if limit.runs]
    return {"fn": runs, "step": [limit.wire() for limit in limits if not limit.runs]}


def event_name(event: EventType[Any] | str) -> str:
    """The name of an event that is given by its type or its name."""
    return event if isinstance(event, str) else event.name


def condition_of(when: str | None, match: str | None, what: str) -> str | None:
    """The condition that `when` or `match` stands for. Raises UsageError if both are given."""
    if when is not None and match is not None:
        raise UsageError(f"{what}: give `when` or `match`, not both.")
    return f"event.{match} == async.{match}" if match is not None else when


def _timeout(given: Duration | Moment | None, name: str) -> str | None:
    if given is None:
        return None
    if isinstance(given, datetime):
        return moment_text(moment_ms(given, f"cancel_on {name} timeout"))
    return duration_text(given, f"cancel_on {name} timeout")


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
