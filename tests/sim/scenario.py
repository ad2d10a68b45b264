"""What a seed stands for: how much goes wrong in its history, and how small everything is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from perdure.core.pacing import Gate
from perdure.core.settings import Settings
from perdure.shard import (
    directory,
    dispatch,
    flow_loads,
    holdings,
    inbox,
    lines,
    loads,
    loop,
    matching,
    memory,
    queues,
    recovery,
)

FAULTS = (
    "crash",
    "commits",
    "loads",
    "disk-full",
    "network",
    "app-down",
    "owners",
    "clock",
    "stop",
    "resync",
    "decisions",
    "travel",
)
"""Families of faults, as `--faults` names them."""


@dataclass(frozen=True)
class Limits:
    """Constants of the engine, made small so that every bound is met in every history."""

    resident_runs: int
    heap_max: int
    window: int
    waits_at_once: int
    batch_commands: int
    slice: int
    turns: int
    loading: int
    young_calls: int
    hard_limit: int
    requests: int
    memo_bytes: int
    wait_ms: int
    runs_at_once: int
    tickets: int
    parts: int
    lines: int
    page: int


@dataclass(frozen=True)
class Scenario:
    """Everything about a history that is drawn before it begins. Probabilities are for each occasion."""

    seed: int
    faults: frozenset[str]
    limits: Limits
    settings: Settings
    minutes: float
    events: int
    functions: int
    inline_commits: float
    commit_delays_s: tuple[float, ...]
    read_delays_s: tuple[float, ...]
    commit_fails: float = 0.0
    commit_fails_after: float = 0.0
    load_fails: float = 0.0
    call_fails: float = 0.0
    decision_raises: float = 0.0
    chaos_every_s: float = 30.0
    ruled: bool = False
    """Whether the functions have rules of flow control."""
    crowd: int = 0
    """So many runs that wait for one event, sent once."""
    chaos: tuple[str, ...] = field(default=())


def draw(seed: int, faults: frozenset[str] = frozenset(FAULTS)) -> Scenario:
    """The scenario of a seed, as far as `faults` allow."""
    random = Random(f"scenario {seed}")
    wanted = frozenset(name for name in FAULTS if random.random() < 0.5) & faults
    heavy = random.choice((0.3, 1.0, 2.0))
    length = random.choice((2.0, 5.0, 15.0))
    chosen = {
        "commit_fails": 0.01 * heavy if "commits" in wanted else 0.0,
        "commit_fails_after": 0.01 * heavy if "commits" in wanted else 0.0,
        "load_fails": 0.01 * heavy if "loads" in wanted else 0.0,
        "call_fails": 0.04 * heavy if "network" in wanted else 0.0,
        "decision_raises": 0.01 * heavy if "decisions" in wanted else 0.0,
    }
    chaos = [
        name
        for name in ("crash", "disk-full", "app-down", "owners", "clock", "stop", "resync", "travel")
        if name in wanted
    ]
    return Scenario(
        seed=seed,
        faults=wanted,
        limits=_limits(random, "clock" in wanted),
        settings=Settings(
            retry_interval_ms=random.choice((None, 1_000, 20_000)),
            poison_recoveries=random.choice((2, 5)),
            default_retries=3,
            inline_state_bytes=random.choice((4 * 1024 * 1024, 4 * 1024 * 1024, 700)),
            steps_per_run=random.choice((1_000, 1_000, 1_000, 4)),
        ),
        minutes=length,
        events=random.choice((8, 20, 40)),
        functions=random.randint(1, 5),
        inline_commits=random.choice((0.0, 0.5, 1.0)),
        commit_delays_s=random.choice(
            ((0.001,), (0.0, 0.002, 0.05), (0.01, 0.4, 3.0), (0.001,) * 9 + (15.0,))
        ),
        read_delays_s=random.choice(((0.0,), (0.0, 0.001, 0.02), (0.0, 0.05, 2.0), (0.001,) * 9 + (8.0,))),
        chaos_every_s=length * 60 / random.choice((2, 4, 8, 20)),
        crowd=600 if random.random() < 1 / 300 else random.choice((0,) * 8 + (12, 30)),
        chaos=tuple(chaos),
        ruled=seed % 2 == 1,
        **chosen,
    )


def _limits(random: Random, clock: bool) -> Limits:
    return Limits(
        resident_runs=random.choice((1, 3, 10, 1000)),
        heap_max=random.choice((4, 8, 16)),
        window=random.choice((4, 8)),
        waits_at_once=random.choice((1, 2, 5, 500)),
        batch_commands=random.choice((1, 3, 512)),
        slice=random.choice((1, 4, 32)),
        turns=random.choice((1, 4, 64)),
        loading=random.choice((2, 4, 64)),
        young_calls=random.choice((1, 3, 24)),
        hard_limit=random.choice((2, 6, 1000)),
        requests=random.choice((1, 100)),
        memo_bytes=random.choice((0, 200, 1 << 26)),
        wait_ms=random.choice((1_000, 30_000, 30_000) if clock else (1_000, 30_000, 36_000_000)),
        runs_at_once=random.choice((1, 500)),
        tickets=random.choice((1, 2, 64)),
        parts=random.choice((5, 1_000)),
        lines=random.choice((2, 5, 20_000)),
        page=random.choice((1, 3, 1_000)),
    )


@contextmanager
def applied(limits: Limits) -> Iterator[None]:
    """Put the limits in the place of the engine's constants."""
    values: list[tuple[object, str, object]] = [
        (memory, "MAX_RESIDENT_RUNS", limits.resident_runs),
        (memory, "MAX_MEMO_BYTES", limits.memo_bytes),
        (queues, "HEAP_MAX", max(limits.heap_max, limits.window)),
        (queues, "WINDOW", limits.window),
        (loads, "WINDOW", limits.window),
        (matching, "WAITS_AT_ONCE", limits.waits_at_once),
        (loads, "WAITS_AT_ONCE", limits.waits_at_once),
        (loop, "BATCH_COMMANDS", limits.batch_commands),
        (loop, "SLICE", limits.slice),
        (loop, "TURNS", limits.turns),
        (loop, "MAX_WAIT_MS", limits.wait_ms),
        (dispatch, "MAX_LOADING", limits.loading),
        (holdings, "REQUEST_PLACES", limits.requests),
        (recovery, "RUNS_AT_ONCE", limits.runs_at_once),
        (inbox, "MAX_COMMANDS", 200),
        (lines, "TICKETS", limits.tickets),
        (lines, "MAX_TICKETS", 2 * limits.tickets),
        (recovery, "PARTS_AT_ONCE", limits.parts),
        (directory, "MAX_LINES", limits.lines),
        (directory, "PAGE", limits.page),
        (lines, "PAGE", limits.page),
        (flow_loads, "PAGE", limits.page),
        (Gate.__init__, "__defaults__", (limits.hard_limit, limits.young_calls)),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in values]
    try:
        for where, name, value in values:
            setattr(where, name, value)
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
