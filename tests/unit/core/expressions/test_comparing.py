"""Why an expression is false: its comparisons with their values."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.expressions import compile_expression
from perdure.core.expressions.comparing import MAX_SHOWN, Comparisons
from perdure.errors import ExpressionError

EVENT = {"data": {"id": "o1", "n": 5, "list": [1, 2], "odd key": 1, "none": None}}


def told(text: str, incoming: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    made = Comparisons(text).of({"event": EVENT, "async": incoming or {}}, 0)
    return [msgspec.to_builtins(each) for each in made]


def test_both_sides_with_their_values():
    assert told("async.data.id == event.data.id", {"data": {"id": "o2"}}) == [
        {
            "left": {"text": "async.data.id", "value": "o2"},
            "operator": "==",
            "right": {"text": "event.data.id", "value": "o1"},
        }
    ]


def test_each_part_of_a_longer_condition():
    found = told(
        "event.data.n > 3 && (event.data.id == 'x' || !(2 in event.data.list)) ? has(event.k) : true"
    )
    assert [(each["left"]["text"], each.get("operator"), each.get("holds", False)) for each in found] == [
        ("event.data.n", ">", True),
        ("event.data.id", "==", False),
        ("2", "in", True),
        ("has(event.k)", None, False),
    ]


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("async.data.id == 1", {"text": "async.data.id", "value": None, "missing": True}),
        ("event.data.none == 1", {"text": "event.data.none", "value": None}),
        ('event.data["odd key"] == 2', {"text": 'event.data["odd key"]', "value": 1}),
        ("event.data.list[1] == 5", {"text": "event.data.list[1]", "value": 2}),
        ("-event.data.n == 2", {"text": "-event.data.n", "value": -5}),
        ("event.data.n + 1 * 2 == 2", {"text": "event.data.n + 1 * 2", "value": 7}),
        ("lowercase(event.data.id) == 'x'", {"text": "lowercase(event.data.id)", "value": "o1"}),
        ("event.data.id.startsWith('o')", {"text": 'event.data.id.startsWith("o")', "value": True}),
        ("[1, event.data.n] == []", {"text": "[1, event.data.n]", "value": [1, 5]}),
        ("{'a': event.data.n} == {}", {"text": '{"a": event.data.n}', "value": {"a": 5}}),
        ("event.data.list.exists(x, x > 5)", {"text": "(a macro over event.data.list)", "value": False}),
        ("b'ab' == event.data.id", {"text": "b'ab'", "value": "YWI="}),
    ],
)
def test_sides_as_somebody_would_write_them(text: str, side: dict[str, Any]):
    assert told(text)[0]["left"] == side


def test_what_cannot_be_computed_is_said():
    assert "lowercase" in told("lowercase(event.data.n) == 'x'")[0]["left"]["error"]


def test_long_values_are_cut():
    (found,) = told("async.data.text == 'x'", {"data": {"text": "y" * 100_000}})
    assert found["left"]["value"] == "y" * MAX_SHOWN + "…"
    (found,) = told("async.data.list == []", {"data": {"list": list(range(10_000))}})
    assert len(found["left"]["value"]) == MAX_SHOWN + 1


def test_a_fault_has_its_position():
    with pytest.raises(ExpressionError):
        Comparisons("async.data.id ==")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["event.data.n > 3", "event.data.id == 'x'", "async.k == 1"]), min_size=1, max_size=4
    )
)
def test_a_conjunction_is_true_just_if_all_its_comparisons_hold(terms: list[str]):
    text = " && ".join(terms)
    variables = {"event": EVENT, "async": {"k": 1}}
    made = Comparisons(text).of(variables, 0)
    assert all(each.holds for each in made) == compile_expression(text).is_true(variables, 0)
