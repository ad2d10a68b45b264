from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.protocol.raw_json import MAX_NESTING, Element, Splitter, is_tidy, kind, nests_too_deep, tidy

MAX_SIZE = 60
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
objects = st.dictionaries(st.text(), values, max_size=4)


def split(body: bytes, cuts: list[int], max_size: int = MAX_SIZE) -> tuple[list[Element], str | None]:
    splitter = Splitter(max_size)
    elements: list[Element] = []
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        elements += splitter.feed(body[start:end])
    splitter.end()
    return elements, splitter.fault


@given(
    st.lists(objects, max_size=6), st.booleans(), st.sampled_from([None, 1]), st.lists(st.integers(0, 10_000))
)
def test_elements_are_found_wherever_the_pieces_end(
    items: list[object], escaped: bool, indent: int | None, cuts: list[int]
) -> None:
    body = json.dumps(items, ensure_ascii=escaped, indent=indent).encode()
    elements, fault = split(body, cuts, max_size=10**6)
    assert fault is None
    assert [json.loads(element.raw or b"") for element in elements] == items
    assert all(element.raw is not None and element.size == len(element.raw) for element in elements)


@given(
    st.binary() | st.text(alphabet='{}[]"\\,: a\n').map(str.encode),
    st.lists(st.integers(0, 10_000)),
)
def test_pieces_make_no_difference_whatever_the_bytes(body: bytes, cuts: list[int]) -> None:
    assert split(body, cuts) == split(body, [])
    assert split(body, list(range(len(body)))) == split(body, [])


def test_one_object_is_single() -> None:
    splitter = Splitter(MAX_SIZE)
    assert list(splitter.feed(b' {"a":"}"} ')) == [Element(b'{"a":"}"}', 9, False)]
    assert splitter.single
    assert splitter.end() is None
    assert splitter.fault is None


def test_a_long_object_is_measured_and_not_kept() -> None:
    splitter = Splitter(MAX_SIZE)
    long = b'{"a":"' + b"x" * 1000 + b'"}'
    elements = list(splitter.feed(b"[{},"))
    for at in range(0, len(long), 7):
        elements += splitter.feed(long[at : at + 7])
        assert len(splitter._buffer) <= MAX_SIZE + 7
    elements += splitter.feed(b",{}]")
    assert elements == [Element(b"{}", 2, False), Element(None, len(long), False), Element(b"{}", 2, False)]
    assert splitter.end() is None
    assert splitter.fault is None


@pytest.mark.parametrize("pieces", [1, 3, 1000, 10**6])
def test_deep_objects_are_told(pieces: int) -> None:
    body = (
        b'[{"a":'
        + b"[" * (MAX_NESTING - 1)
        + b"]" * (MAX_NESTING - 1)
        + b'},{"a":'
        + b"[" * MAX_NESTING
        + b"]" * MAX_NESTING
        + b"},{}]"
    )
    elements, fault = split(body, list(range(0, len(body), pieces)), max_size=10**6)
    assert [element.deep for element in elements] == [False, True, False]
    assert fault is None
    assert [nests_too_deep(element.raw or b"") for element in elements] == [False, True, False]


def test_many_brackets_are_not_deep() -> None:
    assert not nests_too_deep(b"[" + b"{}," * 10_000 + b"{}]")
    assert not nests_too_deep(b'["' + b"[" * 10_000 + b'"]')
    assert not nests_too_deep(b'["' + b"[" * 10_000)
    assert nests_too_deep(b"[" * 10_000)


@pytest.mark.parametrize("body", [b"[", b"[{}", b"[{},", b'{"a":"', b"{", b'{"\\'])
def test_the_end_can_come_too_early(body: bytes) -> None:
    splitter = Splitter(MAX_SIZE)
    list(splitter.feed(body))
    faults = [splitter.fault]
    assert splitter.end() == (body if body[:1] == b"{" else None)
    faults.append(splitter.fault)
    assert faults == [None, "Request body is not readable JSON: the text ends too early"]


def test_kinds() -> None:
    kinds = [
        kind(text)
        for text in (b"{}", b"[1]", b'"x"', b"null", b"true", b"false", b"-1", b"0", b"9.5", b"", b"x")
    ]
    assert (
        kinds
        == ["an object", "an array", "a string", "null", "a boolean", "a boolean"]
        + ["a number"] * 3
        + ["something else"] * 2
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
        (rb'"\uD83D\uDE00"', rb'"\uD83D\uDE00"'),
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uDE00"', rb'"\ufffd"'),
        (rb'"\ude00\ud83d"', rb'"\ufffd\ufffd"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\ud83dx\ude00"', rb'"\ufffdx\ufffd"'),
        (rb'"\\ud83d"', rb'"\\ud83d"'),
        (rb'"\\\ud83d"', rb'"\\\ufffd"'),
        (rb'{"\ud800":1}', rb'{"\ufffd":1}'),
        ('"\u20ac\U0001f600\\u00e9"'.encode(), '"\u20ac\U0001f600\\u00e9"'.encode()),
        (
            b"[1e308,-1e308,1e-999,0e999,0.0001e309,1e+99,1E99]",
            b"[1e308,-1e308,1e-999,0e999,0.0001e309,1e+99,1E99]",
        ),
        (b'["1e999","\\"1e999",{"1e999":1}]', b'["1e999","\\"1e999",{"1e999":1}]'),
        (b"1" * 309, b"1" * 309),
        (b'"' + b"9" * 400 + b'"', b'"' + b"9" * 400 + b'"'),
    ],
)
def test_tidy(text: bytes, expected: bytes) -> None:
    assert tidy(text) == expected
    assert not is_tidy(text) or text == expected
    msgspec.json.decode(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'"\xff"', "not UTF-8 (byte 1: 0xff)"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'"\xc0\x80"', "not UTF-8"),
        (b'"\xf4\x90\x80\x80"', "not UTF-8"),
        (b'"\xe2\x82"', "not UTF-8"),
        (b"1e309", "the number 1e309 is too large"),
        (b"[1,-1E+0309]", "the number 1E+0309 is too large"),
        (b"[0.01e311]", "too large"),
        (b"9" * 309, "the number 99999999999999999999… is too large"),
        (b"1" * 250 + b"e99", "too large"),
        (b"1" * 300 + b"." + b"1" * 300 + b"e10", "too large"),
    ],
)
def test_what_cannot_be_passed_on(text: bytes, message: str) -> None:
    assert not is_tidy(text)
    with pytest.raises(ValueError, match=r"\w") as raised:
        tidy(text)
    assert message in str(raised.value)


@given(st.binary() | st.text(alphabet='{}[]"\\,:udD8cef09+-.E').map(str.encode))
def test_what_is_tidy_and_json_can_be_read_by_all(text: bytes) -> None:
    tidied = b"null"
    with suppress(ValueError):
        tidied = tidy(text)
    if is_tidy(text):
        assert tidied == text
    with suppress(msgspec.DecodeError):
        msgspec.json.decode(tidied, type=msgspec.Raw)
        msgspec.json.decode(tidied)
        assert "Infinity" not in json.dumps(json.loads(tidied))
        json.dumps(json.loads(tidied), ensure_ascii=False).encode()


numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,320})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)


@given(st.lists(numbers, min_size=1))
def test_numbers_beyond_a_double_are_refused_and_no_others(texts: list[str]) -> None:
    body = f"[{','.join(texts)}]".encode()
    overflow = any(float(text) in (float("inf"), float("-inf")) for text in texts)
    if overflow:
        with pytest.raises(ValueError, match="too large"):
            tidy(body)
    else:
        assert tidy(body) == body
