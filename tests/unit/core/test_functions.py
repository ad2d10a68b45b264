"""Which functions an event starts."""

from __future__ import annotations

import pytest

from perdure.core.functions import Function, Functions, trigger_names
from perdure.core.settings import Settings
from perdure.errors import ExpressionError
from perdure.protocol.functions import FunctionConfig, Trigger

NOW = 1_700_000_000_000


def function(
    id: str, *triggers: Trigger | str, archived: bool = False, retries: int | None = None
) -> Function:
    config = FunctionConfig(
        f"app-{id}",
        id,
        f"http://example.test/api?fnId=app-{id}&stepId=step",
        tuple(Trigger(event=trigger) if isinstance(trigger, str) else trigger for trigger in triggers),
        retries=retries,
    )
    return Function(f"uuid-{id}", "app", config, Settings(), archived)


def started(
    functions: Functions, name: str, event: dict[str, object] | None = None, now: int = NOW
) -> list[str]:
    return [found.name for found in functions.started_by(name, event, now)]


def holding(*all: Function) -> Functions:
    functions = Functions()
    functions.put_all(list(all))
    return functions


@pytest.mark.parametrize(
    ("event", "names"),
    [
        ("simple", ["simple"]),
        ("api/v1/users", ["api/v1/users", "api/*", "api/v1/*"]),
        ("app/user.created", ["app/user.created", "app/*", "app/user.*"]),
        ("a.b/c.d", ["a.b/c.d", "a.b/*", "a.*", "a.b/c.*"]),
        ("a/", ["a/", "a/*"]),
        ("/", ["/", "/*"]),
        ("", [""]),
    ],
)
def test_names_that_meet_an_event(event: str, names: list[str]) -> None:
    assert list(trigger_names(event)) == names


@pytest.mark.parametrize(
    ("trigger", "event", "meets"),
    [
        ("api/*", "api/v1/users", True),
        ("api/v1/*", "api/v1/users", True),
        ("api/v*", "api/v1/users", False),
        ("api/*", "api", False),
        ("api/*", "apis/x", False),
        ("app/user.*", "app/user.created", True),
        ("app/*.created", "app/user.created", False),
        ("*", "simple", False),
        ("*", "a/b", False),
        ("Simple", "simple", False),
    ],
)
def test_wildcards(trigger: str, event: str, meets: bool) -> None:
    functions = holding(function("f", trigger))
    assert started(functions, event) == (["f"] if meets else [])
    assert functions.has_triggers(event) is meets


def test_a_function_with_several_triggers_starts_once() -> None:
    functions = holding(function("f", "a/b", "a/*", Trigger(event="a/b", expression="true")))
    assert started(functions, "a/b", {}) == ["f"]


class TestExpressions:
    def test_they_decide(self) -> None:
        functions = holding(function("f", Trigger(event="x", expression="event.data.n > 3")))
        assert started(functions, "x", {"data": {"n": 4}}) == ["f"]
        assert started(functions, "x", {"data": {"n": 3}}) == []

    @pytest.mark.parametrize("text", ["event.data.n", "event.data.n + {}"])
    def test_one_that_fails_is_no_match(self, text: str) -> None:
        assert (
            started(holding(function("f", Trigger(event="x", expression=text))), "x", {"data": {"n": 4}})
            == []
        )

    def test_another_trigger_may_still_hold(self) -> None:
        functions = holding(function("f", Trigger(event="x", expression="false"), Trigger(event="x")))
        assert started(functions, "x", {}) == ["f"]

    def test_the_clock(self) -> None:
        text = "now() > timestamp('2023-11-14T22:13:19Z')"
        functions = holding(function("f", Trigger(event="x", expression=text)))
        assert started(functions, "x", {}) == ["f"]
        assert started(functions, "x", {}, NOW - 2_000) == []

    def test_only_they_need_the_body(self) -> None:
        functions = holding(function("f", "x"), function("g", Trigger(event="y/z", expression="true")))
        assert not functions.needs_body("x")
        assert functions.needs_body("y/z")

    def test_one_that_does_not_compile_is_refused(self) -> None:
        with pytest.raises(ExpressionError):
            function("f", Trigger(event="x", expression="event.("))


def test_a_schedule_is_met_by_no_event() -> None:
    functions = holding(function("f", Trigger(cron="* * * * *")))
    assert not functions.has_triggers("")
    assert started(functions, "* * * * *") == []


def test_put_replaces() -> None:
    functions = holding(function("f", "old"))
    functions.put(function("f", "new"))
    assert started(functions, "old") == []
    assert started(functions, "new") == ["f"]


def test_find() -> None:
    functions = holding(function("f"), function("gone", "x", archived=True))
    assert functions.find("app-f") is functions.find("uuid-f") is functions.by_id["uuid-f"]
    assert functions.find("f") is None
    assert functions.find("app-gone") is functions.find("uuid-gone") is None
    assert started(functions, "x") == []
    assert "uuid-gone" in functions.by_id


@pytest.mark.parametrize(("retries", "attempts"), [(None, 4), (0, 1), (3, 4), (20, 21), (30, 21), (-1, 1)])
def test_attempts(retries: int | None, attempts: int) -> None:
    assert function("f", retries=retries).attempts == attempts
