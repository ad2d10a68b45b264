"""Overrides: parts of a function's configuration that a person sets at run time, in place of what its code says.

They are a JSON object of fields spelt as in a registration: `{"concurrency": 5, "throttle": null}`. Each field is
replaced as a whole, `null` takes away what the code says, and what is not named stays as the code has it. They are
checked like a registration, field by field and together with what the code says besides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

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
from perdure.protocol.functions import MAX_RETRIES, FunctionConfig, RateLimit
from perdure.protocol.problems import CONFIG_INVALID, Problem, Report, Section, show, whole_number
from perdure.protocol.registration import RegistrationError

FIELDS = (
    "concurrency",
    "throttle",
    "rateLimit",
    "debounce",
    "priority",
    "batchEvents",
    "timeouts",
    "singleton",
    "retries",
    "idempotency",
)
"""What can be set at run time."""

_OF_THE_CODE = ("id", "name", "url", "triggers", "steps", "cancel", "checkpoint")
_NAMES = {name.lower(): name for name in FIELDS}
_FIELDS: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])


def override_config(
    config: FunctionConfig,
    overrides: Mapping[str, object],
    check_expression: Callable[[str], object] = str,
) -> FunctionConfig:
    """The configuration in force: `config`, as the code registered it, with `overrides` in place of its parts.

    `overrides` is decoded JSON. `check_expression` raises `ExpressionError` for a text that does not compile; without
    it expressions are taken as they are, as when overrides that were checked before come from the store. `raw` stays
    what the code registered. Raises `RegistrationError`, whose `problems` name fields as a registration's do.
    """
    report = Report(config.id, lambda text: _discard(check_expression(text)), _discard)
    named = _named(overrides, report)
    top = Section(report, "", named)
    changes = _changes(config, top, named)
    effective = msgspec.structs.replace(config, **changes)
    check_combinations(effective, report)
    if report.problems:
        message = f"The configuration of function {config.id!r} cannot be changed like this"
        raise RegistrationError(message, None, tuple(report.problems))
    return effective


def _discard(_value: object) -> None:
    """Take anything."""


def _named(overrides: Mapping[str, object], report: Report) -> dict[str, object]:
    """The fields that can be set, by their proper names; all others are complained of."""
    found: dict[str, object] = {}
    for given, value in overrides.items():
        name = _NAMES.get(str(given).lower())
        if name is None:
            _refuse(str(given), value, report)
        elif name in found:
            report.add(str(given), value, f"{name} has been given already: say it once")
        else:
            found[name] = value
    return found


def _refuse(given: str, value: object, report: Report) -> None:
    shown = show(given)[1:-1]
    if given.lower() in _OF_THE_CODE:
        message = f"{shown} belongs to the code of the function: change it there, and sync the app."
    else:
        message = f"{shown} cannot be set at run time; what can is {', '.join(FIELDS)}."
    report.problems.append(Problem(report.function, shown, show(value), message, CONFIG_INVALID))


def _changes(config: FunctionConfig, top: Section, named: Mapping[str, object]) -> dict[str, object]:
    """The fields of `FunctionConfig` that change; of `named` only the names count, since `top` leaves nulls out."""
    changes: dict[str, object] = {}
    if "concurrency" in named:
        changes["concurrency"], changes["run_concurrency"] = read_concurrency(top)
    if "throttle" in named:
        changes["throttle"] = read_throttle(top)
    if "debounce" in named:
        changes["debounce"] = read_debounce(top)
    if "priority" in named:
        changes["priority"] = read_priority(top)
    if "batchEvents" in named:
        changes["batch"] = read_batch(top)
    if "timeouts" in named:
        changes["timeouts"] = read_timeouts(top)
    if "singleton" in named:
        changes["singleton"] = read_singleton(top)
    if "retries" in named:
        changes["retries"] = read_retries(top, None)
        if (whole_number(named["retries"]) or 0) > MAX_RETRIES:  # from code it is cut; a person is told
            top.complain("retries", f"it must be a whole number from 0 to {MAX_RETRIES}")
    if "rateLimit" in named or "idempotency" in named:
        changes["idempotency"], changes["rate_limit"] = _rate_limit(config, top, named)
    return changes


def _rate_limit(
    config: FunctionConfig, top: Section, named: Mapping[str, object]
) -> tuple[str | None, RateLimit | None]:
    """Idempotency and rate limit, of which the first is an instance of the second and replaces any other."""
    idempotency = top.expression("idempotency") if "idempotency" in named else config.idempotency
    if "rateLimit" not in named:
        return idempotency, read_rate_limit(_as_registered(config), idempotency)
    limit = read_rate_limit(top, None)
    if limit is not None and idempotency is not None:
        top.complain(
            "rateLimit", "the function's idempotency takes its place: set idempotency to null as well"
        )
    return idempotency, limit if idempotency is None else read_rate_limit(top, idempotency)


def _as_registered(config: FunctionConfig) -> Section:
    """What the code says, which has been checked."""
    return Section(Report(config.id, _discard, _discard), "", _FIELDS.decode(config.raw))
