"""The rules of flow control in a function's configuration, and how many times it is tried: how they are read.

These are the fields that a person may also set at run time (`overrides`); both ways lead through here, so both keep
the same ranges and are refused in the same words. Ranges are those of the protocol's configuration table.
"""

from __future__ import annotations

from perdure.protocol.functions import (
    DAY,
    IDEMPOTENCY_PERIOD_MS,
    MAX_RETRIES,
    SECOND,
    Batch,
    ConcurrencyLimit,
    Debounce,
    FunctionConfig,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
)
from perdure.protocol.problems import MAX_NUMBER, Problem, Report, Section, whole_number, whole_numbers

MAX_CONCURRENCY = 2

MAX_CATCH_UP = 3_650 * DAY
"""Longest time that the starts of one burst of a throttle may stand for, in ms: its schedule is kept in nanoseconds."""

CONCURRENCY = "concurrency_limit_invalid"
COMBINATION = "combo_unsupported"
BATCH_SIZE = "batch_size_invalid"
BATCH_TIMEOUT = "batch_timeout_invalid"
BATCH_KEY = "batch_key_expression_invalid"
BATCH_IF = "batch_if_expression_invalid"


def read_retries(top: Section, of_step: object) -> int | None:
    """The step's retries come first; some SDKs put a number at the function only."""
    value, field = (
        (of_step, "steps.step.retries.attempts") if of_step is not None else (top.get("retries"), "retries")
    )
    if isinstance(value, dict):
        value = {str(key).lower(): each for key, each in value.items()}.get("attempts")
    if value is None:
        return None
    number = whole_number(value)
    if number is None or number < 0:
        top.report.add(field, value, f"it must be a whole number from 0 to {MAX_RETRIES}")
        return None
    return min(number, MAX_RETRIES)


def read_concurrency(top: Section) -> tuple[tuple[ConcurrencyLimit, ...], ConcurrencyLimit | None]:
    """The limits on steps, and the limit on runs."""
    value = top.get("concurrency")
    if not isinstance(value, dict):
        return _limits(top, "concurrency", value), None
    both = Section(top.report, "concurrency", value, CONCURRENCY)
    if both.get("fn") is None and both.get("step") is None:
        return _limits(top, "concurrency", value), None
    if both.get("limit") is not None:
        both.complain("limit", "beside fn and step it means nothing: put it into one of them")
    runs = _limits(both, "fn", both.get("fn"))
    fn = both.get("fn")
    if isinstance(fn, list) and len(fn) > 1:
        both.complain("fn", "a function has at most one limit on its runs")
    if any(limit.scope != "fn" for limit in runs):
        both.complain("fn", 'a limit on runs has the scope "fn"')
    return _limits(both, "step", both.get("step")), runs[0] if runs else None


def _limits(parent: Section, key: str, value: object) -> tuple[ConcurrencyLimit, ...]:
    """The limits in a field: a number, an object or an array of them. A limit of 0 is none."""
    number = whole_number(value)
    if number is not None:
        if not 0 <= number <= MAX_NUMBER:
            parent.complain(key, f"it must be {whole_numbers(0, number)}; 0 is no limit", CONCURRENCY)
        return (ConcurrencyLimit(number),) if number > 0 else ()
    if value is not None and not isinstance(value, dict | list):
        parent.complain(key, "it must be a whole number, an object or an array of objects", CONCURRENCY)
        return ()
    sections = parent.sections(key, CONCURRENCY)
    if len(sections) > MAX_CONCURRENCY:
        parent.report.add(
            parent.name(key), len(sections), f"a function has at most {MAX_CONCURRENCY} limits", CONCURRENCY
        )
    limits = [_limit(section) for section in sections]
    return tuple(limit for limit in limits if limit.limit > 0)


def _limit(section: Section) -> ConcurrencyLimit:
    limit = section.integer("limit", 0, 0)
    key = section.expression("key")
    scope = section.choice("scope", ("fn", "env", "account"))
    if scope != "fn" and key is None:
        section.complain(
            "key",
            f'a limit of scope "{scope}" needs a key; a constant such as "\'openai\'" makes one limit for all',
        )
    return ConcurrencyLimit(limit, key, scope)


def read_rate_limit(top: Section, idempotency: str | None) -> RateLimit | None:
    section = top.section("rateLimit")
    limit = None
    if section is not None:
        period = section.duration("period", SECOND, DAY, required=True)
        limit = RateLimit(section.integer("limit", 1, None), period or 0, section.expression("key"))
    if idempotency is not None:
        return RateLimit(1, IDEMPOTENCY_PERIOD_MS, idempotency)
    return limit


def read_throttle(top: Section) -> Throttle | None:
    section = top.section("throttle")
    if section is None:
        return None
    rule = Throttle(
        max(1, section.integer("limit", 0, 1)),
        section.duration("period", SECOND, required=True) or 0,
        section.integer("burst", 0, 0),
        section.expression("key"),
    )
    if rule.period_ms * (rule.burst + 1) > rule.limit * MAX_CATCH_UP:
        field = "burst" if rule.burst else "period"
        section.complain(field, "one burst would use up more than ten years of starts; make it smaller")
    return rule


def read_debounce(top: Section) -> Debounce | None:
    section = top.section("debounce")
    if section is None:
        return None
    period = section.duration("period", SECOND, 7 * DAY, required=True)
    return Debounce(period or 0, section.expression("key"), section.duration("timeout", SECOND))


def read_priority(top: Section) -> str | None:
    section = top.section("priority")
    return None if section is None else section.expression("run")


def read_batch(top: Section) -> Batch | None:
    section = top.section("batchEvents")
    if section is None:
        return None
    return Batch(
        section.integer("maxSize", 2, None, BATCH_SIZE),
        section.duration("timeout", SECOND, required=True, code=BATCH_TIMEOUT) or 0,
        section.expression("key", BATCH_KEY),
        section.expression("if", BATCH_IF),
    )


def read_timeouts(top: Section) -> Timeouts:
    section = top.section("timeouts")
    if section is None:
        return Timeouts()
    return Timeouts(section.duration("start", 0) or None, section.duration("finish", 0) or None)


def read_singleton(top: Section) -> Singleton | None:
    section = top.section("singleton")
    if section is None:
        return None
    return Singleton(section.choice("mode", ("skip", "cancel")), section.expression("key"))


def check_combinations(config: FunctionConfig, report: Report) -> None:
    """A batch has many events, so what follows one event cannot go with it."""
    if config.batch is None:
        return
    others = {
        "cancel": bool(config.cancel),
        "debounce": config.debounce is not None,
        "singleton": config.singleton is not None,
        "priority": config.priority is not None,
    }
    for other, used in others.items():
        if used:
            message = f"batchEvents cannot be combined with {other}, which follows one event; remove one of the two."
            report.problems.append(Problem(report.function, "batchEvents", other, message, COMBINATION))
