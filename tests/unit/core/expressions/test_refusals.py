"""Expressions that do not compile, and those built to do harm."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.expressions import Expression, compile_expression, equalities, interpolate
from perdure.errors import ExpressionError


def refusal(text: str) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    return caught.value


def attempt(run: Callable[[], object]) -> object:
    """What `run` gives, or the message of its ExpressionError. Anything else that is raised fails the test."""
    try:
        return run()
    except ExpressionError as error:
        return f"refused: {error.message}"


@pytest.mark.parametrize(
    ("text", "position", "part"),
    [
        ("event.data. ==", 12, "Syntax error"),
        ("event.", 6, "Syntax error"),
        ("", 0, "Syntax error"),
        ("   ", 3, "Syntax error"),
        ("event.data.a ==\n  && true", 18, "Syntax error"),
        ("'é' == 'é' x", 11, "extraneous"),
        ("'unclosed", 0, "Syntax error"),
        ("frob(event)", 4, "undeclared reference to 'frob'"),
        ("event.data.frob()", 15, "undeclared reference to 'frob'"),
        ("evnt.data.a == 1", 9, "undeclared reference to 'evnt.data.a'"),
        ("true && oops", 8, "undeclared reference to 'oops'"),
        ("lowercase('a', 'b')", 9, "lowercase"),
        ("lowercase(1)", 9, "found no matching overload"),
        ("'a'.lowercase()", 13, "lowercase"),
        ("'a'.contains(1)", 12, "found no matching overload"),
        ("now(1)", 3, "now"),
        ("9223372036854775808", 0, "int literal"),
        ("event.?a", 0, "unsupported syntax"),
        ("event.all(1, true)", None, ""),
        ("has(event)", None, ""),
        ("google.protobuf.Duration{}", None, "cannot be built"),
    ],
)
def test_compile_errors_say_where(text: str, position: int | None, part: str) -> None:
    error = refusal(text)
    assert part in error.message
    if position is not None:
        assert error.position == position
        if "ERROR" in error.message:
            assert error.message.startswith("ERROR: <input>:")
            assert "INVALID_ARGUMENT" not in error.message


def test_the_text_is_that_of_cel() -> None:
    """People compare it with other CEL tools, and traces show it."""
    assert refusal("event.data. == 1").message.splitlines() == [
        "ERROR: <input>:1:13: Syntax error: no viable alternative at input '. =='",
        " | event.data. == 1",
        " | ............^",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 4000 + "1" + ")" * 4000,
        "[" * 4000 + "]" * 4000,
        "1" + "+1" * 4000,
        "event" + ".a" * 4000,
        "1" + "?1:1" * 2400,
        "[1]" + ".map(x,x)" * 1000,
        "-" * 9000,
        "{1:" * 2000 + "1" + "}" * 2000,
        "event.l.all(x," * 600 + "true" + ")" * 600,
        "9" * 9000,
        "'" + "\\" * 9000,
        "\x00",
        "'\ud800'",
        "a" * 10_001,
        "x" * 5_000_000,
    ],
    ids=range(15),
)
def test_hostile_text_is_refused_in_time(text: str) -> None:
    start = time.perf_counter()
    assert refusal(text).message
    assert time.perf_counter() - start < 1


def test_the_longest_texts_still_compile() -> None:
    """Chains of && and || are balanced by the parser, so only real depth counts."""
    terms = " || ".join(f"event.data.kind == 'k{number}'" for number in range(320))
    assert len(terms) < 10_000
    assert compile_expression(terms).is_true({"event": {"data": {"kind": "k319"}}})
    assert compile_expression("(" * 30 + "1" + ")" * 30).evaluate({}) == 1


def test_compiling_deep_in_the_stack_does_not_overflow() -> None:
    text = "event.l.all(x, event.l.all(y, event.l.all(z, [[[[[x + y + z]]]]] != [])))"

    def at_depth(depth: int) -> None:
        if depth:
            at_depth(depth - 1)
        else:
            outcome = attempt(lambda: compile_expression(text))
            assert isinstance(outcome, Expression) or "nested" in str(outcome)

    for depth in range(0, sys.getrecursionlimit() - 150, 50):
        compile_expression.cache_clear()
        at_depth(depth)


BIG = "a" * 3_000_000


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("event.t.matches('(a+)+$')", {"t": "a" * 100_000 + "b"}),
        ("event.t.matches('(a|aa)+$')", {"t": BIG + "b"}),
        ("event.t.matches('^(([a-z])+.)+[A-Z]([a-z])+$')", {"t": "a" * 200_000}),
        ("event.t.matches('((a{30}){30})$')", {"t": "a" * 200_000 + "b"}),
        ("event.t.matches('" + "(a?){30}" * 100 + "')", {"t": "a" * 3_000}),
        ("event.t.matches(event.t)", {"t": "(a?)" * 500}),
        ("event.t.matches(event.t)", {"t": BIG}),
    ],
    ids=range(7),
)
def test_regular_expressions_cannot_hang(text: str, data: object) -> None:
    start = time.perf_counter()
    outcome = attempt(lambda: compile_expression(text).evaluate({"event": data}))
    assert outcome in (True, False) or "refused" in str(outcome)
    assert time.perf_counter() - start < 3


def test_a_regular_expression_costs_text_times_program() -> None:
    pattern = "(a?){30}" * 100
    with pytest.raises(ExpressionError, match="units of work"):
        compile_expression(f"event.t.matches('{pattern}')").evaluate({"event": {"t": BIG}})
    assert compile_expression("event.t.matches('a+$')").evaluate({"event": {"t": BIG[:300_000]}}) is True


def test_importing_loads_neither_cel_nor_re2() -> None:
    """A server whose functions have no expressions starts without them."""
    script = "import sys, perdure.core.expressions; print({'cel_expr_python', 're2', 'zoneinfo'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


ONES = "[" + ",".join("1" * 1000) + "]"


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (f"{ONES}.all(a, {ONES}.all(b, {ONES}.all(c, a + b + c > 0)))", {}),
        ("event.l.all(a, event.l.all(b, a >= 0))", {"l": list(range(3_000))}),
        ("event.l.all(a, event.l == event.m)", {"l": list(range(3_000)), "m": list(range(3_000))}),
        ("event.l.map(a, event.t + a)", {"l": list(range(1000)), "t": BIG}),
        ("event.l.exists(a, event.t.contains('b'))", {"l": list(range(100_000)), "t": BIG}),
        ("event.l.exists(a, lowercase(event.t) == 'b')", {"l": list(range(100_000)), "t": BIG}),
        ("event.l.exists(a, -1 in event.l)", {"l": list(range(10_000))}),
        ("['a']" + ".map(x, x + x)" * 28, {}),
        ("[[1]]" + ".map(x, x + x)" * 28, {}),
        ("[1]" + ".map(x, [x, x])" * 28, {}),
        ("'' + [1]" + ".map(x, [x, x])" * 28, {}),
        ("[1]" + ".map(x, [x, x])" * 14 + " == event.l", {"l": [1]}),
    ],
    ids=range(12),
)
def test_work_is_bounded(text: str, data: object) -> None:
    start = time.perf_counter()
    outcome = attempt(lambda: compile_expression(text).evaluate({"event": data}))
    assert outcome is False or "units of work" in str(outcome)
    assert time.perf_counter() - start < 3


def test_ordinary_loops_are_far_from_the_bound() -> None:
    rows = [{"sku": f"s{number}", "qty": number} for number in range(2_000)]
    text = "event.data.rows.filter(r, r.qty > 1990 && r.sku.startsWith('s')).map(r, r.sku)"
    assert len(compile_expression(text).evaluate({"event": {"data": {"rows": rows}}})) == 9  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["event.a == event.b", "event.a + 'x'", "event.a", "event.a in [event.b]", "string(event.a)"]
)
def test_deep_data(text: str) -> None:
    deep = ("[" * 1000 + "]" * 1000).encode()
    with pytest.raises(ExpressionError, match="nested"):
        compile_expression(text).evaluate({"event": {"a": orjson.loads(deep), "b": orjson.loads(deep)}})


HUGE = 10**5000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event.n == 1.5", False),
        ("event.n > 1.5", True),
        ("event.n == event.n", True),
        ("event.n + 1", None),
        ("event.n * 1.5", None),
        ("double(event.n)", None),
        ("int(event.n)", None),
    ],
)
def test_huge_integers(text: str, expected: object) -> None:
    if expected is None:
        with pytest.raises(ExpressionError):
            compile_expression(text).evaluate({"event": {"n": HUGE}})
    else:
        assert compile_expression(text).evaluate({"event": {"n": HUGE}}) is expected


TOKENS = st.sampled_from(
    [
        *"()[]{}.,?:!-+*/%<>'\"\\ \n0123456789eax_",
        "event",
        "async",
        "data",
        "==",
        "!=",
        "&&",
        "||",
        "in",
        "null",
        "true",
        "size(",
        "has(",
        ".exists(x,",
        ".map(x,",
        "x)",
        "matches(",
        "date(",
        "timestamp(",
        "duration(",
        "int(",
        "1u",
        "b'a'",
        "'a'",
        "[1,2]",
        "{'a':1}",
        "event.data",
        "event.data.a",
        "async.data.a",
        "1.5",
        "now()",
        "type(",
        "string(",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=800, deadline=None)
@given(st.lists(TOKENS, max_size=12).map("".join), JSON, JSON)
def test_only_expression_errors_come_out_of_random_text(text: str, data: object, other: object) -> None:
    event = {"name": "e", "data": data}

    def use() -> None:
        expression = compile_expression(text)
        equalities(expression, event)
        interpolate(expression, event)
        expression.evaluate({"event": event, "async": {"data": other}}, 1_700_000_000_000)

    attempt(use)


OPERANDS = st.sampled_from(
    [
        "event.data",
        "async.data",
        "event.data.a",
        "async.data.b",
        "event.data[0]",
        "1",
        "2.5",
        "'1h'",
        "null",
        "[1,'a']",
        "3u",
        "{'a':1}",
        "b'x'",
        "timestamp(0)",
        "duration('1h')",
        "now()",
        "type(event.data)",
        "true",
        "event.gone",
    ]
)
FORMS = st.sampled_from(
    [
        "({0} == {1})",
        "({0} != {1})",
        "({0} < {1})",
        "({0} >= {1})",
        "({0} + {1})",
        "({0} && {1})",
        "({0} || {1})",
        "({0} ? {1} : {0})",
        "(dyn({0}) - dyn({1}))",
        "(dyn({0}) * dyn({1}))",
        "(dyn({0}) / dyn({1}))",
        "(dyn({0}) % dyn({1}))",
        "(dyn({0}) in dyn({1}))",
        "dyn({0})[dyn({1})]",
        "dyn({0}).a",
        "(!dyn({0}))",
        "(-dyn({0}))",
        "size(dyn({0}))",
        "[{0}, {1}]",
        "{{dyn({0}): {1}}}",
        "dyn({0}).map(x, [x, {1}])",
        "dyn({0}).filter(x, dyn({1}))",
        "dyn({0}).exists(x, x == {1})",
        "dyn({0}).all(x, {1})",
        "dyn({0}).exists_one(x, x < {1})",
        "string(dyn({0}))",
        "int(dyn({0}))",
        "double(dyn({0}))",
        "uint(dyn({0}))",
        "bytes(dyn({0}))",
        "bool(dyn({0}))",
        "timestamp(dyn({0}))",
        "duration(dyn({0}))",
        "date({0})",
        "dyn({0}).contains(dyn({1}))",
        "dyn({0}).matches(dyn({1}))",
        "lowercase(dyn({0}))",
        "b64decode(dyn({0}))",
        "json_parse(dyn({0}))",
        "now_plus(dyn({0}))",
        "type(dyn({0}))",
        "dyn({0}).getHours(dyn({1}))",
        "has(dyn({0}).a)",
    ]
)


@settings(max_examples=800, deadline=None)
@given(st.data(), JSON, JSON)
def test_any_value_may_stand_anywhere(draws: st.DataObject, data: object, other: object) -> None:
    text = draws.draw(OPERANDS)
    for _ in range(draws.draw(st.integers(1, 4))):
        text = draws.draw(FORMS).format(*draws.draw(st.permutations([text, draws.draw(OPERANDS)])))
    variables = {"event": {"data": data}, "async": {"data": other}}
    outcome = attempt(lambda: compile_expression(text).evaluate(variables, 1_700_000_000_000))
    assert "Syntax error" not in str(outcome)
