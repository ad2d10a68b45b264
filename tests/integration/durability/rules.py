"""Functions under every rule of flow control, and what their runs do, whichever app serves them.

A run is one call to the app, or a step, perhaps a nap, and another step. How long its code takes, and its nap, are in
its event, beside `who`, the key of the rule, and `n`, the number of the event.
"""

from __future__ import annotations

from typing import Any

APP = "rules"

LIMITED, KEYED, BOTH, WHOLE = "limited", "keyed", "both", "whole"
SHARED = ("shared-a", "shared-b")
PACED, BURST = "paced", "burst"
RATED, ONCE = "rated", "once"
FLURRY, BATCHED = "flurry", "batched"
SKIPS, REPLACES = "single-skip", "single-cancel"
START_BY, START_PACED, FINISH_BY = "start-by", "start-paced", "finish-by"
CANCELLABLE, HELD, TICK = "cancellable", "held", "tick"
TICK_IN_LINE = "tick-in-line"
"""A schedule whose runs need a place: they start by a command of their own, after the commit that fires."""
TICKS = (TICK, TICK_IN_LINE)
MIXED = "mixed"
"""Limits on runs and on calls, a throttle, a priority and a timeout, all at once."""
ASKS = "asks"
"""Invokes one of `ASKED`, and is told what came of it: a result, or that there was no run."""
ASKED = ("asked-flurry", "asked-batch", "asked-rated", "asked-single")
LONG_QUEUE, LONG_QUEUES = "long-queue", "long-queues"
"""Not a part of the stream: many runs at once wait for it."""

CANCEL = f"{APP}/cancel"
"""The event that cancels the `CANCELLABLE` run of the same `who`."""

LIMIT, KEY_LIMIT, SHARED_LIMIT, RUN_LIMIT, QUEUE_LIMIT = 3, 1, 2, 2, 10
SHARED_KEY = '"one for both"'
WHO = "event.data.who"
PACE, PACE_PERIOD_MS = 4, 1_000
BURST_LIMIT, BURST_MORE, BURST_PERIOD_MS = 2, 2, 1_000
RATE, RATE_PERIOD_MS = 3, 2_000
FLURRY_MS = 1_000
BATCH_SIZE, BATCH_MS = 4, 1_000
START_MS, FINISH_MS = 1_000, 1_000
EVERY_SECOND = "* * * * * *"
SAME_WHO = "event.data.who == async.data.who"

CONFIGS: dict[str, dict[str, Any]] = {
    LIMITED: {"concurrency": [{"limit": LIMIT}]},
    KEYED: {"concurrency": [{"limit": KEY_LIMIT, "key": WHO}]},
    BOTH: {"concurrency": [{"limit": LIMIT}, {"limit": KEY_LIMIT, "key": WHO}]},
    **{
        name: {"concurrency": [{"limit": SHARED_LIMIT, "key": SHARED_KEY, "scope": "account"}]}
        for name in SHARED
    },
    WHOLE: {"concurrency": {"fn": [{"limit": RUN_LIMIT}]}},
    PACED: {"throttle": {"limit": PACE, "period": "1s", "burst": 0}},
    BURST: {"throttle": {"limit": BURST_LIMIT, "period": "1s", "burst": BURST_MORE, "key": WHO}},
    RATED: {"rateLimit": {"limit": RATE, "period": "2s", "key": WHO}},
    ONCE: {"idempotency": WHO},
    FLURRY: {"debounce": {"period": "1s", "key": WHO}},
    BATCHED: {
        "batchEvents": {"maxSize": BATCH_SIZE, "timeout": "1s", "key": WHO},
        "concurrency": [{"limit": 1}],
    },
    SKIPS: {"singleton": {"key": WHO, "mode": "skip"}},
    REPLACES: {"singleton": {"key": WHO, "mode": "cancel"}},
    START_BY: {"concurrency": [{"limit": 1}], "timeouts": {"start": "1s"}},
    START_PACED: {"throttle": {"limit": 1, "period": "1s"}, "timeouts": {"start": "1s"}},
    FINISH_BY: {"timeouts": {"finish": "1s"}},
    CANCELLABLE: {"cancel": [{"event": CANCEL, "if": SAME_WHO}]},
    HELD: {},
    TICK: {"triggers": [{"cron": EVERY_SECOND}]},
    TICK_IN_LINE: {"triggers": [{"cron": EVERY_SECOND}], "concurrency": [{"limit": 1}]},
    MIXED: {
        "concurrency": {"fn": [{"limit": RUN_LIMIT}], "step": [{"limit": KEY_LIMIT, "key": WHO}]},
        "throttle": {"limit": PACE, "period": "1s", "burst": 0, "key": WHO},
        "priority": {"run": "event.data.n % 7"},
        "timeouts": {"start": "30s", "finish": "30s"},
    },
    ASKS: {},
    ASKED[0]: {"debounce": {"period": "1s"}},
    ASKED[1]: {"batchEvents": {"maxSize": BATCH_SIZE, "timeout": "1s"}},
    ASKED[2]: {"rateLimit": {"limit": RATE, "period": "2s"}},
    ASKED[3]: {"singleton": {"key": '"one"', "mode": "skip"}},
    LONG_QUEUE: {"concurrency": [{"limit": QUEUE_LIMIT}]},
    LONG_QUEUES: {"concurrency": [{"limit": QUEUE_LIMIT}, {"limit": KEY_LIMIT, "key": WHO}]},
}
"""What each function is registered with, as on the wire."""

STEPPED = frozenset({LIMITED, KEYED, WHOLE, SKIPS, REPLACES, FINISH_BY, CANCELLABLE, MIXED})
"""Functions that have two steps; the others are a single call."""
FIRST, NAP, SECOND = "first", "nap", "second"
ASK = "ask"

STREAMED = tuple(name for name in CONFIGS if name not in (*TICKS, *ASKED, LONG_QUEUE, LONG_QUEUES))
"""Functions that get events of the stream."""

NEVER_DROPPED = frozenset(STREAMED) - {RATED, ONCE, FLURRY, BATCHED}
"""Functions of which each event has a run of its own."""


def counters(function: str, who: object) -> dict[str, int]:
    """The limits on calls that a call takes places of: counter and limit."""
    keyed = {f"{function} {who}": KEY_LIMIT}
    if function in SHARED:
        return {"shared": SHARED_LIMIT}
    given: dict[str, dict[str, int]] = {
        LIMITED: {function: LIMIT},
        KEYED: keyed,
        BOTH: {function: LIMIT, **keyed},
        START_BY: {function: 1},
        BATCHED: {function: 1},
        TICK_IN_LINE: {function: 1},
        MIXED: keyed,
        LONG_QUEUE: {function: QUEUE_LIMIT},
        LONG_QUEUES: {function: QUEUE_LIMIT, **keyed},
    }
    return given.get(function, {})


def steps_of(function: str, data: dict[str, Any]) -> tuple[str, ...]:
    """The steps of a run whose event has this data."""
    if function == ASKS:
        return (ASK,)
    if function not in STEPPED:
        return ()
    return (FIRST, NAP, SECOND) if data.get("nap_ms") else (FIRST, SECOND)
