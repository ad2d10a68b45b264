"""The index never misses: whenever an expression is true, the equality taken from it holds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.expressions import (
    Equality,
    Expression,
    compile_expression,
    equalities,
    equality_value,
    interpolate,
)
from perdure.errors import ExpressionError

EVENT = {
    "name": "order/created",
    "data": {
        "id": "ab_1",
        "n": 5,
        "f": 5.0,
        "half": 0.5,
        "yes": True,
        "nil": None,
        "list": [1],
        "map": {"a": 1},
        "quote": 'a"b\\',
    },
    "user": {"email": "e@x"},
}


def equality(text: str) -> tuple[str, str] | None:
    found = equalities(compile_expression(text), EVENT)
    return None if found is None else (found.path, found.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event.data.id == async.data.id", ("data.id", "s:ab_1")),
        ("async.data.id == event.data.id", ("data.id", "s:ab_1")),
        ("async.data.id == 'x'", ("data.id", "s:x")),
        ("'x' == async.name", ("name", "s:x")),
        ("async['data']['id'] == event['data'].id", ("data.id", "s:ab_1")),
        ("async.data.n == event.data.n", ("data.n", "n:5")),
        ("async.data.n == event.data.f", ("data.n", "n:5")),
        ("async.data.n == event.data.half", ("data.n", "n:0.5")),
        ("async.data.ok == event.data.yes", ("data.ok", "b:true")),
        ("async.data.id == event.data.id + '-' + event.data.n", ("data.id", "s:ab_1-5")),
        ("async.data.id == lowercase('AB') && async.data.n > 3", ("data.id", "s:ab")),
        ("async.data.n > 3 && (async.data.id == 'x' && async.ts > 0)", ("data.id", "s:x")),
        ("async.data.ok == true && async.data.n == 1 && async.data.id == 'x'", ("data.id", "s:x")),
        ("async.data.ok == true && async.data.n == 1", ("data.n", "n:1")),
        ("async.data.a == event.data.gone && async.data.b == 'x'", ("data.b", "s:x")),
        ("async.data.id == [1, 2].filter(async, async > 1)[0]", ("data.id", "n:2")),
        ("async.data.id == event.data.gone + 'x'", ("data.id", "s:x")),
        # What gives no equality: it may be false, or hold for a missing value, while the whole is true.
        ("async.data.id == 'x' || async.data.id == 'y'", None),
        ("async.data.id == 'x' ? true : true", None),
        ("!(async.data.id == 'x')", None),
        ("async.data.id != 'x'", None),
        ("(async.data.id == 'x') == false", None),
        ("async.data.id == event.data.gone", None),
        ("async.data.id == event.data.nil", None),
        ("async.data.id == null", None),
        ("async.data.id == event.data.list", None),
        ("async.data.id == event.data.map", None),
        ("async.data.id == async.data.other", None),
        ("async.data.id == async.data.other + 'x'", None),
        ("async.data.list[0] == 'x'", None),
        ("async.data['a.b'] == 'x'", None),
        ("async.data[event.data.id] == 'x'", None),
        ("async == 'x'", None),
        ("async.ts == string(now())", None),
        ("async.data.t == timestamp(0)", None),
        ("async.data.n == 1 / 0", None),
        ("async.data.n == 0.0 / 0.0", None),
        ("event.data.id == 'ab_1'", None),
        ("lowercase(async.data.id) == 'x'", None),
        ("output.id == 'x'", None),
        ("async.data.list.exists(x, x == 'x')", None),
        ("[{'data': event.data}].exists(async, async.data.id == 'x')", None),
    ],
)
def test_equalities(text: str, expected: tuple[str, str] | None) -> None:
    assert equality(text) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data.id", "s:ab_1"),
        ("data.n", "n:5"),
        ("data.f", "n:5"),
        ("data.half", "n:0.5"),
        ("data.yes", "b:true"),
        ("data.nil", None),
        ("data.list", None),
        ("data.map", None),
        ("data.map.a", "n:1"),
        ("data.gone", None),
        ("data.id.deeper", None),
        ("data.list.0", None),
        ("name", "s:order/created"),
        ("data", None),
    ],
)
def test_equality_value(path: str, expected: str | None) -> None:
    assert equality_value(EVENT, path) == expected


def test_long_values_are_hashed() -> None:
    long, other = "x" * 5_000_000, "x" * 5_000_001
    expression = compile_expression("async.data.id == event.data.id")
    found = equalities(expression, {"data": {"id": long}})
    assert isinstance(found, Equality)
    assert len(found.value) <= 200
    assert equality_value({"data": {"id": long}}, found.path) == found.value
    assert equality_value({"data": {"id": other}}, found.path) != found.value
    assert equality_value({"data": {"id": 10**5000}}, found.path) is not None
    assert equality_value({"data": {"id": "\ud800" * 300}}, found.path) is not None
    # The text of a hash is not the hash.
    assert equality_value({"data": {"id": found.value.removeprefix("s#")}}, found.path) != found.value


POOL: list[object] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.0,
    0.0,
    -0.0,
    1.5,
    2**53,
    2.0**53,
    2**53 + 1,
    10**22,
    1e22,
    2**64,
    2.0**64,
]
POOL += [
    1e300,
    int(1e300),
    float("nan"),
    float("inf"),
    "",
    "1",
    "1.0",
    "true",
    "null",
    "a",
    "s:a",
    [],
    [1],
    [1.0],
    {},
    {"a": 1},
    {"a": None},
]


def test_every_pair_of_values() -> None:
    """Equal values have one key; and values that differ do not share one, so the index is no longer than it need be."""
    expression = compile_expression("async.data.x == event.data.x")
    indexed = 0
    for ours, theirs in itertools.product(POOL, POOL):
        run, incoming = {"data": {"x": ours}}, {"data": {"x": theirs}}
        found = equalities(expression, run)
        is_true = expression.is_true({"event": run, "async": incoming})
        if found is not None:
            indexed += 1
            assert (equality_value(incoming, found.path) == found.value) is is_true, (ours, theirs)
    assert indexed > len(POOL) * 15


VALUES = st.one_of(st.sampled_from([1, 1.0, True, "1", "a"]), st.sampled_from(POOL))
DATA = st.fixed_dictionaries({"a": VALUES, "b": VALUES}, optional={"c": VALUES})
FIELDS = st.sampled_from(
    ["event.data.a", "event.data.b", "async.data.a", "async.data.b", "async.data['c']", "async.data.a.a"]
)
LITERALS = st.sampled_from(["null", "true", "1", "1.0", "'a'", "'1'", "''", "[1]", "0"])
OPERANDS = st.one_of(
    FIELDS,
    FIELDS,
    LITERALS,
    st.builds("({} + {})".format, FIELDS, LITERALS),
    st.builds("({} || {})".format, FIELDS, FIELDS),
    st.builds("[{}, {}].map(async, async)[0]".format, FIELDS, FIELDS),
)
TERMS = st.one_of(
    st.builds("{} == {}".format, OPERANDS, OPERANDS),
    st.builds("{} == {}".format, FIELDS, OPERANDS),
    st.builds("{} {} {}".format, OPERANDS, st.sampled_from(["!=", "<", "<=", ">", ">="]), OPERANDS),
    OPERANDS,
    st.just("true"),
)
CONDITIONS = st.recursive(
    TERMS,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("{} && {}".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        st.builds("!({})".format, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("(({}) == ({}))".format, inner, inner),
    ),
    max_leaves=5,
)


INDEXABLE = st.builds(
    "{} == {}".format,
    st.sampled_from(["async.data.a", "async.data.b"]),
    st.one_of(st.sampled_from(["event.data.a", "event.data.b", "1", "'a'", "true"]), OPERANDS),
)
WAITS = st.one_of(
    CONDITIONS,
    INDEXABLE,
    st.builds("{} && {}".format, INDEXABLE, CONDITIONS),
    st.builds("{} && ({})".format, CONDITIONS, INDEXABLE),
)


def test_whenever_the_whole_is_true_the_equality_holds() -> None:
    seen = {"true": 0, "false": 0, "not indexed": 0}

    @settings(max_examples=2_000, deadline=None)
    @given(WAITS, DATA, DATA)
    def holds(text: str, run_data: object, incoming_data: object) -> None:
        run, incoming = {"data": run_data}, {"data": incoming_data}
        expression = compile_expression(text)
        found = equalities(expression, run)
        if found is None:
            seen["not indexed"] += 1
        elif is_true(expression, run, incoming):
            seen["true"] += 1
            assert equality_value(incoming, found.path) == found.value
        else:
            seen["false"] += 1

    holds()
    assert min(seen.values()) > 8, seen


def is_true(expression: Expression, run: dict[str, object], incoming: dict[str, object]) -> bool:
    try:
        return expression.is_true({"event": run, "async": incoming})
    except ExpressionError:
        return False


def test_bind() -> None:
    wait = compile_expression("event.data.id == async.data.id").bind(EVENT)
    assert wait.equality() == Equality("data.id", "s:ab_1")
    assert wait.text() == '"ab_1" == async.data.id'
    assert wait.is_true({"data": {"id": "ab_1"}}) is True
    assert wait.is_true({"data": {"id": "ab_2"}}) is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event.data.id == async.data.id", '"ab_1" == async.data.id'),
        ("async.data.v <= event.data.n && event.data.f == 1", "async.data.v <= 5 && 5.0 == 1"),
        ("event.data.gone == async.data.x", "null == async.data.x"),
        ("event.data['id'] == async.data.id", '"ab_1" == async.data.id'),
        ("event . data\n . id == async.data.id", '"ab_1" == async.data.id'),
        ("event.data.quote == async.data.id", '"a\\"b\\\\" == async.data.id'),
        ("event.user.email.contains(async.data.x)", '"e@x".contains(async.data.x)'),
        ("async.data.x in event.data.list", "async.data.x in [1]"),
        ("'é😀' == async.x || event.data.yes", "'é😀' == async.x || true"),
        ("has(event.data.id) && event.data.map.a == 1", "has(event.data.id) && 1 == 1"),
        (
            "[{}].exists(event, event.x == 1) && event.data.n == 5",
            "[{}].exists(event, event.x == 1) && 5 == 5",
        ),
        ("async.data.l.exists(x, x == event.data.n)", "async.data.l.exists(x, x == 5)"),
        ("'event.data.id' == async.data.x", "'event.data.id' == async.data.x"),
        ("async.data.id == 'x'", "async.data.id == 'x'"),
    ],
)
def test_interpolate(text: str, expected: str) -> None:
    assert interpolate(compile_expression(text), EVENT) == expected


def test_interpolation_leaves_long_values_as_written() -> None:
    assert interpolate(compile_expression("event.a == async.a"), {"a": "x" * 1000}) == "event.a == async.a"
