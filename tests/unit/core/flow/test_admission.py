"""Admission: the order of the rules, and what each leaves to be stored."""

from __future__ import annotations

from typing import Any

from perdure.core.flow.admission import (
    Admission,
    Collect,
    Drop,
    Hold,
    Keys,
    Known,
    Origin,
    Pause,
    RunFlow,
    Skip,
    Start,
    admit,
    ask,
)
from perdure.core.flow.batch import BatchAction
from perdure.core.flow.debounce import DebounceAction
from perdure.core.flow.keys import EMPTY, digest
from perdure.core.flow.rules import FlowRules
from perdure.core.flow.stored import Arrival
from perdure.protocol.functions import (
    Batch,
    ConcurrencyLimit,
    Debounce,
    FunctionConfig,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
)

NOW = 1_700_000_000_000
EVENT: dict[str, object] = {"name": "a/b", "data": {"user": "ada", "n": 5}, "ts": NOW}


def rules(**parts: Any) -> FlowRules:
    return FlowRules("F", FunctionConfig("app-f", "f", "http://x", **parts))


def decide(
    prepared: FlowRules,
    known: Known | None = None,
    *,
    event: dict[str, object] = EVENT,
    origin: Origin = Origin.EVENT,
    ts: int = NOW,
    now: int = NOW,
) -> Admission:
    keys = ask(prepared, event, origin, now)
    return admit(prepared, keys, known or Known(), event, Arrival(1, "e1", ts, 100), origin, now, "B1")


def started(found: Admission) -> Start:
    assert isinstance(found, Start)
    return found


def test_without_rules_a_run_starts_at_once() -> None:
    assert ask(rules(), EVENT, Origin.EVENT, NOW) == Keys()
    found = started(decide(rules()))
    assert found == Start(RunFlow(NOW, NOW), None, False, None, True, None)
    assert not found.flow.matters


def test_a_time_in_the_future_is_kept() -> None:
    assert started(decide(rules(), ts=NOW + 60_000)).flow.start_at == NOW + 60_000
    assert started(decide(rules(), ts=NOW - 60_000)).flow.start_at == NOW


def test_everything_that_a_run_needs_is_computed_once() -> None:
    prepared = rules(
        concurrency=(ConcurrencyLimit(5, "event.data.user"), ConcurrencyLimit(9, "'k'", "account")),
        run_concurrency=ConcurrencyLimit(2),
        throttle=Throttle(3, 1_000, key="event.data.user"),
        priority="event.data.n",
        timeouts=Timeouts(start_ms=10_000),
        singleton=Singleton("skip", "event.data.user"),
    )
    found = started(decide(prepared))
    flow = found.flow
    assert (flow.order, flow.start_at, found.deadline) == (NOW - 5_000, NOW, NOW + 10_000)
    assert [need.value for need in flow.steps] == ["ada", "k"]
    assert len(flow.runs) == 1
    assert flow.throttle is not None
    assert flow.throttle.value == "ada"
    assert flow.singleton is not None
    assert flow.singleton.value == "ada"
    named = {need.limit for need in (*flow.steps, *flow.runs, flow.throttle)}
    assert named == set(prepared.limits)
    assert RunFlow.decode(flow.encode()) == flow


def test_a_duplicate_is_dropped_before_everything_and_takes_no_place() -> None:
    for parts in (
        {},
        {"rate_limit": RateLimit(1, 1_000)},
        {"batch": Batch(2, 1_000)},
        {"debounce": Debounce(1_000)},
        {"singleton": Singleton("cancel")},
    ):
        assert decide(rules(**parts), Known(taken=True, holder="R0")) == Drop("duplicate")


def test_a_batch_collects_and_nothing_else_applies() -> None:
    prepared = rules(
        batch=Batch(2, 5_000, "event.data.user", "event.data.n == 5"), rate_limit=RateLimit(1, 1_000)
    )
    assert ask(prepared, EVENT, Origin.EVENT, NOW).rate_limit is None
    found = decide(prepared, Known(pause=Pause.SKIP))
    assert isinstance(found, Collect)
    assert (found.key.value, found.decision.action) == ("ada", BatchAction.OPENED)
    full = decide(prepared, Known(batch=found.decision.state), ts=NOW)
    assert isinstance(full, Collect)
    assert full.decision.action is BatchAction.DUPLICATE


def test_an_event_that_is_not_collected_meets_the_other_rules() -> None:
    prepared = rules(batch=Batch(2, 5_000, None, "event.data.n == 6"), rate_limit=RateLimit(1, 1_000))
    first = started(decide(prepared))
    assert first.rate_limit is not None
    assert isinstance(decide(prepared, Known(rate_limit=first.rate_limit[1])), Drop)


def test_a_batch_that_fires_passes_the_other_rules() -> None:
    prepared = rules(
        batch=Batch(2, 5_000),
        rate_limit=RateLimit(1, 1_000),
        timeouts=Timeouts(start_ms=5_000),
        concurrency=(ConcurrencyLimit(1),),
    )
    found = started(decide(prepared, origin=Origin.BATCH, ts=NOW + 60_000))
    assert (found.rate_limit, found.deadline, found.cancellable) == (None, None, False)
    assert found.flow.start_at == NOW
    assert len(found.flow.steps) == 1
    alone = rules(batch=Batch(2, 5_000), singleton=Singleton("skip"))
    assert started(decide(alone, Known(holder="R0"), origin=Origin.BATCH)).flow.singleton is None


def test_a_rate_limit_drops_and_says_when_there_is_room() -> None:
    prepared = rules(rate_limit=RateLimit(1, 1_000, "event.data.user"))
    first = started(decide(prepared))
    assert first.rate_limit is not None
    key, state = first.rate_limit
    assert key.id == digest("ada")
    refused = decide(prepared, Known(rate_limit=state), now=NOW + 100)
    assert refused == Drop("rate_limited", key, NOW + 1_000, None)
    assert isinstance(decide(prepared, Known(rate_limit=state), now=NOW + 1_000), Start)


def test_a_rate_limit_that_is_left_out_takes_no_place() -> None:
    prepared = rules(rate_limit=RateLimit(1, 1_000, "event.data.gone"))
    assert ask(prepared, EVENT, Origin.EVENT, NOW).rate_limit is None
    assert started(decide(prepared)).rate_limit is None


def test_a_rate_limit_counts_an_event_before_it_is_debounced() -> None:
    prepared = rules(rate_limit=RateLimit(1, 1_000), debounce=Debounce(5_000))
    found = decide(prepared)
    assert isinstance(found, Hold)
    assert found.decision.action is DebounceAction.OPENED
    assert found.rate_limit is not None
    assert isinstance(decide(prepared, Known(rate_limit=found.rate_limit[1])), Drop)


def test_a_debounce_that_fires_passes_rate_limit_and_debounce_only() -> None:
    prepared = rules(rate_limit=RateLimit(1, 1_000), debounce=Debounce(5_000), singleton=Singleton("skip"))
    assert ask(prepared, EVENT, Origin.DEBOUNCE, NOW) == Keys(singleton=EMPTY)
    assert started(decide(prepared, origin=Origin.DEBOUNCE)).rate_limit is None
    assert isinstance(decide(prepared, Known(holder="R0"), origin=Origin.DEBOUNCE), Skip)


def test_a_run_again_passes_batch_rate_limit_and_debounce() -> None:
    assert isinstance(decide(rules(batch=Batch(2, 5_000)), origin=Origin.RERUN), Start)
    prepared = rules(rate_limit=RateLimit(1, 1_000), debounce=Debounce(5_000))
    assert started(decide(prepared, origin=Origin.RERUN)).rate_limit is None


def test_a_singleton_skips_or_cancels() -> None:
    assert decide(rules(singleton=Singleton("skip")), Known(holder="R0")) == Skip("Singleton", "R0", None)
    assert started(decide(rules(singleton=Singleton("cancel")), Known(holder="R0"))).cancel == "R0"
    assert started(decide(rules(singleton=Singleton("cancel")))).cancel is None


def test_a_singleton_that_is_left_out_or_fails_leaves_the_run_alone() -> None:
    for text in ("event.data.n == 6", "event.data.gone", "1 / 0"):
        found = started(decide(rules(singleton=Singleton("skip", text)), Known(holder="R0")))
        assert found.flow.singleton is None
        assert bool(found.flow.problems) is (text == "1 / 0")


def test_a_skipped_event_has_taken_its_place_of_the_rate_limit() -> None:
    found = decide(rules(rate_limit=RateLimit(1, 1_000), singleton=Singleton("skip")), Known(holder="R0"))
    assert isinstance(found, Skip)
    assert found.rate_limit is not None


def test_a_paused_function_skips_or_holds_and_cancels_nobody_for_a_run_that_will_not_be() -> None:
    prepared = rules(singleton=Singleton("cancel"))
    assert decide(prepared, Known(holder="R0", pause=Pause.SKIP)) == Skip("FunctionPaused", None, None)
    held = started(decide(prepared, Known(holder="R0", pause=Pause.HOLD)))
    assert (held.held, held.cancel) == (True, "R0")


def test_keys_that_fail_are_told_on_the_run() -> None:
    prepared = rules(
        rate_limit=RateLimit(1, 1_000, "1 / 0"),
        concurrency=(ConcurrencyLimit(1, "2 / 0"),),
        throttle=Throttle(1, 1_000, key="3 / 0"),
    )
    problems = started(decide(prepared)).flow.problems
    assert [text in problem for text, problem in zip(("1 / 0", "2 / 0", "3 / 0"), problems, strict=True)] == [
        True
    ] * 3


def test_an_expression_that_no_longer_compiles_stops_nothing() -> None:
    broken = "event.data."
    prepared = rules(
        rate_limit=RateLimit(1, 1_000, broken),
        debounce=Debounce(1_000, broken),
        priority=broken,
        throttle=Throttle(1, 1_000, key=broken),
        concurrency=(ConcurrencyLimit(1, broken),),
    )
    assert isinstance(decide(prepared), Hold)
    assert len(started(decide(prepared, origin=Origin.DEBOUNCE)).flow.problems) == 2
