"""Macros, functions, conversions and time."""

from __future__ import annotations

import pytest

from perdure.core.expressions import compile_expression
from perdure.errors import ExpressionError

NOW_MS = 1_700_000_000_000  # 2023-11-14T22:13:20Z
EVENT = {
    "data": {
        "list": [1, 2, 3],
        "none": [],
        "tags": ["a", "b", "c"],
        "rows": [{"id": 1, "ok": True}, {"id": 2}, {"id": 3, "ok": None}],
        "mixed": [1, "x", None],
        "map": {"k": 1, "l": 2},
        "s": "Héllo",
        "nil": None,
        "encoded": "eyJuZXN0ZWQiOnsiZGF0YSI6InllYSJ9fQ==",
        "ts": 1700000000000,
    }
}


def evaluate(text: str) -> object:
    return compile_expression(text).evaluate({"event": EVENT}, NOW_MS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("has(event.data.s)", True),
        ("has(event.data.nil)", True),
        ("has(event.data.gone)", False),
        ("has(event.gone.deeper)", False),
        ("has(event.data.s.deeper)", False),
        ("has({'a': 1}.a)", True),
        ("event.data.list.all(x, x > 0)", True),
        ("event.data.list.all(x, x > 1)", False),
        ("event.data.none.all(x, x > 1)", True),
        ("event.data.list.exists(x, x > 2)", True),
        ("event.data.list.exists(x, x > 3)", False),
        ("event.data.none.exists(x, true)", False),
        ("event.data.tags.exists(x, x == 'd' || x == 'a')", True),
        ("event.data.tags.exists(x, x)", True),
        ("event.data.list.exists_one(x, x > 2)", True),
        ("event.data.list.exists_one(x, x > 1)", False),
        ("event.data.list.map(x, x * 2)", [2, 4, 6]),
        ("event.data.list.map(x, x > 1, x * 2)", [4, 6]),
        ("event.data.list.filter(x, x != 2)", [1, 3]),
        ("event.data.map.map(k, k + '!')", ["k!", "l!"]),
        ("event.data.map.exists(k, event.data.map[k] == 2)", True),
        ("{true: 1}.map(k, k)", [True]),
        ("event.data.rows.filter(r, r.ok).map(r, r.id)", [1]),
        ("event.data.rows.map(r, r.ok)", [True, None, None]),
        ("event.data.rows.exists(r, r.ok == null)", True),
        ("event.data.rows.all(r, r.id >= 1 && r.gone == null)", True),
        ("event.data.mixed.exists(x, x > 0)", True),
        ("event.data.mixed.exists(x, x == 'x')", True),
        ("event.data.mixed.all(x, x > 1)", False),
        ("event.data.list.exists(x, event.data.list.exists(y, x + y == 6))", True),
        ("event.data.list.map(x, event.data.list.map(y, x * y))[2][2]", 9),
        ("event.data.list.map(x, [x].map(x, x + 1)[0] + x)", [3, 5, 7]),
        ("event.data.rows.map(event, event.id)", [1, 2, 3]),
        ("[1, 2].exists(async, async == 2)", True),
        ("event.data.list.filter(x, x > 1).size()", 2),
    ],
)
def test_macros(text: str, expected: object) -> None:
    assert evaluate(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "[1, 'x'].all(x, x > 0)",
        "[1, 'x'].exists(x, x > 5)",
        "event.data.mixed.exists_one(x, x > 0)",
        "event.data.mixed.map(x, x / 1)",
        "event.data.tags.filter(x, x)",
        "event.data.s.exists(x, true)",
        "event.data.nil.exists(x, true)",
    ],
)
def test_macros_that_cannot_be_computed(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'hello'.contains('ell')", True),
        ("'hello'.contains('what')", False),
        ("'hello'.startsWith('he')", True),
        ("'hello'.startsWith('lo')", False),
        ("'hello'.endsWith('lo')", True),
        ("'hello'.endsWith('he')", False),
        ("'hello'.matches('^h.*o$')", True),
        ("'hello'.matches('ell')", True),
        ("'hello'.matches('^ell')", False),
        ("matches('hello', '[a-z]+')", True),
        (r"'nope1'.matches('^[a-z\\d]{0,10}$')", True),
        ("event.data.s.matches('^H.llo$')", True),
        ("'x'.matches('(')", "error"),
        ("'x'.matches('(?=x)')", "error"),
        ("size('héllo')", 5),
        ("event.data.s.size()", 5),
        ("size([1, 2])", 2),
        ("event.data.map.size()", 2),
        ("size(b'é')", 2),
        ("lowercase('ÄB')", "äb"),
        ("uppercase(event.data.s) + '!'", "HÉLLO!"),
        ("b64decode('aGkgdGhlcmUh')", "hi there!"),
        ("b64decode('aGkg\\ndGhlcmUh')", "hi there!"),
        ("b64decode('not base64')", ""),
        ("b64decode('/w==')", "\ufffd"),
        ("json_parse(b64decode(event.data.encoded)).nested.data", "yea"),
        ("json_parse(b64decode(event.data.encoded)).nested.other == null", True),
        ("json_parse('[1]')", {}),
        ("json_parse('nope')", {}),
        ("json_parse('{\"a\": [1]}')", {"a": [1]}),
    ],
)
def test_text_functions(text: str, expected: object) -> None:
    if expected == "error":
        with pytest.raises(ExpressionError):
            evaluate(text)
    else:
        assert evaluate(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int('42')", 42),
        ("int('-42')", -42),
        ("int(4.9)", 4),
        ("int(-4.9)", -4),
        ("int(7u)", 7),
        ("int(timestamp('1970-01-01T00:01:00Z'))", 60),
        ("int('4.2')", "error"),
        ("int('1_0')", "error"),
        ("int(1e300)", "error"),
        ("int('99999999999999999999')", "error"),
        ("uint(5)", 5),
        ("uint(-1)", "error"),
        ("uint('7') == 7u", True),
        ("double('2.5')", 2.5),
        ("double('1e3')", 1000.0),
        ("double(2)", 2.0),
        ("double('nope')", "error"),
        ("double(' 1')", "error"),
        ("string(5)", "5"),
        ("string(5.0)", "5"),
        ("string(2.5)", "2.5"),
        ("string(true)", "true"),
        ("string(null)", "null"),
        ("string('x')", "x"),
        ("string(b'x')", "x"),
        ("string(b'\\xff')", "error"),
        ("string(timestamp('2020-01-02T03:04:05Z'))", "2020-01-02T03:04:05Z"),
        ("string(duration('90s'))", "90s"),
        ("bytes('é') == b'\\303\\251'", True),
        ("bool('true')", True),
        ("bool('FALSE')", False),
        ("bool('yes')", "error"),
        ("dyn(1) + 'x'", "1x"),
        ("type(1) == int", True),
        ("type(event.data.s) == string", True),
        ("type(event.data.list) == list", True),
        ("type(null) == null_type", True),
        ("type(1) == type(1.0)", False),
        ("type(type(1)) == type", True),
        ("type(timestamp(0)) == google.protobuf.Timestamp", True),
        ("type(2u)", "uint"),
    ],
)
def test_conversions(text: str, expected: object) -> None:
    if expected == "error":
        with pytest.raises(ExpressionError):
            evaluate(text)
    else:
        assert evaluate(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now()", "2023-11-14T22:13:20Z"),
        ("now_plus('1h')", "2023-11-14T23:13:20Z"),
        ("now_minus('1h30m')", "2023-11-14T20:43:20Z"),
        ("now_plus('2d')", "2023-11-16T22:13:20Z"),
        ("now_plus('1w') > now_plus('6d')", True),
        ("now_plus('soon')", "error"),
        ("date(event.data.ts) == now()", True),
        ("date(1700000000) == now()", True),
        ("date(1700000000.0) == now()", True),
        ("date(1700000000000000000) == now()", True),
        ("date(5)", "error"),
        ("date(true)", "error"),
        ("date('2023-11-14T22:13:20Z') == now()", True),
        ("date('2023-11-14T23:13:20+01:00') == now()", True),
        ("date('2023-11-14T22:13:20') == now()", True),
        ("date('2023-11-14T22:13:20.5Z')", "2023-11-14T22:13:20.5Z"),
        ("date('2023-11-14')", "2023-11-14T00:00:00Z"),
        ("date('Tue, 14 Nov 2023 22:13:20 GMT') == now()", True),
        ("date('Tue, 14 Nov 2023 23:13:20 +0100') == now()", True),
        ("date('14 Nov 23 22:13 UTC')", "2023-11-14T22:13:00Z"),
        ("date('Tuesday, 14-Nov-23 22:13:20 GMT') == now()", True),
        ("date('Tue Nov 14 22:13:20 -0000 2023') == now()", True),
        ("date('Tue Nov 14 22:13:20 UTC 2023') == now()", True),
        ("date('Tue Nov 14 22:13:20 2023') == now()", True),
        ("date('2023-02-30')", "error"),
        ("date('2023-11-14T25:00:00Z')", "error"),
        ("date('tomorrow')", "error"),
        ("date('2020-01-01T12:00:00') + duration('6h35m10s') == date('2020-01-01T18:35:10')", True),
        ("timestamp('2020-01-01T00:00:00Z') < now()", True),
        ("timestamp('2020-01-01')", "error"),
        ("timestamp(60)", "1970-01-01T00:01:00Z"),
        ("timestamp('0001-01-01T00:00:00Z')", "0001-01-01T00:00:00Z"),
        ("timestamp('0001-01-01T00:00:00+01:00')", "error"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s')", "error"),
        ("now() - duration('20s')", "2023-11-14T22:13:00Z"),
        ("duration('1h') + now() == now_plus('1h')", True),
        ("now_plus('1h') - now() == duration('60m')", True),
        ("duration('1h') - duration('1.5h')", "-1800s"),
        ("duration('1m') > duration('59s')", True),
        ("duration('1d')", "error"),
        ("duration('-1h1m1s1ms')", "-3661.001s"),
        ("duration('0')", "0s"),
        ("now().getFullYear()", 2023),
        ("now().getMonth()", 10),
        ("now().getDate()", 14),
        ("now().getDayOfMonth()", 13),
        ("now().getDayOfYear()", 317),
        ("now().getDayOfWeek()", 2),
        ("now().getHours()", 22),
        ("now().getHours('+02:00')", 0),
        ("now().getHours('America/New_York')", 17),
        ("now().getHours('Nowhere/Land')", "error"),
        ("now().getMinutes()", 13),
        ("now().getSeconds()", 20),
        ("timestamp('2020-01-01T00:00:00.123Z').getMilliseconds()", 123),
        ("duration('90m').getHours()", 1),
        ("duration('90m').getMinutes()", 90),
        ("'x' + now()", "x2023-11-14T22:13:20Z"),
        ("[now()]", ["2023-11-14T22:13:20Z"]),
    ],
)
def test_time(text: str, expected: object) -> None:
    if expected == "error":
        with pytest.raises(ExpressionError):
            evaluate(text)
    else:
        assert evaluate(text) == expected


@pytest.mark.parametrize(
    "text", ["now()", "now_plus('1h') > date(1700000000)", "1 == 1 && now_minus('1h') == null"]
)
def test_the_clock_is_given_not_read(text: str) -> None:
    with pytest.raises(ExpressionError, match="time"):
        compile_expression(text).evaluate({"event": EVENT})
