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
from perdure.protocol.flow_fields import (
    check_combinations,
    read_batch,
    read_concurrency,
    read_debounce,
    read_priority,
    read_rate_limit,
    read_retries,
    read_singleton,
    read_throttle,
    read_timeouts,
)
from perdure.protocol.functions import (
    MINUTE,
    SECOND,
    Cancel,
    Checkpoint,
    FunctionConfig,
    Trigger,
)
from perdure.protocol.problems import (
    CONFIG_INVALID,
    Problem,
    Report,
    Section,
    show,
)

MAX_TRIGGERS = 10
MAX_CANCELS = 5
MAX_EVENT_NAME = 255
MAX_CRON = 255

EVENT_NAME = "event_name_invalid"
SCHEDULE = "schedule_invalid"


def read_function(
    raw: bytes, check_expression: Callable[[str], None], check_cron: Callable[[str], None]
) -> tuple[FunctionConfig, list[Problem]]:
    """The configuration in `raw`, and all that is wrong with it; it may only be used if that is nothing.

    `check_expression` raises `ExpressionError` and `check_cron` ValueError for what does not compile.
    """
    report = Report("", check_expression, check_cron)
    try:
        value: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        shown = show(raw.decode("utf-8", "replace"))
        message = f"The function's configuration cannot be read: {error}; see what the app sends."
        return FunctionConfig("", "", "", raw=raw), [Problem("", "functions", shown, message, CONFIG_INVALID)]
    top = Section(report, "", value)
    slug = top.text("id") or ""
    name = top.get("name")
    report.function = slug or (name if isinstance(name, str) else "")
    if not isinstance(value, dict):
        report.problems = [
            Problem("", "functions", show(value), "A function must be a JSON object.", CONFIG_INVALID)
        ]
    elif not slug:
        top.complain("id", "every function needs an id, unique within the app")
    url, runtime_type, step_retries = _step(top)
    steps, runs = read_concurrency(top)
    idempotency = top.expression("idempotency")
    config = FunctionConfig(
        id=slug,
        name=top.text("name") or slug,
        url=url,
        triggers=_triggers(top),
        runtime_type=runtime_type,
        retries=read_retries(top, step_retries),
        concurrency=steps,
        run_concurrency=runs,
        rate_limit=read_rate_limit(top, idempotency),
        throttle=read_throttle(top),
        debounce=read_debounce(top),
        priority=read_priority(top),
        batch=read_batch(top),
        cancel=_cancels(top),
        timeouts=read_timeouts(top),
        idempotency=idempotency,
        singleton=read_singleton(top),
        checkpoint=_checkpoint(top),
        raw=raw,
    )
    check_combinations(config, report)
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
    triggers: list[Trigger] = []
    seen: dict[tuple[str | None, ...], str] = {}
    for section in sections:
        trigger = _trigger(section)
        triggers.append(trigger)
        if not (trigger.event or trigger.cron):
            continue
        first = seen.setdefault((trigger.event, trigger.expression, trigger.cron), section.path)
        if first != section.path:
            same = "event" if trigger.event else "schedule, whatever the jitter"
            rule = f"{first} has the same {same}: remove one of them"
            top.report.add(section.path, trigger.event or trigger.cron, rule, _same(trigger))
    return tuple(triggers)


def _same(trigger: Trigger) -> str:
    return SCHEDULE if trigger.cron else CONFIG_INVALID


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
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CRON:
        section.complain(
            "cron",
            f'it must be a schedule of at most {MAX_CRON} characters, such as "0 9 * * 1-5", '
            '"TZ=Europe/Paris 0 9 * * *" or "@daily"',
            SCHEDULE,
        )
        return None
    try:
        section.report.check_cron(value)
    except ValueError as error:
        section.complain("cron", str(error).rstrip("."), SCHEDULE)
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


def _checkpoint(top: Section) -> Checkpoint | None:
    section = top.section("checkpoint")
    if section is None:
        return None
    steps = None if section.get("batch_steps") is None else section.integer("batch_steps", 0, None)
    return Checkpoint(steps, section.duration("batch_interval", 0), section.duration("max_runtime", 0))
