"""Whatever an app sends for a function, it is registered and can be used, or refused with names."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.cron import check_cron, next_fire
from perdure.core.expressions import compile_expression
from perdure.core.flow.admission import Known, Origin, Start, admit, ask
from perdure.core.flow.stored import Arrival
from perdure.core.functions import Function
from perdure.core.settings import Settings
from perdure.protocol.function_rules import load_function
from perdure.protocol.problems import Problem
from perdure.protocol.registration import Registration, RegistrationError, read_registration, register_error

NOW = 1_790_000_000_000
EVENT: dict[str, object] = {"name": "a/b", "data": {"user": "u", "n": 3}, "user": {}, "ts": NOW, "id": "e"}


def either(good: list[Any], bad: list[Any]) -> st.SearchStrategy[Any]:
    """Mostly what is right, so that whole functions pass too."""
    return st.sampled_from(good * (1 + 4 * len(bad) // len(good)) + bad)


def some(required: dict[str, Any] | None = None, **fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """An object with the required fields and any of the others."""
    return st.fixed_dictionaries(required or {}, optional=fields)


EXPRESSION = either(
    ["event.data.user", "event.data.n > 2", "'x'", "event.gone", None, ""],
    ["event.data. ==", "evnt.x", "(", "1 +\n\n* 2", "'", 5, [], "\ud800", "(" * 50],
)
DURATION = either(
    ["1s", "30s", "5m", "1h", "24h", "7d"],
    ["0s", "999ms", "5m1s", "25h", "8d", "300y", "1 s", "-1s", "", None, 5, "9" * 70 + "s", "106751d", "é"],
)
COUNT = either([1, 2, 5, 100, 2.0], [0, -1, 1.5, "3", None, True, 2**31, 2**63, 10**30, 1e300, []])
CRON = either(
    [
        "* * * * *",
        "*/5 * * * * *",
        "@daily",
        "TZ=Europe/Paris 0 9 * * 1-5",
        "CRON_TZ=UTC @hourly",
        "0 0 L * 5L",
    ],
    [
        "",
        "* * * *",
        "@never",
        "TZ=Mars 0 0 * * *",
        "0 0 31 2 *",
        "61 * * * *",
        "0 0 * * 1#9",
        "*" * 256,
        5,
        None,
    ],
)
NAME = either(["a/b", "c", "inngest/function.failed", "a/*"], ["", "x" * 256, None, 5, {}])
LIMIT = some(limit=COUNT, key=EXPRESSION, scope=either(["fn", "env", "account", None], ["planet", 5]))
LIMITS = COUNT | LIMIT | st.lists(LIMIT, max_size=3)
FIELDS = some(
    {
        "id": either(["app-fn"], ["", None, 5]),
        "steps": st.just(
            {"step": {"id": "step", "runtime": {"type": "http", "url": "http://localhost:3000"}}}
        )
        | st.just({}),
    },
    triggers=st.lists(
        some({"event": NAME}, expression=EXPRESSION) | some({"cron": CRON}, jitter=DURATION), max_size=3
    ),
    retries=either([0, 3, 20, 30, None], [-1, 2.5, "3"]),
    concurrency=LIMITS | some(fn=LIMITS, step=LIMITS),
    rateLimit=some({"limit": COUNT, "period": DURATION}, key=EXPRESSION),
    throttle=some({"limit": COUNT, "period": DURATION}, burst=COUNT, key=EXPRESSION),
    debounce=some({"period": DURATION}, timeout=DURATION, key=EXPRESSION),
    priority=some(run=EXPRESSION),
    batchEvents=some({"maxSize": COUNT, "timeout": DURATION}, key=EXPRESSION) | st.none(),
    cancel=st.lists(
        some({"event": NAME, "if": EXPRESSION}, timeout=DURATION | st.just("2030-01-01T00:00:00Z"))
    ),
    timeouts=some(start=DURATION, finish=DURATION),
    idempotency=EXPRESSION,
    singleton=some(mode=either(["skip", "cancel"], ["queue", 1]), key=EXPRESSION),
    checkpoint=some(batch_steps=COUNT, batch_interval=DURATION),
    junk=st.integers(),
)


def taken_or_refused(body: bytes) -> Registration | tuple[Problem, ...]:
    def compiles(text: str) -> None:
        compile_expression(text)

    try:
        return read_registration(body, check_expression=compiles, check_cron=check_cron)
    except RegistrationError as refusal:
        assert json.loads(register_error(refusal))["error"]  # noqa: PT017
        return refusal.problems


def use(registration: Registration) -> None:
    """What the engine does with a function that was taken."""
    for config in registration.functions:
        assert load_function(config.raw) == config
        for trigger in config.triggers:
            assert trigger.cron is None or next_fire(trigger.cron, NOW) is not None
        function = Function("id", "app", config, Settings())
        function.triggers and function.triggers[0].meets(EVENT, NOW)
        admission = admit(
            function.rules,
            ask(function.rules, EVENT, Origin.EVENT, NOW),
            Known(),
            EVENT,
            Arrival(1, "e", NOW, 10),
            Origin.EVENT,
            NOW,
            "batch",
        )
        if isinstance(admission, Start):
            assert type(admission.flow).decode(admission.flow.encode()) == admission.flow


@settings(max_examples=400, deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=2))
def test_any_function_is_registered_or_refused_by_name(functions: list[dict[str, Any]]) -> None:
    body = json.dumps({"appName": "app", "url": "http://localhost:3000/api/inngest", "functions": functions})
    outcome = taken_or_refused(body.encode())
    if isinstance(outcome, Registration):
        use(outcome)
        return
    assert outcome
    for problem in outcome:
        assert problem.function == "app-fn" or not all(function["id"] == "app-fn" for function in functions)
        assert problem.field
        assert problem.message.startswith(problem.field)
        assert problem.message.split("\n")[0].endswith(".")
        assert problem.code.endswith(("invalid", "unsupported"))
        assert "Error" not in problem.message


@settings(max_examples=150, deadline=None)
@given(
    FIELDS,
    st.sampled_from(["triggers", "steps", "concurrency", "rateLimit", "cancel", "checkpoint", "id"]),
    st.data(),
)
def test_one_field_of_any_shape_is_taken_or_refused(
    function: dict[str, Any], name: str, data: st.DataObject
) -> None:
    function[name] = data.draw(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
            ),
            max_leaves=6,
        )
    )
    body = json.dumps({"appName": "app", "url": "http://x", "functions": [function]})
    outcome = taken_or_refused(body.encode())
    if isinstance(outcome, Registration):
        use(outcome)


def test_both_outcomes_are_met() -> None:
    """The strategy is no use if it only ever makes functions that are refused, or none that is."""
    met: dict[bool, int] = {True: 0, False: 0}

    @settings(max_examples=300, database=None, deadline=None, derandomize=True)
    @given(FIELDS)
    def look(function: dict[str, Any]) -> None:
        body = json.dumps({"appName": "app", "url": "http://x", "functions": [function]})
        met[isinstance(taken_or_refused(body.encode()), Registration)] += 1

    look()
    assert min(met.values()) >= 20, met
