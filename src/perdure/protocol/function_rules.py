"""The rules that a function's configuration must keep, and how it is read.

Ranges are those of the protocol's configuration table. Two rules are wider here than in the reference server,
on purpose: a schedule may have six fields (seconds first) or be a word such as `@daily`; what counts is
whether `check_cron` takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from perdure.protocol.durations import parse_duration, parse_time
from perdure.protocol.functions import (
    DAY,
    IDEMPOTENCY_PERIOD_MS,
    MAX_RETRIES,
    MINUTE,
    SECOND,
    Batch,
    Cancel,
    Checkpoint,
    ConcurrencyLimit,
    Debounce,
    FunctionConfig,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    Trigger,
)
from perdure.protocol.problems import Problem, Report, Section, show, whole_number

MAX_TRIGGERS = 10
MAX_CANCELS = 5
MAX_CONCURRENCY = 2
MAX_EVENT_NAME = 255
MAX_CRON = 255

CONCURRENCY = "concurrency_limit_invalid"
COMBINATION = "combo_unsupported"
EVENT_NAME = "event_name_invalid"
SCHEDULE = "schedule_invalid"
BATCH_SIZE = "batch_size_invalid"
BATCH_TIMEOUT = "batch_timeout_invalid"
BATCH_KEY = "batch_key_expression_invalid"
BATCH_IF = "batch_if_expression_invalid"


def read_function(
    raw: bytes, check_expression: Callable[[str], None], check_cron: Callable[[str], None]
) -> tuple[FunctionConfig, list[Problem]]:
    """The configuration in `raw`, and all that is wrong with it; it may only be used if that is nothing.

    `check_expression` raises `ExpressionError` and `check_cron` ValueError for what does not compile.
    """
    report = Report("", check_expression, check_cron)
    try:
        value: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        value = show(raw.decode("utf-8", "replace"))
    top = Section(report, "", value)
    slug = top.text("id") or ""
    report.function = slug or show(top.get("name")).strip('"')
    if not isinstance(value, dict):
        report.problems = [
            Problem("", "functions", show(value), "A function must be a JSON object.", "config_invalid")
        ]
    elif not slug:
        top.complain("id", "every function needs an id, unique within the app")
    url, runtime_type, step_retries = _step(top)
    steps, runs = _concurrency(top)
    idempotency = top.expression("idempotency")
    config = FunctionConfig(
        id=slug,
        name=top.text("name") or slug,
        url=url,
        triggers=_triggers(top),
        runtime_type=runtime_type,
        retries=_retries(top, step_retries),
        concurrency=steps,
        run_concurrency=runs,
        rate_limit=_rate_limit(top, idempotency),
        throttle=_throttle(top),
        debounce=_debounce(top),
        priority=_priority(top),
        batch=_batch(top),
        cancel=_cancels(top),
        timeouts=_timeouts(top),
        idempotency=idempotency,
        singleton=_singleton(top),
        checkpoint=_checkpoint(top),
        raw=raw,
    )
    _combinations(config, report)
    return config, report.problems


def load_function(raw: bytes) -> FunctionConfig:
    """A configuration that has been checked before, as when it comes from the store.

    Expressions and schedules are not compiled. Raises ValueError if it is broken all the same.
    """
    config, problems = read_function(raw, _accept, _accept)
    if problems:
        raise ValueError(
            f"The stored configuration of function {config.id!r} is broken: {problems[0].message}"
        )
    return config


def _accept(_text: str) -> None:
    """Take any text."""


def _triggers(top: Section) -> tuple[Trigger, ...]:
    sections = top.sections("triggers")
    if len(sections) > MAX_TRIGGERS:
        top.report.add(
            "triggers", len(sections), f"a function has at most {MAX_TRIGGERS}: split it, or use a wildcard"
        )
    triggers = []
    seen = set()
    for section in sections:
        trigger = _trigger(section)
        triggers.append(trigger)
        identity = (trigger.event, trigger.expression, trigger.cron)
        if identity in seen and identity != (None, None, None):
            what = trigger.event or trigger.cron
            top.report.add(
                section.path, what, "another trigger of the function is the same: remove one of them"
            )
        seen.add(identity)
    return tuple(triggers)


def _trigger(section: Section) -> Trigger:
    event, cron = section.get("event"), section.get("cron")
    if event is not None and cron is not None:
        section.complain("cron", "a trigger has an event or a cron, not both: make two triggers of it")
        return Trigger()
    if cron is not None:
        return Trigger(
            cron=_cron(section), jitter_ms=section.duration("jitter", SECOND, 5 * MINUTE, code=SCHEDULE) or 0
        )
    if event is None:
        section.complain("event", "a trigger needs the name of an event, or a cron")
        return Trigger()
    return Trigger(event=_event_name(section), expression=section.expression("expression"))


def _event_name(section: Section) -> str:
    value = section.get("event")
    if isinstance(value, str) and 0 < len(value) <= MAX_EVENT_NAME:
        return value
    section.complain(
        "event", f"it must be the name of an event, of 1 to {MAX_EVENT_NAME} characters", EVENT_NAME
    )
    return ""


def _cron(section: Section) -> str | None:
    value = section.get("cron")
    rule = 'it must be a schedule such as "0 9 * * 1-5", "TZ=Europe/Paris 0 9 * * *" or "@daily"'
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CRON:
        section.complain("cron", f"{rule}, of at most {MAX_CRON} characters", SCHEDULE)
        return None
    try:
        section.report.check_cron(value)
    except ValueError as error:
        section.complain("cron", f"{rule}: {str(error).rstrip('.')}", SCHEDULE)
        return None
    return value


def _step(top: Section) -> tuple[str, str, object]:
    """The URL, the runtime's type and the retries of the one step that a function has."""
    steps = top.section("steps")
    if steps is None or list(steps.fields) != ["step"]:
        if isinstance(top.get("steps"), dict) or top.get("steps") is None:
            top.complain("steps", 'it must have exactly one entry, named "step"')
        return "", "http", None
    step = Section(top.report, "steps.step", steps.get("step"))
    if step.get("id") is not None and step.get("id") != "step":
        step.complain("id", 'it must be "step"')
    retries = step.section("retries")
    runtime = step.section("runtime")
    if runtime is None:
        step.complain("runtime", "it must say where the function is called: a type and a url")
        return "", "http", None
    return _url(runtime), runtime.choice("type", ("http", "ws")), retries.get("attempts") if retries else None


def _url(runtime: Section) -> str:
    url = (runtime.text("url") or "").strip()
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https", "ws", "wss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        runtime.complain("url", "it must be an http or https URL, or ws or wss for an app that is connected")
    return url


def _retries(top: Section, of_step: object) -> int | None:
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


def _concurrency(top: Section) -> tuple[tuple[ConcurrencyLimit, ...], ConcurrencyLimit | None]:
    """The limits on steps, and the limit on runs."""
    value = top.get("concurrency")
    if not isinstance(value, dict):
        return _limits(top, "concurrency", value), None
    both = Section(top.report, "concurrency", value, CONCURRENCY)
    if both.get("fn") is None and both.get("step") is None:
        return _limits(top, "concurrency", value), None
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
        if number < 0:
            parent.complain(key, "it must be 0 (no limit) or more", CONCURRENCY)
        return (ConcurrencyLimit(number),) if number > 0 else ()
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


def _rate_limit(top: Section, idempotency: str | None) -> RateLimit | None:
    section = top.section("rateLimit")
    limit = None
    if section is not None:
        period = section.duration("period", SECOND, DAY, required=True)
        limit = RateLimit(section.integer("limit", 1, None), period or 0, section.expression("key"))
    if idempotency is not None:
        return RateLimit(1, IDEMPOTENCY_PERIOD_MS, idempotency)
    return limit


def _throttle(top: Section) -> Throttle | None:
    section = top.section("throttle")
    if section is None:
        return None
    return Throttle(
        max(1, section.integer("limit", 0, 1)),
        section.duration("period", SECOND, required=True) or 0,
        section.integer("burst", 0, 0),
        section.expression("key"),
    )


def _debounce(top: Section) -> Debounce | None:
    section = top.section("debounce")
    if section is None:
        return None
    period = section.duration("period", SECOND, 7 * DAY, required=True)
    return Debounce(period or 0, section.expression("key"), section.duration("timeout", SECOND))


def _priority(top: Section) -> str | None:
    section = top.section("priority")
    return None if section is None else section.expression("run")


def _batch(top: Section) -> Batch | None:
    section = top.section("batchEvents")
    if section is None:
        return None
    return Batch(
        section.integer("maxSize", 2, None, BATCH_SIZE),
        section.duration("timeout", SECOND, required=True, code=BATCH_TIMEOUT) or 0,
        section.expression("key", BATCH_KEY),
        section.expression("if", BATCH_IF),
    )


def _cancels(top: Section) -> tuple[Cancel, ...]:
    sections = top.sections("cancel")
    if len(sections) > MAX_CANCELS:
        top.report.add("cancel", len(sections), f"a function has at most {MAX_CANCELS}")
    return tuple(_cancel(section) for section in sections)


def _cancel(section: Section) -> Cancel:
    timeout_ms = until_ms = None
    text = section.text("timeout")
    if text is not None:
        try:
            timeout_ms = parse_duration(text.strip())
        except ValueError:
            try:
                until_ms = parse_time(text.strip())
            except ValueError:
                timeout_ms = -1
        if timeout_ms is not None and timeout_ms < 0:
            section.complain(
                "timeout", 'it must be a duration such as "1h30m", or a time such as "2030-01-31T09:00:00Z"'
            )
    return Cancel(_event_name(section), section.expression("if"), timeout_ms, until_ms)


def _timeouts(top: Section) -> Timeouts:
    section = top.section("timeouts")
    if section is None:
        return Timeouts()
    return Timeouts(section.duration("start", 0) or None, section.duration("finish", 0) or None)


def _singleton(top: Section) -> Singleton | None:
    section = top.section("singleton")
    if section is None:
        return None
    return Singleton(section.choice("mode", ("skip", "cancel")), section.expression("key"))


def _checkpoint(top: Section) -> Checkpoint | None:
    section = top.section("checkpoint")
    if section is None:
        return None
    steps = None if section.get("batch_steps") is None else section.integer("batch_steps", 0, None)
    return Checkpoint(steps, section.duration("batch_interval", 0), section.duration("max_runtime", 0))


def _combinations(config: FunctionConfig, report: Report) -> None:
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
            message = f"batchEvents cannot be combined with {other}; remove one of the two."
            report.problems.append(Problem(report.function, "batchEvents", other, message, COMBINATION))
