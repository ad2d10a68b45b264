"""Where the dialect and stock CEL agree, so do the two evaluators: well-typed expressions without nulls and errors."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from cel_expr_python import cel
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from perdure.core.expressions import compile_expression

EVENT = {
    "i": 7,
    "d": 2.5,
    "s": "hello",
    "t": True,
    "ints": [3, 1, 2],
    "words": ["a", "bb", ""],
    "m": {"k": 1, "l": 2},
}

Text = st.SearchStrategy[str]


def either(*strategies: Text) -> Text:
    return st.one_of(*strategies)


def infix(left: Text, names: str, right: Text) -> Text:
    return st.builds("({} {} {})".format, left, st.sampled_from(names.split()), right)


@cache
def trees(kind: str, depth: int) -> Text:
    """Expressions of CEL type `kind`, at most `depth` operators deep."""
    if depth == 0:
        return LEAVES[kind]

    def sub(of: str) -> Text:
        return trees(of, depth - 1)

    choice = st.builds("({} ? {} : {})".format, sub("bool"), sub(kind), sub(kind))
    return st.one_of(LEAVES[kind], choice, NODES[kind](sub))


LEAVES: dict[str, Text] = {
    "int": either(
        st.integers(-9, 9).map(str),
        st.sampled_from(["event.i", "event.m.k", "event.ints[1]", "size(event.words)"]),
    ),
    "double": either(st.sampled_from(["0.5", "-1.25", "3.0", "event.d", "1e3"])),
    "string": either(
        st.text("aéb'\"\\\n😀", max_size=3).map(lambda s: json.dumps(s, ensure_ascii=False)),
        st.just("event.s"),
    ),
    "bool": st.sampled_from(["true", "false", "event.t", "has(event.s)", "has(event.nope)"]),
    "ints": st.sampled_from(["event.ints", "[]", "[1, 2]", "[5]"]),
    "strings": st.sampled_from(["event.words", "['x', 'y']", "['']"]),
    "timestamp": st.sampled_from(
        ["timestamp('2020-02-29T12:30:15.25Z')", "timestamp('1969-12-31T23:59:59Z')", "timestamp(0)"]
    ),
    "duration": st.sampled_from(["duration('1h')", "duration('-90s')", "duration('1.5s')"]),
}

NODES: dict[str, Any] = {
    "int": lambda sub: either(
        infix(sub("int"), "+ - * / %", sub("int")),
        st.builds("(-{})".format, sub("int")),
        st.builds("size({})".format, either(sub("string"), sub("ints"), sub("strings"))),
        st.builds("int({})".format, either(sub("int"), sub("double"), sub("timestamp"))),
        st.builds("int(string({}))".format, sub("int")),
        st.builds(
            "{}.{}()".format,
            sub("timestamp"),
            st.sampled_from(["getFullYear", "getMonth", "getDayOfWeek", "getDayOfYear"]),
        ),
        st.builds(
            "{}.{}('+05:30')".format,
            sub("timestamp"),
            st.sampled_from(["getHours", "getDate", "getDayOfMonth"]),
        ),
        st.builds(
            "{}.{}()".format, sub("duration"), st.sampled_from(["getHours", "getMinutes", "getSeconds"])
        ),
    ),
    "double": lambda sub: either(
        infix(sub("double"), "+ - * /", sub("double")),
        st.builds("double({})".format, either(sub("int"), sub("double"))),
    ),
    "string": lambda sub: either(
        infix(sub("string"), "+", sub("string")),
        st.builds("string({})".format, either(sub("int"), sub("bool"))),
    ),
    "bool": lambda sub: either(
        infix(sub("bool"), "&& || == !=", sub("bool")),
        st.builds("(!{})".format, sub("bool")),
        *(
            infix(sub(kind), "== != < <= > >=", sub(kind))
            for kind in ("int", "double", "string", "timestamp", "duration")
        ),
        infix(sub("ints"), "== !=", sub("ints")),
        infix(sub("int"), "in", sub("ints")),
        infix(sub("string"), "in", either(sub("strings"), st.just("event.m"))),
        st.builds(
            "{}.{}({})".format,
            sub("string"),
            st.sampled_from(["contains", "startsWith", "endsWith"]),
            sub("string"),
        ),
        st.builds(
            "{}.matches({})".format,
            sub("string"),
            st.sampled_from(["'^a+'", "'[^é]$'", "'.'", "'(?i)HEL'", r"'\\d'", "''"]),
        ),
        st.builds(
            "{}.{}(x, x > {})".format,
            sub("ints"),
            st.sampled_from(["all", "exists", "exists_one"]),
            sub("int"),
        ),
        st.builds(
            "{}.{}(x, x == {})".format,
            sub("strings"),
            st.sampled_from(["all", "exists", "exists_one"]),
            sub("string"),
        ),
    ),
    "ints": lambda sub: either(
        infix(sub("ints"), "+", sub("ints")),
        st.builds("[{}, {}]".format, sub("int"), sub("int")),
        st.builds("{}.map(y, y * {})".format, sub("ints"), sub("int")),
        st.builds("{}.map(y, y > {}, y + 1)".format, sub("ints"), sub("int")),
        st.builds("{}.filter(y, y != {})".format, sub("ints"), sub("int")),
    ),
    "strings": lambda sub: either(
        st.builds("[{}]".format, sub("string")),
        st.builds("{}.map(z, z + {})".format, sub("strings"), sub("string")),
    ),
    "timestamp": lambda sub: infix(sub("timestamp"), "+ -", sub("duration")),
    "duration": lambda sub: either(
        infix(sub("duration"), "+ -", sub("duration")), infix(sub("timestamp"), "-", sub("timestamp"))
    ),
}


@cache
def stock() -> Any:
    return cel.NewEnv(variables={"event": cel.Type.DYN})


@settings(max_examples=800, deadline=None)
@given(
    st.sampled_from(["int", "double", "string", "bool", "ints", "strings"]).flatmap(
        lambda kind: trees(kind, 3)
    )
)
def test_well_typed_expressions_agree_with_stock_cel(text: str) -> None:
    try:
        compiled = stock().compile(text)
    except RuntimeError:
        assume(False)  # A literal of a kind that the checker already knows to be wrong, such as an overflow.
    value = compiled.eval(data={"event": EVENT})
    assume(value.type() != cel.Type.ERROR)
    expected = value.plain_value()
    ours = compile_expression(text).evaluate({"event": EVENT})
    assert ours == expected or repr(ours) == repr(expected) == "nan"
    assert type(ours) is type(expected)
