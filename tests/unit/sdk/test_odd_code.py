"""Code that raises and returns odd things, and declarations that are no declarations."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import perdure
from perdure.sdk import codec
from tests.unit.sdk.calls import call, make_app


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def mute() -> None:
    raise Mute


def leave() -> None:
    sys.exit(3)


def shout() -> None:
    raise ValueError("x" * 10_000_000)


@pytest.mark.parametrize(
    ("code", "name", "said"),
    [
        (mute, "Mute", "its text cannot be had"),
        (leave, "SystemExit", "3"),
        (shout, "ValueError", "characters left out"),
    ],
)
async def test_a_step_that_raises_something_odd_fails_like_any_other(code: Any, name: str, said: str) -> None:
    app = make_app()

    @app.function("unit/go")
    async def odd(step: perdure.Step) -> None:
        await step.run("odd", code)

    @app.function("unit/go")
    def odd_sync(step: perdure.SyncStep) -> None:
        step.run("odd", code)

    for fn in ("odd", "odd-sync"):
        told = await call(app, fn)
        assert told.ops == [("StepError", "odd")]
        error = told.body[0]["error"]
        assert error["name"] == name
        assert said in error["message"]
        assert len(error["message"]) < 70_000


@pytest.mark.parametrize(("code", "said"), [(mute, "cannot be had"), (leave, "has called sys.exit(3)")])
async def test_a_function_that_raises_something_odd_is_answered(code: Any, said: str) -> None:
    app = make_app()

    @app.function("unit/go")
    async def odd(step: perdure.Step) -> None:
        code()

    @app.function("unit/go")
    def odd_sync(step: perdure.SyncStep) -> None:
        code()

    for fn in ("odd", "odd-sync"):
        told = await call(app, fn)
        assert told.status == 500
        assert said in told.body["message"]


def test_subclasses_of_plain_types_are_written_as_what_they_are() -> None:
    text = type("Markup", (str,), {"__str__": lambda self: "another"})("<b>")
    number = type("Float64", (float,), {})(1.5)
    count = type("Count", (int,), {})(7)
    assert codec.encode({"a": [text, number, count]}, "It") == b'{"a":["<b>",1.5,7]}'


@pytest.mark.parametrize(
    "options",
    [
        {"retries": "3"},
        {"retries": True},
        {"concurrency": "5"},
        {"concurrency": {"limit": 5}},
        {"concurrency": [1, 2]},
        {"throttle": (1, "1m")},
        {"rate_limit": 10},
        {"debounce": "10s"},
        {"batch": 10},
        {"priority": 5},
        {"cancel_on": "unit/stop"},
        {"cancel_on": ["unit/stop"]},
        {"cancel_on": perdure.event("unit/stop")},
        {"timeouts": "1h"},
        {"idempotency": 3},
        {"singleton": "skip"},
        {"checkpoint": 10},
    ],
)
def test_an_option_of_the_wrong_kind_is_named_with_what_to_write(options: dict[str, Any]) -> None:
    app = make_app()
    (name,) = options
    with pytest.raises(perdure.UsageError, match=rf"{name} of app\.function is given .*; write "):
        app.function("unit/go", **options)


@pytest.mark.parametrize("on", [mute, 3, ["unit/go", 3], {"event": "unit/go"}])
def test_a_decorator_without_its_parentheses_is_told_so(on: Any) -> None:
    with pytest.raises(perdure.UsageError, match=r"parentheses before the handler: @app\.function"):
        make_app().function(on)
