"""What people are told about an expression that does not compile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.expressions import compile_expression
from perdure.errors import ExpressionError
from perdure.protocol.faults import MARGIN, explain, place, pointer


def fault(text: str) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("event.data.x ==", "line 1, column 16: the expression ends where a value is expected; complete it"),
        ("event.data.x ? 1", "line 1, column 17: the expression ends where ':' is expected; complete it"),
        ("event.data.x ==\n   && true", "line 2, column 4: '&&' stands where a value is expected"),
        (
            "true true",
            "line 1, column 6: the expression is complete before 'true'; join two conditions with &&",
        ),
        ("event.data.x = 1", "line 1, column 14: a single = means nothing; write == to compare"),
        ("event.a & event.b", "line 1, column 9: a single & means nothing; write &&"),
        ("event.a | event.b", "line 1, column 9: a single | means nothing; write ||"),
        ("event.data.x == 'abc", "line 1, column 17: the quote that begins here is not closed"),
        ("event.data.x == 1 #", "line 1, column 19: '#' has no meaning here"),
        ("1 == \x00", "line 1, column 6: this character has no meaning here"),
        ("event.data. ==", "line 1, column 13: '. ==' cannot be read"),
        (
            "user.id == 1",
            "line 1, column 5: 'user' is not known; an expression sees the event as `event` (write event.",
        ),
        ("event.data.user-id == 1", "line 1, column 17: 'id' is not known, and - is a minus"),
        ("frob(event)", "line 1, column 5: there is no function 'frob' that takes these arguments"),
        ("size(1, 2, 3)", "line 1, column 5: there is no function 'size' that takes these arguments"),
        ("lowercase(1)", "line 1, column 10: 'lowercase' does not take arguments of the types (int)"),
        ("1 % 'a'", "line 1, column 3: '%' does not take arguments of the types (int, string)"),
        ("'é' == 'é' x", "line 1, column 12: the expression is complete before 'x'"),
        ("(" * 40, "the expression is nested too deeply (CEL allows 32 levels)"),
        (
            "google.protobuf.Duration{}",
            "the protobuf message 'google.protobuf.Duration' cannot be built here",
        ),
    ],
)
def test_a_fault_in_words(text: str, told: str) -> None:
    explained = explain(text, fault(text))
    assert explained.startswith(told)
    assert "ERROR" not in explained
    assert "<EOF>" not in explained


@pytest.mark.parametrize(
    ("text", "position", "where"),
    [
        ("", 0, "line 1, column 1"),
        ("abc", 3, "line 1, column 4"),
        ("a\nbc", 1, "line 1, column 2"),
        ("a\nbc", 2, "line 2, column 1"),
        ("a\n\nbc", 4, "line 3, column 2"),
    ],
)
def test_a_place(text: str, position: int, where: str) -> None:
    assert place(text, position) == where


@pytest.mark.parametrize(
    ("text", "position", "lines"),
    [
        ("event.a = 1", 8, ["    event.a = 1", "            ^"]),
        ("true &&\n\tx", 9, ["     x", "     ^"]),
        ("'\u6f22' == x", 7, ["    '\u6f22' == x", "            ^"]),
        ("", 0, ["    ", "    ^"]),
    ],
)
def test_the_line_and_a_caret(text: str, position: int, lines: list[str]) -> None:
    assert pointer(text, position).split("\n") == lines


def test_of_a_long_line_the_part_around_the_fault_is_shown() -> None:
    shown, caret = pointer("a" * 5_000 + "!" + "b" * 5_000, 5_000).split("\n")
    assert shown == "    …" + "a" * MARGIN + "!" + "b" * (MARGIN - 1) + "…"
    assert shown[caret.index("^")] == "!"


@given(st.text(max_size=200), st.data())
def test_a_caret_stands_under_its_character_in_any_text(text: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(text)))
    shown, caret = pointer(text, position).split("\n")
    assert caret.strip() == "^"
    assert len(shown) <= 2 * MARGIN + 6
    assert place(text, position).startswith("line ")


@given(st.text("evnt.da=&|!'\"()[]{}, \n1%-?:", max_size=25))
def test_any_text_compiles_or_is_explained(text: str) -> None:
    try:
        compile_expression(text)
    except ExpressionError as error:
        told = explain(text, error)
    else:
        told = "compiles"
    assert told
    assert "\n" not in told
