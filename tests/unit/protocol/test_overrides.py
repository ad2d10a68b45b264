"""What a person may set at run time, what comes of it, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import ExpressionError
from perdure.protocol.function_rules import load_function
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
from perdure.protocol.overrides import FIELDS, override_config
from perdure.protocol.problems import Problem
from perdure.protocol.registration import RegistrationError

HOUR, DAY = 3_600_000, 86_400_000


def config(**fields: object) -> FunctionConfig:
    runtime = {"type": "http", "url": "http://localhost:3000/api/inngest"}
    steps = {"step": {"id": "step", "runtime": runtime, "retries": {"attempts": 7}}}
    return load_function(
        json.dumps({"id": "app-fn", "triggers": [{"event": "a"}], "steps": steps, **fields}).encode()
    )


FULL = config(
    concurrency=[{"limit": 5, "key": "event.data.user"}],
    throttle={"limit": 1, "period": "1m"},
    rateLimit={"limit": 10, "period": "1h"},
    debounce={"period": "10s"},
    priority={"run": "100"},
    timeouts={"start": "10s", "finish": "1h"},
    singleton={"mode": "skip"},
)


def check(text: str) -> None:
    if text.endswith("=="):
        raise ExpressionError("unexpected end.", 2)


def refused(overrides: dict[str, object], of: FunctionConfig = FULL) -> list[tuple[str, str]]:
    with pytest.raises(RegistrationError) as caught:
        override_config(of, overrides, check)
    assert caught.value.status == 400
    assert "app-fn" in caught.value.message
    for problem in caught.value.problems:
        assert problem.function == "app-fn"
        assert problem.message in str(caught.value)
    return [(problem.field, problem.code) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("overrides", "attribute", "value"),
    [
        ({"concurrency": 3}, "concurrency", (ConcurrencyLimit(3),)),
        ({"concurrency": {"fn": [{"limit": 2}]}}, "run_concurrency", ConcurrencyLimit(2)),
        ({"concurrency": {"fn": [{"limit": 2}]}}, "concurrency", ()),
        ({"concurrency": 0}, "concurrency", ()),
        ({"throttle": {"limit": 9, "period": "1h", "burst": 2}}, "throttle", Throttle(9, HOUR, 2)),
        ({"rateLimit": {"limit": 2, "period": "1d", "key": "1"}}, "rate_limit", RateLimit(2, DAY, "1")),
        ({"RATELIMIT": {"LIMIT": 2, "period": "1d"}}, "rate_limit", RateLimit(2, DAY)),
        ({"debounce": {"period": "1s", "timeout": "5s"}}, "debounce", Debounce(1_000, None, 5_000)),
        ({"priority": {"run": "event.data.p"}}, "priority", "event.data.p"),
        ({"timeouts": {"finish": "2h"}}, "timeouts", Timeouts(None, 2 * HOUR)),
        (
            {"singleton": {"mode": "cancel", "key": "event.data.u"}},
            "singleton",
            Singleton("cancel", "event.data.u"),
        ),
        ({"retries": 0}, "retries", 0),
        ({"retries": 20}, "retries", 20),
        ({"idempotency": "event.data.id"}, "rate_limit", RateLimit(1, DAY, "event.data.id")),
        ({"concurrency": None}, "concurrency", ()),
        ({"throttle": None}, "throttle", None),
        ({"rateLimit": None}, "rate_limit", None),
        ({"debounce": None}, "debounce", None),
        ({"priority": None}, "priority", None),
        ({"timeouts": None}, "timeouts", Timeouts()),
        ({"singleton": None}, "singleton", None),
        ({"retries": None}, "retries", None),
    ],
)
def test_one_field_is_set_and_the_others_stay(
    overrides: dict[str, object], attribute: str, value: object
) -> None:
    effective = override_config(FULL, overrides, check)
    assert getattr(effective, attribute) == value
    touched = {
        "concurrency": ["run_concurrency"],
        "run_concurrency": ["concurrency"],
        "rate_limit": ["idempotency"],
    }
    for other in FULL.__struct_fields__:
        if other not in (attribute, *touched.get(attribute, ())):
            assert getattr(effective, other) == getattr(FULL, other)


def test_a_limit_on_runs_is_taken_away_too() -> None:
    assert (
        override_config(config(concurrency={"fn": [{"limit": 1}]}), {"concurrency": None}).run_concurrency
        is None
    )


def test_a_batch_is_set_once_what_it_cannot_be_combined_with_is_taken_away() -> None:
    batch = {"batchEvents": {"maxSize": 2, "timeout": "1s"}}
    assert refused(batch) == [("batchEvents", "combo_unsupported")] * 3
    effective = override_config(FULL, {**batch, "debounce": None, "priority": None, "singleton": None}, check)
    assert effective.batch == Batch(2, 1_000)


def test_the_codes_batch_goes_with_nothing_that_is_set() -> None:
    batched = config(batchEvents={"maxSize": 2, "timeout": "1s"})
    assert refused({"singleton": {"mode": "skip"}}, batched) == [("batchEvents", "combo_unsupported")]
    assert refused({"batchEvents": {"maxSize": 3, "timeout": "1s"}}, config(cancel=[{"event": "z"}])) == [
        ("batchEvents", "combo_unsupported")
    ]


def test_without_the_codes_idempotency_its_rate_limit_is_in_force_again() -> None:
    once = config(idempotency="event.data.id", rateLimit={"limit": 10, "period": "1h"})
    assert once.rate_limit == RateLimit(1, DAY, "event.data.id")
    effective = override_config(once, {"idempotency": None})
    assert (effective.idempotency, effective.rate_limit) == (None, RateLimit(10, HOUR))
    limit = {"limit": 3, "period": "1m"}
    assert refused({"rateLimit": limit}, once) == [("rateLimit", "config_invalid")]
    assert override_config(once, {"rateLimit": limit, "idempotency": None}).rate_limit == RateLimit(3, 60_000)
    assert override_config(once, {"rateLimit": None}).rate_limit == once.rate_limit


@pytest.mark.parametrize(
    ("overrides", "field", "code"),
    [
        ({"concurrency": -1}, "concurrency", "concurrency_limit_invalid"),
        ({"concurrency": {"limit": 1, "scope": "env"}}, "concurrency[0].key", "concurrency_limit_invalid"),
        ({"throttle": {"limit": 1}}, "throttle.period", "config_invalid"),
        ({"throttle": {"limit": 1, "period": "1s", "key": "=="}}, "throttle.key", "config_invalid"),
        ({"rateLimit": {"limit": 0, "period": "1s"}}, "rateLimit.limit", "config_invalid"),
        ({"rateLimit": {"limit": 1, "period": "25h"}}, "rateLimit.period", "config_invalid"),
        ({"debounce": {"period": "8d"}}, "debounce.period", "config_invalid"),
        ({"priority": {"run": "=="}}, "priority.run", "config_invalid"),
        ({"priority": 5}, "priority", "config_invalid"),
        ({"timeouts": {"start": "soon"}}, "timeouts.start", "config_invalid"),
        ({"singleton": {"mode": "queue"}}, "singleton.mode", "config_invalid"),
        ({"retries": -1}, "retries", "config_invalid"),
        ({"retries": 21}, "retries", "config_invalid"),
        ({"retries": "3"}, "retries", "config_invalid"),
        ({"idempotency": "=="}, "idempotency", "config_invalid"),
        ({"idempotency": 5}, "idempotency", "config_invalid"),
        ({"rate_limit": {}}, "rate_limit", "config_invalid"),
        ({"": 1}, "", "config_invalid"),
    ],
)
def test_what_is_refused(overrides: dict[str, object], field: str, code: str) -> None:
    assert refused(overrides) == [(field, code)]


@pytest.mark.parametrize("field", ["id", "name", "url", "triggers", "steps", "cancel", "checkpoint", "URL"])
def test_what_belongs_to_the_code_is_refused_also_as_null(field: str) -> None:
    for value in (None, "x", []):
        assert refused({field: value}) == [(field, "config_invalid")]
    with pytest.raises(RegistrationError, match="belongs to the code of the function"):
        override_config(FULL, {field: None})


def test_an_unknown_field_is_told_what_there_is() -> None:
    with pytest.raises(
        RegistrationError, match="burst cannot be set at run time; what can is concurrency, throttle"
    ):
        override_config(FULL, {"burst": 1})


def test_a_field_given_twice_in_two_spellings_is_refused() -> None:
    assert refused({"retries": 1, "Retries": 2}) == [("Retries", "config_invalid")]


def test_an_expression_is_told_with_its_place() -> None:
    with pytest.raises(RegistrationError) as caught:
        override_config(FULL, {"throttle": {"limit": 1, "period": "1s", "key": "1 =="}}, check)
    assert "throttle.key" in str(caught.value)
    assert "line 1, column 3: unexpected end.\n    1 ==\n      ^" in str(caught.value)


def test_nothing_set_is_what_the_code_says() -> None:
    assert override_config(FULL, {}) == FULL


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["1s", "30h", "1 ==", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["limit", "period", "key", "burst", "scope", "fn", "step", "run", "mode", "maxSize"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from([*FIELDS, "id", "ratelimit"]) | st.text(max_size=4), VALUES, max_size=4)
)
def test_any_overrides_give_a_configuration_or_a_named_refusal(overrides: dict[str, object]) -> None:
    effective: FunctionConfig = FULL
    problems: tuple[Problem | None, ...] = ()
    try:
        effective = override_config(FULL, overrides, check)
    except RegistrationError as refusal:
        problems = refusal.problems or (None,)
    assert all(problem is not None and problem.message and problem.code for problem in problems)
    assert (effective.triggers, effective.raw) == (FULL.triggers, FULL.raw)
