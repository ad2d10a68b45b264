"""What one decision of each rule of flow control costs, in this process.

    python -m bench.flow [--runs 100000] [--repeat 7]

For each rule: a small event, the function's rules prepared once, `--runs` decisions; the median of `--repeat`
alternated runs, in microseconds a decision. For the lines: what a run costs from being put in line to giving its
places back, with 10 and with 100,000 distinct keys, and with 10 and 1,000,000 runs waiting behind a limit of 10.
Goals: at most 20 us a limit, and no more for many keys or a long queue than for few (a quarter is allowed, for the
caches of the machine). It is CPU time that is measured, so that a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable

from perdure.core.cron import missed, next_fire
from perdure.core.flow import batch, debounce, rate_limit, throttle
from perdure.core.flow.admission import Known, Origin, admit, ask
from perdure.core.flow.concurrency import Need
from perdure.core.flow.keys import KeyExpression
from perdure.core.flow.rules import FlowRules
from perdure.core.flow.stored import Arrival
from perdure.core.flow.turns import Turns
from perdure.core.flow.waiting import Ticket
from perdure.protocol import functions as config

NOW = 1_700_000_000_000
EVENT: dict[str, object] = {"name": "shop/paid", "data": {"user": "u-1234567", "n": 5}, "ts": NOW, "id": "e1"}
GOAL_US = 20.0
ALLOWED_GROWTH = 1.25

Case = Callable[[int], None]


def rules(**parts: object) -> FlowRules:
    return FlowRules("F", config.FunctionConfig("app-f", "f", "http://x", **parts))  # type: ignore[arg-type]


def admitting(**parts: object) -> Case:
    """From the decoded event to the decision, with whatever was stored for its key."""
    prepared = rules(**parts)

    def run(count: int) -> None:
        arrival = Arrival(1, "e1", NOW, 200)
        known = Known()
        for _ in range(count):
            keys = ask(prepared, EVENT, Origin.EVENT, NOW)
            admit(prepared, keys, known, EVENT, arrival, Origin.EVENT, NOW, "B")

    return run


def keyed(text: str) -> Case:
    key = KeyExpression(text)

    def run(count: int) -> None:
        for _ in range(count):
            key.bucket(EVENT, NOW)

    return run


def limiting(limit: int) -> Case:
    rule = config.RateLimit(limit, 60_000)

    def run(count: int) -> None:
        state, now = None, NOW
        gap = 60_000 // limit + 1
        for _ in range(count):
            now += gap
            state = rate_limit.take(rule, state, now).state

    return run


def throttling(count: int) -> None:
    rule = config.Throttle(100, 60_000, 5)
    state, now = None, NOW
    for _ in range(count):
        now += 600
        if throttle.next_start(rule, state, now) <= now:
            state = throttle.start(rule, state, now)


def debouncing(count: int) -> None:
    rule = config.Debounce(5_000)
    state, now = None, NOW
    for n in range(count):
        now += 1
        state = debounce.add(rule, state, Arrival(n, "e", now, 200), now).state


def batching(size: int) -> Case:
    rule = config.Batch(size, 60_000)

    def run(count: int) -> None:
        state = None
        for n in range(count):
            decision = batch.add(rule, state, Arrival(n, f"e{n}", NOW, 200), NOW, "B")
            state = None if decision.action is batch.BatchAction.FULL else decision.state

    return run


def ticking(text: str) -> Case:
    def run(count: int) -> None:
        at = NOW
        for _ in range(count):
            found = next_fire(text, at)
            at = NOW if found is None else found

    return run


def catching_up(count: int) -> None:
    for _ in range(count):
        missed("TZ=Europe/Paris 0 3 * * *", NOW - 10 * 86_400_000, NOW)


def microseconds(case: Case, count: int) -> float:
    gc.collect()
    begun = time.process_time()
    case(count)
    return (time.process_time() - begun) * 1e6 / count


def in_line(keys: int, waiting: int, limits: dict[str, int | config.Throttle], runs: int) -> float:
    """Microseconds from being put in line to giving the places back, while `waiting` others stand there."""
    turns = Turns()
    turns.set_limits("F", limits)
    wide = Need("x", "F/x")
    needs = [(wide, Need(f"step/fn/F/0123456789ab/{n:032x}", "F/u", str(n), True)) for n in range(keys)]
    for n in range(waiting):
        turns.wait(Ticket("F", f"r{n}", f"i{n}", n, needs[n % keys]))
    running = []
    while (grant := turns.next(NOW)) is not None or turns.next_time() == NOW:
        if grant is not None:
            running.append(grant.item)
    running.reverse()
    gc.collect()
    gc.freeze()
    begun = time.process_time()
    for n in range(runs):
        number = waiting + n
        turns.wait(Ticket("F", f"r{number}", f"i{number}", number, needs[number % keys]))
        if running:
            turns.give_back(running.pop())
        while (grant := turns.next(NOW)) is not None:
            running.append(grant.item)
    spent = (time.process_time() - begun) * 1e6 / runs
    gc.unfreeze()
    return spent


CASES: dict[str, tuple[Case, int]] = {
    "key event.data.user": (keyed("event.data.user"), 1),
    "key with +": (keyed("event.data.user + '-' + string(event.data.n)"), 1),
    "rate limit 1": (limiting(1), 1),
    "rate limit 60, all times kept": (limiting(60), 1),
    "rate limit 10,000, slices": (limiting(10_000), 1),
    "throttle, look and start": (throttling, 1),
    "debounce, replace": (debouncing, 1),
    "batch of 100, add": (batching(100), 1),
    "batch of 1,000, add": (batching(1_000), 10),
    "admission, no rules": (admitting(), 1),
    "admission, rate limit by key": (
        admitting(rate_limit=config.RateLimit(10, 60_000, "event.data.user")),
        1,
    ),
    "admission, throttle by key": (admitting(throttle=config.Throttle(10, 60_000, 0, "event.data.user")), 1),
    "admission, debounce by key": (admitting(debounce=config.Debounce(5_000, "event.data.user")), 1),
    "admission, batch by key": (
        admitting(batch=config.Batch(9, 5_000, "event.data.user", "event.data.n == 5")),
        1,
    ),
    "admission, singleton by key": (admitting(singleton=config.Singleton("skip", "event.data.user")), 1),
    "admission, priority": (admitting(priority="event.data.n"), 1),
    "admission, concurrency by key": (
        admitting(concurrency=(config.ConcurrencyLimit(5, "event.data.user"),)),
        1,
    ),
    "schedule, every minute": (ticking("* * * * *"), 20),
    "schedule, daily in Paris": (ticking("TZ=Europe/Paris 0 3 * * *"), 20),
    "schedule, what was missed": (catching_up, 200),
}
"""The cases, and by what the number of decisions is divided for each."""

LIMITED: dict[str, int | config.Throttle] = {"F/x": 10}
BY_KEY: dict[str, int | config.Throttle] = {"F/u": 1}
LINES: dict[str, tuple[int, int, dict[str, int | config.Throttle]]] = {
    "two limits with room, nobody waits": (10, 0, {}),
    "limit of 10, 20 wait": (10, 20, LIMITED),
    "limit of 10, 1,000,000 wait": (10, 1_000_000, LIMITED),
    "limit of 10, 200,000 of 100,000 keys": (100_000, 200_000, LIMITED),
    "1 by key, 30 wait of 10 keys": (10, 30, BY_KEY),
    "1 by key, 300,000 of 100,000 keys": (100_000, 300_000, BY_KEY),
}
"""Keys, how many wait, and the limits."""

COMPARED = [
    ("limit of 10, 1,000,000 wait", "limit of 10, 20 wait"),
    ("limit of 10, 200,000 of 100,000 keys", "limit of 10, 20 wait"),
    ("1 by key, 300,000 of 100,000 keys", "1 by key, 30 wait of 10 keys"),
]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(options.repeat):
        for name, (case, divisor) in CASES.items():
            taken[name].append(microseconds(case, max(1, options.runs // divisor)))
    lines: dict[str, list[float]] = {name: [] for name in LINES}
    for _ in range(max(1, options.repeat // 2)):
        for name, (keys, waiting, limits) in LINES.items():
            lines[name].append(in_line(keys, waiting, limits, options.runs))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    waits = {name: statistics.median(values) for name, values in lines.items()}
    for title, table in (("us a decision", medians), ("us a run, from line to end", waits)):
        print(f"\n{title}")
        for name, value in table.items():
            print(f"  {name:<36}{value:9.2f}")
    print()
    return report(medians, waits)


def report(medians: dict[str, float], waits: dict[str, float]) -> int:
    """Say which goals were reached; 1 if one was not."""
    missed_goals = 0
    for name, value in {**medians, **waits}.items():
        if value > GOAL_US and "schedule" not in name:
            missed_goals += 1
            print(f"MISSED  {name}: {value:.1f} us, goal {GOAL_US:.0f}")
    for many, few in COMPARED:
        growth = waits[many] / waits[few]
        verdict = "ok    " if growth <= ALLOWED_GROWTH else "MISSED"
        missed_goals += growth > ALLOWED_GROWTH
        print(f"{verdict}  {many}: {growth:.2f} x {few}")
    return 1 if missed_goals else 0


if __name__ == "__main__":
    sys.exit(main())
