"""Rules of functions, drawn at random as an app registers them, and read again as simply as can be.

Nothing here is the engine's: keys are computed by Python, durations by a table, and what is in force is the JSON of
the registration with the fields of the overrides in place of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Any

from perdure.shard.rows import FunctionRow

Event = dict[str, Any]
Fields = dict[str, Any]

UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
KEY = "event.data.k"
SOME = "event.data.n > 6 ? false : event.data.k"
"""A key that leaves some events out."""
SHARED = '"everybody"'

KEYS: dict[str | None, Callable[[Event], str | None]] = {
    None: lambda event: "",
    KEY: lambda event: None if event["data"].get("k") is None else f"={event['data']['k']}",
    SOME: lambda event: None if (event["data"].get("n") or 0) > 6 else KEYS[KEY](event),
    SHARED: lambda event: "everybody",
}
"""What each key makes of an event: a text, or None if the key is false or not there."""

COLLECTED = "event.data.n > 1"
PRIORITY = "event.data.n * 10"


class Rules:
    """The rules of a function in force; `fields` are those of its registration."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        limits = fields.get("concurrency") or []
        both = limits if isinstance(limits, dict) else {"step": limits, "fn": []}
        self.steps: list[Fields] = both.get("step", [])
        self.runs: list[Fields] = both.get("fn", [])
        self.throttle: Fields | None = fields.get("throttle")
        self.debounce: Fields | None = fields.get("debounce")
        self.batch: Fields | None = fields.get("batchEvents")
        self.singleton: Fields | None = fields.get("singleton")
        self.priority: Fields | None = fields.get("priority")
        self.timeouts: Fields = fields.get("timeouts") or {}
        self.cancel: list[Fields] = fields.get("cancel") or []
        self.crons = {each["cron"]: each for each in fields.get("triggers", []) if "cron" in each}
        self.rate: Fields | None = fields.get("rateLimit")
        if fields.get("idempotency"):
            self.rate = {"limit": 1, "period": "1d", "key": fields["idempotency"]}

    @property
    def plain(self) -> bool:
        """Whether nothing comes between an event and its run."""
        return not (self.rate or self.debounce or self.batch)

    def collects(self, event: Event) -> bool:
        """Whether an event joins a batch."""
        if self.batch is None:
            return False
        return not self.batch.get("if") or (event["data"].get("n") or 0) > 1

    def factor(self, event: Event) -> int:
        """Seconds by which a run goes forward in line."""
        number = event["data"].get("n")
        return number * 10 if self.priority and isinstance(number, int) else 0


def key_of(rule: Fields, event: Event) -> str | None:
    """The key of an event for a rule; None if the rule leaves the event out."""
    return KEYS[rule.get("key")](event)


def bucket_of(rule: Fields, event: Event) -> str:
    """The same for rules that leave nothing out: those without key share one bucket."""
    return KEYS[rule.get("key")](event) or ""


def ms(text: str) -> int:
    """A duration of one unit."""
    return int(text[:-1]) * UNITS[text[-1]]


@lru_cache(maxsize=4_096)
def _read(config: bytes, overrides: bytes | None) -> Rules:
    return Rules(json.loads(config) | (json.loads(overrides) if overrides else {}))


def in_force(row: FunctionRow) -> Rules:
    """What is in force for a function."""
    return _read(row.config, row.overrides)


# Drawing


def _limit(random: Random, key: str | None = None, scope: str = "") -> Fields:
    limit: Fields = {"limit": random.choice((1, 1, 2, 3))}
    if key is not None:
        limit["key"] = key
    return limit | ({"scope": scope} if scope else {})


def _concurrency(random: Random) -> object:
    kind = random.randrange(6)
    if kind == 0:
        return [_limit(random)]
    if kind == 1:
        return [_limit(random, KEY)]
    if kind == 2:
        return [_limit(random) | {"limit": 3}, _limit(random, KEY)]
    if kind == 3:
        return [_limit(random, SHARED, "account")]
    if kind == 4:
        return {"fn": [_limit(random, random.choice((None, KEY)))]}
    return {"fn": [_limit(random)], "step": [_limit(random, SHARED, "account")]}


def _throttle(random: Random) -> Fields:
    return {
        "limit": random.choice((1, 2, 5)),
        "period": random.choice(("5s", "20s", "2m")),
        "burst": random.choice((0, 0, 1, 3)),
    } | _key(random)


def _key(random: Random) -> Fields:
    return random.choice(({}, {"key": KEY}))


def _timeouts(random: Random) -> Fields:
    rule = {}
    if random.random() < 0.6:
        rule["start"] = random.choice(("5s", "1m"))
    if random.random() < 0.6:
        rule["finish"] = random.choice(("10s", "5m", "2h"))
    return rule


def _cancel(random: Random) -> list[Fields]:
    found: list[Fields] = []
    for _ in range(random.choice((1, 1, 2))):
        rule: Fields = {"event": random.choice(("w/red", "w/blue"))}
        if random.random() < 0.7:
            rule["if"] = "async.data.k == event.data.k"
        if random.random() < 0.4:
            rule["timeout"] = random.choice(("10s", "5m"))
        found.append(rule)
    return found


def draw_rules(random: Random, *, called: bool = False) -> Fields:
    """Rules for a function. One that is `called` by steps has fewer."""
    fields: Fields = {}
    first = random.choice(("", "", "", "rate", "debounce", "batch", "idempotency"))
    if first == "rate":
        fields["rateLimit"] = {
            "limit": random.choice((1, 2, 5)),
            "period": random.choice(("5s", "1m", "1h")),
            "key": random.choice((None, KEY, SOME)),
        }
        fields["rateLimit"] = {
            name: value for name, value in fields["rateLimit"].items() if value is not None
        }
    elif first == "idempotency" and not called:
        fields["idempotency"] = KEY
    elif first == "debounce":
        fields["debounce"] = {"period": random.choice(("2s", "15s", "2m"))} | _key(random)
        if random.random() < 0.5:
            fields["debounce"]["timeout"] = random.choice(("5s", "3m"))
    elif first == "batch":
        fields["batchEvents"] = {
            "maxSize": random.choice((2, 3, 5)),
            "timeout": random.choice(("2s", "30s", "5m")),
        } | _key(random)
        if random.random() < 0.4:
            fields["batchEvents"]["if"] = COLLECTED
    if first != "batch":
        if random.random() < 0.3:
            fields["singleton"] = {"mode": random.choice(("skip", "cancel"))}
            fields["singleton"] |= random.choice(({}, {"key": KEY}, {"key": SOME}))
        if random.random() < 0.3:
            fields["cancel"] = _cancel(random)
        if random.random() < 0.25:
            fields["priority"] = {"run": PRIORITY}
    if random.random() < 0.6:
        fields["concurrency"] = _concurrency(random)
    if random.random() < 0.3:
        fields["throttle"] = _throttle(random)
    if random.random() < 0.3:
        fields["timeouts"] = _timeouts(random)
    return fields


def varied(fields: Fields, random: Random) -> Fields:
    """The same rules with other numbers; keys stay."""
    fields = json.loads(json.dumps(fields))
    limits = fields.get("concurrency") or []
    for limit in [*limits["fn"], *limits.get("step", [])] if isinstance(limits, dict) else limits:
        limit["limit"] = random.choice((1, 2, 4))
    for name in ("throttle", "rateLimit"):
        if name in fields:
            fields[name]["limit"] = random.choice((1, 2, 4))
    if "debounce" in fields:
        fields["debounce"]["period"] = random.choice(("2s", "20s"))
    if "batchEvents" in fields:
        fields["batchEvents"]["maxSize"] = random.choice((2, 4))
    return fields


OVERRIDABLE = ("concurrency", "throttle", "rateLimit", "debounce", "batchEvents")


def overrides_for(fields: Fields, random: Random) -> bytes | None:
    """What a person sets for a function at run time; None takes it back."""
    changed = {name: value for name, value in varied(fields, random).items() if name in OVERRIDABLE}
    return json.dumps(changed).encode() if changed and random.random() < 0.7 else None


def draw_schedule(random: Random, number: int) -> Fields:
    """A schedule that no other function has."""
    second = number % 20
    fields = random.choice((f"{second},{second + 20},{second + 40} * *", f"{second} * *", f"{second} */5 *"))
    trigger = {"cron": f"{fields} * * *"}
    return trigger | random.choice(({}, {"jitter": "1s"}, {"jitter": "15s"}))


def period_of(cron: str) -> int:
    """How far apart (ms) the times of a drawn schedule are."""
    seconds, minutes = cron.split()[:2]
    return 20_000 if "," in seconds else (300_000 if "/" in minutes else 60_000)
