"""The dialect's table, row by row, and what its essay says of the rest."""

from __future__ import annotations

import pytest

from perdure.core.expressions import compile_expression
from perdure.errors import ExpressionError

EVENT = {
    "name": "shop/order.paid",
    "data": {
        "n": 5,
        "f": 2.5,
        "five": 5.0,
        "s": "hello",
        "empty": "",
        "zero": 0,
        "nil": None,
        "yes": True,
        "no": False,
        "list": [1, 2, 3],
        "none": [],
        "map": {"k": 1, "nil": None},
        "a b": "spaced",
        "a.b": "dotted",
    },
    "ts": 1700000000000,
}
NOW_MS = 1_700_000_000_000


def evaluate(text: str, **more: object) -> object:
    return compile_expression(text).evaluate({"event": EVENT, **more}, NOW_MS)


def check(text: str, expected: object) -> None:
    value = evaluate(text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    "missing", ["event.data.no_such", "event.x.y.z", "event.data.s.deeper", "event.data.nil.deeper"]
)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{} == null", True),
        ("null == {}", True),
        ("{} == 'x'", False),
        ("{} == 0", False),
        ("{} == ''", False),
        ("{} == false", False),
        ("{} == event.data.s", False),
        ("'x' == {}", False),
        ("{} == event.data.nil", True),
        ("{} != null", False),
        ("null != {}", False),
        ("{} != 'x'", True),
        ("0 != {}", True),
        ("{} < 5", True),
        ("{} <= 5", True),
        ("{} < 'x'", True),
        ("{} <= -1", True),
        ("5 < {}", False),
        ("5 <= {}", False),
        ("'' <= {}", False),
        ("{} > 5", False),
        ("{} >= 5", False),
        ("{} >= -5", False),
        ("5 > {}", True),
        ("5 >= {}", True),
        ("-5 > {}", True),
        ("{} + 'x'", "x"),
        ("'x' + {}", "x"),
        ("{} + 5", 5),
        ("{} + [1]", [1]),
        ("size({})", 0),
        ("{}.size()", 0),
        ("{}.contains('x')", False),
        ("{}.startsWith('x')", False),
        ("{}.endsWith('x')", False),
        ("{}.matches('x')", False),
        ("'x'.contains({})", False),
        ("'x'.matches({})", False),
        ("lowercase({})", False),
        ("b64decode({})", False),
        ("json_parse({})", False),
        ("int({})", False),
        ("string({})", False),
        ("{}.all(x, x > 1)", False),
        ("{}.exists(x, x > 1)", False),
        ("{}.exists_one(x, x > 1)", False),
        ("{}.map(x, x)", False),
        ("{}.filter(x, x > 1)", False),
        ("{} in [1]", False),
        ("1 in {}", False),
        ("-{}", False),
        ("!{}", False),
        ("{} - 1", False),
        ("2 * {}", False),
        ("1 / {}", False),
        ("1 % {}", False),
        ("{}", False),
        ("[{}]", [None]),
        ("{} ? 'then' : 'else'", "else"),
    ],
)
def test_a_missing_operand(text: str, expected: object, missing: str) -> None:
    check(text.replace("{}", missing), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("==", False),
        ("!=", True),
        ("<", True),
        ("<=", True),
        (">", False),
        (">=", False),
        ("+", False),
    ],
)
def test_two_missing_operands(text: str, expected: object) -> None:
    check(f"event.data.p {text} event.data.q", expected)


@pytest.mark.parametrize("null", ["null", "event.data.nil"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{} == null", True),
        ("{} != null", False),
        ("{} == 'x'", False),
        ("{} != 'x'", True),
        ("{} == 0", False),
        ("{} == ''", False),
        ("{} == false", False),
        ("{} != 0", True),
        ("{} < 5", True),
        ("5 < {}", False),
        ("{} > 0", False),
        ("{} >= 0", True),
        ("{} <= 0", True),
        ("{} > -1", True),
        ("{} >= 1", False),
        ("{} < 0.5", True),
        ("{} < 'foo'", True),
        ("'foo' > {}", True),
        ("'' >= {}", True),
        ("{} < true", True),
        ("{} >= false", True),
        ("5 > {}", True),
        ("{} < 5u", True),
        ("'n' + {}", "nnull"),
    ],
)
def test_a_real_null(text: str, expected: object, null: str) -> None:
    check(text.replace("{}", null), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 == 1.0", True),
        ("event.data.five == 5", True),
        ("event.data.n == event.data.five", True),
        ("event.data.n != event.data.five", False),
        ("1 < 1.5", True),
        ("event.data.f >= 3", False),
        ("event.data.n > event.data.f", True),
        ("1u == 1", True),
        ("1u <= 1.0", True),
        ("1 == '1'", False),
        ("1 != '1'", True),
        ("event.data.n == '5'", False),
        ("true == 1", False),
        ("false == 0", False),
        ("true != 1", True),
        ("'true' == true", False),
        ("[1] == [1.0]", True),
        ("[1] == [true]", False),
        ("{'a': 1} == {'a': 1.0}", True),
        ("event.data.map == {'k': 1, 'nil': null}", True),
        ("event.data.map == {'k': 1, 'other': null}", False),
        ("event.data.map == {'k': 1}", False),
        ("[1, 2] == [1]", False),
        ("[] == {}", False),
        ("1 + 'x'", "1x"),
        ("'x' + 1", "x1"),
        ("'x' + 2.5", "x2.5"),
        ("'x' + 5.0", "x5"),
        ("'x' + true", "xtrue"),
        ("'x' + [1, 'a']", 'x[1,"a"]'),
        ("'x' + {'a': null}", 'x{"a":null}'),
        ("event.data.s + '-' + event.data.n + '-' + event.data.yes + '-' + event.data.gone", "hello-5-true-"),
        ("1 + 2.5", 3.5),
        ("event.data.n + event.data.f", 7.5),
        ("event.data.f * 2", 5.0),
        ("2 - event.data.f", -0.5),
        ("event.data.n / 2", 2),
        ("event.data.five / 2", 2.5),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7 % -2", 1),
        ("'a' + 'b'", "ab"),
        ("[1] + ['a']", [1, "a"]),
        ("'a' < 'b'", True),
        ("'Z' < 'a'", True),
        ("false < true", True),
        ("b'a' < b'b'", True),
    ],
)
def test_loose_typing(text: str, expected: object) -> None:
    check(text, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event.data.s && event.data.n", 5),
        ("event.data.n && event.data.s", "hello"),
        ("event.data.empty && event.data.s", ""),
        ("event.data.s && event.data.empty", ""),
        ("event.data.zero && true", 0),
        ("event.data.gone && event.data.s", False),
        ("event.data.s && event.data.gone", False),
        ("event.data.nil && true", None),
        ("event.data.empty || event.data.s", "hello"),
        ("event.data.s || event.data.n", "hello"),
        ("event.data.gone || event.data.s", "hello"),
        ("event.data.gone || event.data.lost", False),
        ("null || 'x'", "x"),
        ("0 || 0.0 || '' || 'last'", "last"),
        ("0u || 'x'", "x"),
        ("false || event.data.list", [1, 2, 3]),
        ("event.data.none || 'x'", []),
        ("event.data.n && event.data.f && true", True),
        ("true && false", False),
        ("false || true", True),
        ("true && (false || event.data.yes)", True),
        ("1 && true", True),
        ("1 < 'x' || true", True),
        ("true || 1 < 'x'", True),
        ("1 < 'x' || false", False),
        ("false && 1 < 'x'", False),
    ],
)
def test_truthiness(text: str, expected: object) -> None:
    check(text, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 / 0 == 1", False),
        ("1 / 0 != 1", True),
        ("1 / 0 == null", True),
        ("int('x') < 5", True),
        ("int('x') >= 5", False),
        ("size(event.data.list[0 / 0])", 0),
        ("!(1 < 'x')", False),
        ("size(event.data.nil) > 0", False),
        ("size(event.data.nil) == 0", False),
        ("string(1 / 0) == 'x'", False),
        ("'a'.contains(event.data.list[0 / 0])", False),
    ],
)
def test_an_error_inside_counts_as_missing(text: str, expected: object) -> None:
    check(text, expected)


@pytest.mark.parametrize(
    "text",
    [
        "1 < 'x'",
        "[1] < [2]",
        "event.data.map < event.data.map",
        "null < null",
        "event.data.nil >= null",
        "null < timestamp(0)",
        "true + false",
        "null + null",
        "{} + {}",
        "1 / 0",
        "1 % 0",
        "1 / 0 + 'x'",
        "'x' + 1 / 0",
        "[1 / 0]",
        "{'a': 1 / 0}",
        "{event.data.f: 1}",
        "{event.data.s: 1, 'hello': 2}",
        "!null",
        "!event.data.s",
        "-event.data.s",
        "event.data.s - 1",
        "event.data.s ? 1 : 2",
        "event.data.list[event.data.s]",
        "1 in event.data.s",
        "event.data.s.all(x, x)",
        "event.data.n.contains('x')",
        "event.data.n.size()",
        "lowercase(event.data.n)",
        "9223372036854775807 + 1",
        "-9223372036854775807 - 2",
        "0u - 1u",
        "-(-9223372036854775807 - 1)",
        "event.data.f % 2",
    ],
)
def test_what_cannot_be_computed_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(text)
    assert caught.value.message
    assert caught.value.position is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("event.data.yes", True),
        ("event.data.no", False),
        ("null", False),
        ("event.data.nil", False),
        ("event.data.gone", False),
        ("event.data.gone && event.data.s", False),
    ],
)
def test_as_a_condition(text: str, expected: bool) -> None:
    assert compile_expression(text).is_true({"event": EVENT}) is expected


@pytest.mark.parametrize(
    "text", ["1", "0", "'true'", "''", "event.data.list", "event.data.s && event.data.n", "1 < 'x'"]
)
def test_other_types_are_no_condition(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(text).is_true({"event": EVENT})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event['name']", "shop/order.paid"),
        ('event["data"]["s"]', "hello"),
        ("event.data['a b']", "spaced"),
        ("event.data['a.b']", "dotted"),
        ("event.data.`a b`", "spaced"),
        ("event.data[event.data.gone]", False),
        ("event.data['s']", "hello"),
        ("event.data.list[0]", 1),
        ("event.data.list[2.0]", 3),
        ("event.data.list[3]", False),
        ("event.data.list[-1]", False),
        ("event.data.list['0']", False),
        ("[1, 2][1]", 2),
        ("{'a': 'x'}['a']", "x"),
        ("{'a': 'x'}.a", "x"),
        ("{1: 'x'}[dyn(1.0)]", "x"),
        ("{true: 'x', 1: 'y'}[true]", "x"),
        ("{true: 'x', 1: 'y'}[1]", "y"),
        ("{'a': 'x'}.b == null", True),
        ("{'a': 1, 2: [true, null]}", {"a": 1, "2": [True, None]}),
        ("{}", {}),
        ("[]", []),
        ("event.data.map", {"k": 1, "nil": None}),
        ("event.data.yes ? 'then' : 'else'", "then"),
        ("event.data.no ? 'then' : 'else'", "else"),
        ("null ? 'then' : 'else'", "else"),
        ("event.data.n > 3 ? 1 : 'other type'", 1),
        ("1 in [1, 2]", True),
        ("dyn(1.0) in [1, 2]", True),
        ("event.data.s in ['hello', 5]", True),
        ("event.data.n in event.data.list", False),
        ("true in event.data.list", False),
        ("null in [null]", True),
        ("'k' in event.data.map", True),
        ("'nil' in event.data.map", True),
        ("'x' in event.data.map", False),
        ("event.data.f in event.data.map", False),
        ("\"double\" + 'single'", "doublesingle"),
        ('"it\'s"', "it's"),
        ("'say \"x\"'", 'say "x"'),
        (r"'\n\t\\'", "\n\t\\"),
        (r"r'\d'", r"\d"),
        ("'''a\n'b' '''", "a\n'b' "),
        ("'\\u00e9'", "é"),
        ("0x10", 16),
        ("1e3", 1000.0),
        ("!true", False),
        ("!!event.data.yes", True),
        ("-event.data.n", -5),
        ("-9223372036854775808", -9223372036854775808),
        ("// why\n event.data.n // five", 5),
        ("b'abc'", "YWJj"),
        ("5u", 5),
    ],
)
def test_syntax(text: str, expected: object) -> None:
    check(text, expected)


def test_variables() -> None:
    text = "event.data.n == async.data.n && output.n == 7"
    assert evaluate(text, **{"async": {"data": {"n": 5}}, "output": {"n": 7}}) is True
    assert evaluate(text, **{"async": {"data": {"n": 5}}}) is False
    assert compile_expression("event == null").evaluate({}) is True
    assert compile_expression("async").evaluate({}) is False


def test_the_expression_keeps_its_text_and_is_cached() -> None:
    first = compile_expression("event.data.n  ==  5")
    assert first.text == "event.data.n  ==  5"
    assert compile_expression("event.data.n  ==  5") is first
    assert "event.data.n" in repr(first)
