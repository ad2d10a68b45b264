"""The configuration of a function, as its app registered it, typed and complete.

Durations are in milliseconds; expressions are CEL, kept as text. `protocol.function_rules` reads and checks
it.
"""

from __future__ import annotations

import msgspec

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

MAX_RETRIES = 20
"""Most retries of a step (protocol limits table). More are accepted at registration, and cut to this."""

IDEMPOTENCY_PERIOD_MS = 24 * HOUR
"""How long an idempotency key holds (protocol limits table)."""


class Trigger(msgspec.Struct, frozen=True, gc=False):
    """What starts a function: an event, perhaps only if `expression` holds, or a schedule.

    Exactly one of `event` and `cron` is set. `cron` has five or six fields, or is a word such as `@daily`,
    and may begin with `TZ=`. Each firing of a schedule is delayed by a random time of up to `jitter_ms`.
    """

    event: str | None = None
    expression: str | None = None
    cron: str | None = None
    jitter_ms: int = 0


class ConcurrencyLimit(msgspec.Struct, frozen=True, gc=False):
    """At most `limit` (1 or more) at the same time, for each value of `key`.

    `scope` is `fn`, or `env` or `account` to share one count among all functions with the same key expression
    and value.
    """

    limit: int
    key: str | None = None
    scope: str = "fn"


class RateLimit(msgspec.Struct, frozen=True, gc=False):
    """At most `limit` runs started per `period_ms`; what is over is dropped."""

    limit: int
    period_ms: int
    key: str | None = None


class Throttle(msgspec.Struct, frozen=True, gc=False):
    """At most `limit` runs started per `period_ms`, and `burst` more back to back; what is over waits."""

    limit: int
    period_ms: int
    burst: int = 0
    key: str | None = None


class Debounce(msgspec.Struct, frozen=True, gc=False):
    """Start when `period_ms` have passed without another event, at the latest `timeout_ms` after the first."""

    period_ms: int
    key: str | None = None
    timeout_ms: int | None = None


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Collect up to `max_size` events for at most `timeout_ms`. Events for which `condition` fails run alone."""

    max_size: int
    timeout_ms: int
    key: str | None = None
    condition: str | None = None


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """An event that cancels the run if `condition` holds (`event` is the run's own event, `async` the
    cancelling one).

    It counts for `timeout_ms` from the run's start or until `until_ms` (ms since the epoch), whichever is
    set.
    """

    event: str
    condition: str | None = None
    timeout_ms: int | None = None
    until_ms: int | None = None


class Timeouts(msgspec.Struct, frozen=True, gc=False):
    """Cancel a run that has not begun within `start_ms`, or not ended `finish_ms` after it began."""

    start_ms: int | None = None
    finish_ms: int | None = None


class Singleton(msgspec.Struct, frozen=True, gc=False):
    """One live run per key: a further one is skipped (`mode` is `skip`) or takes its place (`cancel`)."""

    mode: str = "skip"
    key: str | None = None


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """How the SDK reports finished steps while it goes on; shown to people, not acted on."""

    batch_steps: int | None = None
    batch_interval_ms: int | None = None
    max_runtime_ms: int | None = None


class FunctionConfig(msgspec.Struct, frozen=True):
    """A function.

    `id` is the composite slug (`<app>-<function>`), unique within the app. `url` is where it is called; its
    query is kept. `retries` is the number of tries after the first, at most 20; None means the server's
    default. `concurrency` limits steps under way, `run_concurrency` live runs. `idempotency` has already
    become `rate_limit`. `priority` is a CEL expression. `raw` is the configuration's JSON as it was received.
    """

    id: str
    name: str
    url: str
    triggers: tuple[Trigger, ...] = ()
    runtime_type: str = "http"
    retries: int | None = None
    concurrency: tuple[ConcurrencyLimit, ...] = ()
    run_concurrency: ConcurrencyLimit | None = None
    rate_limit: RateLimit | None = None
    throttle: Throttle | None = None
    debounce: Debounce | None = None
    priority: str | None = None
    batch: Batch | None = None
    cancel: tuple[Cancel, ...] = ()
    timeouts: Timeouts = Timeouts()
    idempotency: str | None = None
    singleton: Singleton | None = None
    checkpoint: Checkpoint | None = None
    raw: bytes = b"{}"
