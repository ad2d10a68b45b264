"""Every rule of a function's configuration: what is read, what is refused, with which word, and how it is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import ExpressionError
from perdure.protocol.function_rules import load_function, read_function
from perdure.protocol.functions import (
    Batch,
    Cancel,
    Checkpoint,
    ConcurrencyLimit,
    Debounce,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    Trigger,
)

URL = "http://localhost:3000/api/inngest?fnId=app-fn&stepId=step"
HOUR, DAY = 3_600_000, 86_400_000


def check_expression(text):
    if text.endswith("=="):
        raise ExpressionError("unexpected end of the expression.", 14)


def check_cron(text):
    if text == "61 * * * *":
        raise ValueError("minute 61 is not in 0-59")


def config(**fields):
    return {
        "id": "app-fn",
        "name": "fn",
        "triggers": [{"event": "a/b"}],
        "steps": {"step": {"id": "step", "name": "step", "runtime": {"type": "http", "url": URL}}},
        **fields,
    }


def read(value):
    return read_function(json.dumps(value).encode(), check_expression, check_cron)


def good(**fields):
    function, problems = read(config(**fields))
    assert problems == []
    return function


def bad(**fields):
    """The problems as (field, code)."""
    return [(problem.field, problem.code) for problem in read(config(**fields))[1]]


def test_the_smallest_function():
    function = good()
    assert (function.id, function.name, function.url, function.runtime_type) == ("app-fn", "fn", URL, "http")
    assert function.triggers == (Trigger("a/b"),)
    assert (function.retries, function.concurrency, function.rate_limit) == (None, (), None)
    assert json.loads(function.raw) == config()


def test_everything_that_can_be_said():
    function = good(
        name="My function",
        triggers=[
            {"event": "shop/order.created", "expression": "event.data.total > 10"},
            {"cron": "TZ=Europe/Paris 0 12 * * 5", "jitter": "30s"},
        ],
        retries=9,
        concurrency=[{"limit": 5, "key": "event.data.user", "scope": "fn"}],
        rateLimit={"limit": 10, "period": "1h", "key": "event.data.user"},
        throttle={"limit": 10, "period": "1m", "burst": 2, "key": "event.data.user"},
        debounce={"period": "10s", "key": "event.data.user", "timeout": "1m"},
        priority={"run": "event.data.vip ? 120 : 0"},
        cancel=[
            {"event": "x/cancelled", "if": "event.data.id == async.data.id", "timeout": "1h"},
            {"event": "y/cancelled", "timeout": "2030-01-31T09:00:00Z"},
        ],
        timeouts={"start": "10s", "finish": "1h"},
        singleton={"key": "event.data.user", "mode": "cancel"},
        checkpoint={"batch_steps": 1, "batch_interval": "0s", "max_runtime": "10s"},
    )
    assert function.triggers == (
        Trigger("shop/order.created", "event.data.total > 10"),
        Trigger(cron="TZ=Europe/Paris 0 12 * * 5", jitter_ms=30_000),
    )
    key = "event.data.user"
    assert function.retries == 9
    assert function.concurrency == (ConcurrencyLimit(5, key),)
    assert function.rate_limit == RateLimit(10, HOUR, key)
    assert function.throttle == Throttle(10, 60_000, 2, key)
    assert function.debounce == Debounce(10_000, key, 60_000)
    assert function.priority == "event.data.vip ? 120 : 0"
    assert function.cancel == (
        Cancel("x/cancelled", "event.data.id == async.data.id", HOUR),
        Cancel("y/cancelled", until_ms=1_896_080_400_000),
    )
    assert function.timeouts == Timeouts(10_000, HOUR)
    assert function.singleton == Singleton("cancel", key)
    assert function.checkpoint == Checkpoint(1, 0, 10_000)


def test_a_batch():
    batch = {"maxSize": 100, "timeout": "10s", "key": "event.data.user", "if": "event.data.batch == true"}
    assert good(batchEvents=batch).batch == Batch(100, 10_000, "event.data.user", "event.data.batch == true")


def test_nulls_and_empty_lists_are_nothing():
    function = good(
        cancel=[],
        concurrency=[],
        rateLimit=None,
        throttle=None,
        debounce=None,
        priority=None,
        batchEvents=None,
        timeouts={"start": None},
        idempotency=None,
        singleton=None,
        checkpoint=None,
        retries=None,
        unknown={"what": "ever"},
    )
    assert function.cancel == ()
    assert function.concurrency == ()
    assert good(concurrency={"scope": None}).concurrency == ()
    assert good(concurrency=[{"limit": 2, "key": None, "scope": None}]).concurrency == (ConcurrencyLimit(2),)
    assert good(debounce={"period": "5s", "key": ""}).debounce == Debounce(5_000)
    assert good(priority={}).priority is None


def test_names_are_matched_without_regard_to_case():
    value = {name.upper() if name != "steps" else name: each for name, each in config().items()}
    value["RATELIMIT"] = {"LIMIT": 1, "Period": "1s"}
    function, problems = read(value)
    assert problems == []
    assert (function.id, function.rate_limit) == ("app-fn", RateLimit(1, 1_000))


def test_a_function_without_triggers_can_only_be_invoked():
    assert good(triggers=[]).triggers == ()
    assert good(triggers=None).triggers == ()


def test_reserved_names_are_taken_as_triggers():
    failure = {"event": "inngest/function.failed", "expression": "event.data.function_id == 'my-app-my-fn'"}
    assert good(triggers=[failure]).triggers == (Trigger(failure["event"], failure["expression"]),)


@pytest.mark.parametrize("cron", ["@daily", "*/10 * * * * *", "0 9 * * 1-5", "CRON_TZ=UTC 0 9 * * *"])
def test_schedules_that_the_check_takes_are_taken(cron):
    assert good(triggers=[{"cron": cron}]).triggers == (Trigger(cron=cron),)


@pytest.mark.parametrize(
    ("triggers", "expected"),
    [
        ([{"event": f"a/{n}"} for n in range(11)], [("triggers", "config_invalid")]),
        ([{"event": "a"}, {"event": "a"}], [("triggers[1]", "config_invalid")]),
        (
            [{"cron": "* * * * *"}, {"cron": "* * * * *", "jitter": "1s"}],
            [("triggers[1]", "schedule_invalid")],
        ),
        ([{"event": ""}, {"event": ""}], [(f"triggers[{n}].event", "event_name_invalid") for n in (0, 1)]),
        ([{"event": "x" * 256}], [("triggers[0].event", "event_name_invalid")]),
        ([{"event": ""}], [("triggers[0].event", "event_name_invalid")]),
        ([{"event": 5}], [("triggers[0].event", "event_name_invalid")]),
        ([{"event": "a", "expression": "event.data. =="}], [("triggers[0].expression", "config_invalid")]),
        ([{"event": "a", "expression": 5}], [("triggers[0].expression", "config_invalid")]),
        ([{"event": "a", "cron": "* * * * *"}], [("triggers[0].cron", "config_invalid")]),
        ([{}], [("triggers[0].event", "config_invalid")]),
        (["a"], [("triggers[0]", "config_invalid")]),
        ("a", [("triggers", "config_invalid")]),
        ([{"cron": "61 * * * *"}], [("triggers[0].cron", "schedule_invalid")]),
        ([{"cron": ""}], [("triggers[0].cron", "schedule_invalid")]),
        ([{"cron": "*" * 256}], [("triggers[0].cron", "schedule_invalid")]),
        ([{"cron": "* * * * *", "jitter": "6m"}], [("triggers[0].jitter", "schedule_invalid")]),
        ([{"cron": "* * * * *", "jitter": "999ms"}], [("triggers[0].jitter", "schedule_invalid")]),
        ([{"cron": "* * * * *", "jitter": "5m1ms"}], [("triggers[0].jitter", "schedule_invalid")]),
        ([{"cron": "* * * * *", "jitter": 30}], [("triggers[0].jitter", "schedule_invalid")]),
        ([{"cron": 5}], [("triggers[0].cron", "schedule_invalid")]),
    ],
)
def test_triggers_that_are_refused(triggers, expected):
    assert bad(triggers=triggers) == expected


@pytest.mark.parametrize(("jitter", "ms"), [("1s", 1_000), ("5m", 300_000), ("", 0), (None, 0)])
def test_jitters_at_the_edges(jitter, ms):
    assert good(triggers=[{"cron": "@daily", "jitter": jitter}]).triggers[0].jitter_ms == ms


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            {"cron": "@daily", "jitter": "5m"},
            'triggers[1] is "@daily"; triggers[0] has the same schedule, whatever the jitter: remove one of them.',
        ),
        ({"event": "a"}, None),
        ({"cron": "0 0 * * *"}, None),
    ],
)
def test_the_same_schedule_twice_is_refused_whatever_the_jitter(second, message):
    _, problems = read(config(triggers=[{"cron": "@daily", "jitter": "1s"}, second]))
    assert [problem.message for problem in problems] == ([message] if message else [])


def test_the_same_event_with_another_expression_is_another_trigger():
    triggers = [{"event": "a"}, {"event": "a", "expression": "event.data.x == 1"}]
    assert len(good(triggers=triggers).triggers) == 2


# Where and how often it is called


@pytest.mark.parametrize(
    ("runtime", "url", "runtime_type"),
    [
        ({"type": "http", "url": URL}, URL, "http"),
        (
            {"type": "ws", "url": "ws://connect?fnId=a&stepId=step"},
            "ws://connect?fnId=a&stepId=step",
            "ws",
        ),
        ({"url": "https://x.dev"}, "https://x.dev", "http"),
    ],
)
def test_where_it_is_called(runtime, url, runtime_type):
    function = good(steps={"step": {"id": "step", "runtime": runtime}})
    assert (function.url, function.runtime_type) == (url, runtime_type)


RUNTIME = {"type": "http", "url": URL}


@pytest.mark.parametrize(
    ("steps", "field"),
    [
        ({}, "steps"),
        (None, "steps"),
        ([], "steps"),
        ({"step": {"runtime": RUNTIME}, "second": {"runtime": RUNTIME}}, "steps"),
        ({"other": {"runtime": RUNTIME}}, "steps"),
        ({"step": {"id": "other", "runtime": RUNTIME}}, "steps.step.id"),
        ({"step": {"id": ["step"], "runtime": RUNTIME}}, "steps.step.id"),
        ({"step": 5}, "steps.step"),
        ({"step": {"id": "step"}}, "steps.step.runtime"),
        ({"step": {"runtime": {"type": "grpc", "url": URL}}}, "steps.step.runtime.type"),
        ({"step": {"runtime": {"type": "http"}}}, "steps.step.runtime.url"),
        ({"step": {"runtime": {"url": "ftp://x"}}}, "steps.step.runtime.url"),
        ({"step": {"runtime": {"url": "http://x:port"}}}, "steps.step.runtime.url"),
        ({"step": {"runtime": RUNTIME, "retries": {"attempts": -1}}}, "steps.step.retries.attempts"),
        ({"step": {"runtime": RUNTIME, "retries": {"attempts": "3"}}}, "steps.step.retries.attempts"),
    ],
)
def test_steps_that_are_refused(steps, field):
    assert bad(steps=steps) == [(field, "config_invalid")]


@pytest.mark.parametrize(
    ("of_step", "of_function", "retries"),
    [(3, 9, 3), (None, 9, 9), (None, None, None), (0, 9, 0), (30, None, 20), (3.0, None, 3)],
)
def test_how_often_it_is_tried_again(of_step, of_function, retries):
    steps = {"step": {"id": "step", "runtime": RUNTIME, "retries": {"attempts": of_step}}}
    assert good(steps=steps, retries=of_function).retries == retries


@pytest.mark.parametrize("retries", [-1, 1.5, "3", True, []])
def test_retries_that_are_refused(retries):
    assert bad(retries=retries) == [("retries", "config_invalid")]


# Concurrency


@pytest.mark.parametrize(
    ("value", "steps", "runs"),
    [
        (5, (ConcurrencyLimit(5),), None),
        (0, (), None),
        ({"limit": 2, "key": "event.data.u"}, (ConcurrencyLimit(2, "event.data.u"),), None),
        (
            [{"limit": 1}, {"limit": 3, "key": '"openai"', "scope": "account"}],
            (ConcurrencyLimit(1), ConcurrencyLimit(3, '"openai"', "account")),
            None,
        ),
        ([{"limit": 0}, {"limit": 3}], (ConcurrencyLimit(3),), None),
        ({"fn": [{"limit": 1}]}, (), ConcurrencyLimit(1)),
        (
            {"fn": [{"limit": 1, "scope": "fn"}], "step": [{"limit": 2}]},
            (ConcurrencyLimit(2),),
            ConcurrencyLimit(1),
        ),
        ({"fn": [], "step": 4}, (ConcurrencyLimit(4),), None),
    ],
)
def test_concurrency_in_all_its_forms(value, steps, runs):
    function = good(concurrency=value)
    assert (function.concurrency, function.run_concurrency) == (steps, runs)


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        (-1, ["concurrency"]),
        ("5", ["concurrency"]),
        ([5], ["concurrency[0]"]),
        ({"limit": -1}, ["concurrency[0].limit"]),
        ({"limit": 1.5}, ["concurrency[0].limit"]),
        ([{"limit": 1}] * 3, ["concurrency"]),
        ({"limit": 1, "scope": "account"}, ["concurrency[0].key"]),
        ({"limit": 1, "scope": "env", "key": ""}, ["concurrency[0].key"]),
        ({"limit": 1, "scope": "planet"}, ["concurrency[0].scope"]),
        ({"limit": 1, "key": "=="}, ["concurrency[0].key"]),
        ({"fn": [{"limit": 1}, {"limit": 2}]}, ["concurrency.fn"]),
        ({"fn": [{"limit": 1, "scope": "env", "key": "1"}]}, ["concurrency.fn"]),
        ({"step": [{"limit": 1}] * 3}, ["concurrency.step"]),
        ({"fn": [{"limit": 1}], "limit": 5}, ["concurrency.limit"]),
        (2**31, ["concurrency"]),
        ({"limit": 2**31}, ["concurrency[0].limit"]),
        (True, ["concurrency"]),
    ],
)
def test_concurrency_that_is_refused(value, fields):
    assert bad(concurrency=value) == [(field, "concurrency_limit_invalid") for field in fields]


# Rates


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ({"limit": 0, "period": "1s"}, ["rateLimit.limit"]),
        ({"period": "1s"}, ["rateLimit.limit"]),
        ({"limit": 1}, ["rateLimit.period"]),
        ({"limit": 1, "period": "999ms"}, ["rateLimit.period"]),
        ({"limit": 1, "period": "24h1s"}, ["rateLimit.period"]),
        ({"limit": 1, "period": 60}, ["rateLimit.period"]),
        ({"limit": 1, "period": "1s", "key": "=="}, ["rateLimit.key"]),
        (5, ["rateLimit"]),
        ({"limit": 2**31, "period": "1s"}, ["rateLimit.limit"]),
        ({"limit": "5", "period": "1s"}, ["rateLimit.limit"]),
        ({"limit": 1, "period": "1 hour"}, ["rateLimit.period"]),
    ],
)
def test_rate_limits_that_are_refused(value, fields):
    assert bad(rateLimit=value) == [(field, "config_invalid") for field in fields]


@pytest.mark.parametrize("period", ["1s", "24h", "1d"])
def test_rate_limits_at_the_edges(period):
    assert good(rateLimit={"limit": 1, "period": period}).rate_limit is not None


def test_idempotency_is_a_rate_limit_and_replaces_any_other():
    function = good(idempotency="event.data.cartId", rateLimit={"limit": 10, "period": "1h"})
    assert function.rate_limit == RateLimit(1, DAY, "event.data.cartId")
    assert function.idempotency == "event.data.cartId"
    assert bad(idempotency="==") == [("idempotency", "config_invalid")]


@pytest.mark.parametrize(
    ("value", "throttle"),
    [
        ({"limit": 0, "period": "1s"}, Throttle(1, 1_000)),
        ({"period": "2m"}, Throttle(1, 120_000)),
        ({"limit": 3, "period": "365d", "burst": 0}, Throttle(3, 365 * DAY)),
        ({"limit": 2**31 - 1, "period": "1s", "burst": 2**31 - 1}, Throttle(2**31 - 1, 1_000, 2**31 - 1)),
    ],
)
def test_throttles(value, throttle):
    assert good(throttle=value).throttle == throttle


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"limit": -1, "period": "1s"}, "throttle.limit"),
        ({"limit": 1, "period": "500ms"}, "throttle.period"),
        ({"limit": 1, "period": ""}, "throttle.period"),
        ({"limit": 1, "period": "1s", "burst": -1}, "throttle.burst"),
        ({"limit": 1, "period": "1s", "key": "=="}, "throttle.key"),
        ({"limit": 2**31, "period": "1s"}, "throttle.limit"),
        ({"limit": 1, "period": "1s", "burst": 2**31}, "throttle.burst"),
        ({"limit": 1, "period": "365d", "burst": 10}, "throttle.burst"),
        ({"limit": 1, "period": "100000d"}, "throttle.period"),
    ],
)
def test_throttles_that_are_refused(value, field):
    assert bad(throttle=value) == [(field, "config_invalid")]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "debounce.period"),
        ({"period": "999ms"}, "debounce.period"),
        ({"period": "7d1s"}, "debounce.period"),
        ({"period": "1s", "timeout": "x"}, "debounce.timeout"),
        ({"period": "1s", "key": "=="}, "debounce.key"),
    ],
)
def test_debounces_that_are_refused(value, field):
    assert bad(debounce=value) == [(field, "config_invalid")]


def test_debounces_at_the_edges():
    assert good(debounce={"period": "7d"}).debounce == Debounce(7 * DAY)
    assert good(debounce={"period": "1s"}).debounce == Debounce(1_000)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"maxSize": 1, "timeout": "1s"}, ("batchEvents.maxSize", "batch_size_invalid")),
        ({"timeout": "1s"}, ("batchEvents.maxSize", "batch_size_invalid")),
        ({"maxSize": 2**31, "timeout": "1s"}, ("batchEvents.maxSize", "batch_size_invalid")),
        ({"maxSize": 2, "timeout": 1}, ("batchEvents.timeout", "batch_timeout_invalid")),
        ({"maxSize": 2}, ("batchEvents.timeout", "batch_timeout_invalid")),
        ({"maxSize": 2, "timeout": "0.5s"}, ("batchEvents.timeout", "batch_timeout_invalid")),
        ({"maxSize": 2, "timeout": "1s", "key": "=="}, ("batchEvents.key", "batch_key_expression_invalid")),
        ({"maxSize": 2, "timeout": "1s", "if": "=="}, ("batchEvents.if", "batch_if_expression_invalid")),
    ],
)
def test_batches_that_are_refused(value, expected):
    assert bad(batchEvents=value) == [expected]


@pytest.mark.parametrize(
    "other",
    [
        {"cancel": [{"event": "z"}]},
        {"debounce": {"period": "1s"}},
        {"singleton": {"mode": "skip"}},
        {"priority": {"run": "1"}},
    ],
)
def test_what_a_batch_cannot_be_combined_with(other):
    _, (problem,) = read(config(batchEvents={"maxSize": 2, "timeout": "1s"}, **other))
    assert (problem.field, problem.code) == ("batchEvents", "combo_unsupported")
    (name,) = other
    assert problem.message == (
        f"batchEvents cannot be combined with {name}, which follows one event; remove one of the two."
    )


def test_what_a_batch_can_be_combined_with():
    good(batchEvents={"maxSize": 2, "timeout": "1s"}, cancel=[], rateLimit={"limit": 1, "period": "1s"})


# The rest


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([{"event": "z"}] * 6, ("cancel", "config_invalid")),
        ([{"event": ""}], ("cancel[0].event", "event_name_invalid")),
        ([{}], ("cancel[0].event", "event_name_invalid")),
        ([{"event": "z", "if": "=="}], ("cancel[0].if", "config_invalid")),
        ([{"event": "z", "timeout": "soon"}], ("cancel[0].timeout", "config_invalid")),
        ([{"event": "z", "timeout": "-1s"}], ("cancel[0].timeout", "config_invalid")),
        ([5], ("cancel[0]", "config_invalid")),
    ],
)
def test_cancellations_that_are_refused(value, expected):
    assert bad(cancel=value) == [expected]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"priority": {"run": "=="}}, ("priority.run", "config_invalid")),
        ({"singleton": {"mode": "queue"}}, ("singleton.mode", "config_invalid")),
        ({"singleton": {"key": "=="}}, ("singleton.key", "config_invalid")),
        ({"timeouts": {"start": "x"}}, ("timeouts.start", "config_invalid")),
        ({"timeouts": {"finish": "-1s"}}, ("timeouts.finish", "config_invalid")),
        ({"checkpoint": {"batch_steps": -1}}, ("checkpoint.batch_steps", "config_invalid")),
        ({"id": ""}, ("id", "config_invalid")),
        ({"id": None}, ("id", "config_invalid")),
        ({"id": 5}, ("id", "config_invalid")),
        ({"name": 5}, ("name", "config_invalid")),
    ],
)
def test_other_fields_that_are_refused(fields, expected):
    assert expected in bad(**fields)


def test_defaults():
    assert good(singleton={}).singleton == Singleton("skip")
    assert good(timeouts={"start": "", "finish": "0s"}).timeouts == Timeouts()
    assert good(name=None).name == "app-fn"


@pytest.mark.parametrize("value", [None, 5, "x", []])
def test_a_function_that_is_no_object(value):
    _, problems = read(value)
    assert [problem.message for problem in problems] == ["A function must be a JSON object."]


# How problems are told


def test_a_problem_names_field_value_limit_and_remedy():
    _, problems = read(config(batchEvents={"maxSize": 1, "timeout": "10ms"}))
    assert [(problem.function, problem.field, problem.value, problem.message) for problem in problems] == [
        (
            "app-fn",
            "batchEvents.maxSize",
            "1",
            "batchEvents.maxSize is 1; it must be a whole number of 2 or more.",
        ),
        (
            "app-fn",
            "batchEvents.timeout",
            '"10ms"',
            'batchEvents.timeout is "10ms"; it must be a duration of 1s or more, written like "30s" or "1h30m".',
        ),
    ]


def test_an_expressions_error_is_told_with_its_place():
    _, (problem,) = read(config(triggers=[{"event": "a", "expression": "event.data. =="}]))
    assert (problem.function, problem.field) == ("app-fn", "triggers[0].expression")
    assert problem.message.splitlines() == [
        'triggers[0].expression is "event.data. =="; it does not compile: '
        "line 1, column 15: unexpected end of the expression.",
        "    event.data. ==",
        "                  ^",
    ]


def test_a_schedules_error_is_told_with_its_reason():
    _, (problem,) = read(config(triggers=[{"cron": "61 * * * *"}]))
    assert problem.message == 'triggers[0].cron is "61 * * * *"; minute 61 is not in 0-59.'


def test_a_number_that_is_too_large_is_told_with_its_bound():
    _, (problem,) = read(config(rateLimit={"limit": 10**30, "period": "1s"}))
    assert problem.message == (f"rateLimit.limit is {10**30}; it must be a whole number of 1 to 2147483647.")


@pytest.mark.parametrize("raw", [b'{"id": 1e999}', b"[" * 2_000, b'{"id": "a"'])
def test_a_configuration_that_cannot_be_decoded(raw):
    _, (problem,) = read_function(raw, check_expression, check_cron)
    assert problem.message.startswith("The function's configuration cannot be read: ")


def test_a_long_value_is_shortened_where_it_is_told():
    _, (problem,) = read(config(triggers=[{"event": "x" * 10_000}]))
    assert len(problem.message) < 400


def test_all_problems_are_found_at_once():
    assert bad(
        triggers=[{"cron": "61 * * * *"}, {"event": "a", "expression": "=="}],
        rateLimit={"limit": 0, "period": "2d"},
        singleton={"mode": "x"},
        concurrency=-1,
    ) == [
        ("concurrency", "concurrency_limit_invalid"),
        ("triggers[0].cron", "schedule_invalid"),
        ("triggers[1].expression", "config_invalid"),
        ("rateLimit.period", "config_invalid"),
        ("rateLimit.limit", "config_invalid"),
        ("singleton.mode", "config_invalid"),
    ]


# From the store


def test_a_stored_configuration_is_loaded_without_compiling_anything():
    raw = json.dumps(config(triggers=[{"event": "a", "expression": "=="}])).encode()
    function = load_function(raw)
    assert function.triggers == (Trigger("a", "=="),)
    assert function.raw == raw


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff"])
def test_a_broken_stored_configuration_says_so(raw):
    with pytest.raises(ValueError, match="The stored configuration of function"):
        load_function(raw)


NAMES = st.sampled_from(
    [
        "id",
        "name",
        "triggers",
        "steps",
        "step",
        "runtime",
        "url",
        "type",
        "retries",
        "attempts",
        "event",
        "expression",
        "cron",
        "jitter",
        "concurrency",
        "fn",
        "limit",
        "key",
        "scope",
        "rateLimit",
        "period",
        "throttle",
        "burst",
        "debounce",
        "timeout",
        "priority",
        "run",
        "batchEvents",
        "maxSize",
        "if",
        "cancel",
        "timeouts",
        "start",
        "finish",
        "idempotency",
        "singleton",
        "mode",
        "checkpoint",
        "batch_steps",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1s", "step", URL]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=15,
)


@given(st.dictionaries(NAMES, VALUES, max_size=8) | VALUES)
def test_any_json_is_read_or_refused(value):
    function, problems = read(value)
    for problem in problems:
        assert problem.message.endswith(".")
        assert problem.code
    if not problems:
        assert function.id
        assert function.url
