"""Bodies that are JSON, almost JSON, or nothing of the kind."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.protocol.payloads import (
    NestedTooDeeply,
    as_json,
    json_string,
    json_text,
    unquoted,
    valid_utf8,
    without_lone_surrogates,
)


@pytest.mark.parametrize(
    ("body", "mended"),
    [
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
        (rb'"\uD83D\uDE00"', rb'"\uD83D\uDE00"'),
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\ude00\ud83d"', rb'"\ufffd\ufffd"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\\ud83d"', rb'"\\ud83d"'),
        (rb'"\\\ud83d"', rb'"\\\ufffd"'),
        (rb'"\u00e9"', rb'"\u00e9"'),
    ],
)
def test_halves_of_surrogate_pairs(body, mended):
    assert without_lone_surrogates(body) == mended
    msgspec.json.decode(without_lone_surrogates(body))


def test_json_is_given_back_as_it_is_and_text_is_quoted():
    assert json_text(b' {"a": 1.0}\n') == b'{"a": 1.0}'
    assert json_text(b"{a}") is None
    assert json_text(rb'"\ud800"') == rb'"\ufffd"'
    assert as_json(b"{a}") == b'"{a}"'
    assert as_json(b"\xef\xbb\xbf1") == '"\ufeff1"'.encode()
    assert as_json(b"\t ") == b"null"


def test_nesting_that_cannot_be_checked():
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(NestedTooDeeply):
        json_text(deep)
    with pytest.raises(NestedTooDeeply):
        json_text(b'["\\ud800",' + deep + b"]")
    assert as_json(deep) == b'"' + deep + b'"'


@pytest.mark.parametrize(("levels", "taken"), [(300, True), (400, True), (700, False), (850, False)])
def test_nesting_that_only_a_later_reader_could_not_follow(levels, taken):
    value = b'{"half":"\\ud800","deep":' + b"[" * levels + b"]" * levels + b"}"
    assert (as_json(value)[:1] == b"{") is taken


def test_width_is_not_depth():
    wide = b"[" + b"[[]]," * 100_000 + b"[]]"
    assert json_text(wide) == wide


def test_strings():
    assert json_string('a"\n\ud800') == b'"a\\"\\n?"'
    assert unquoted(b'"\\u00e9"') == "é".encode()
    assert unquoted(b"1") is None
    assert unquoted(b'"open') is None


@given(st.binary())
def test_any_bytes_become_json(body):
    assert valid_utf8(body).decode() is not None
    json.loads(as_json(body))


@given(st.text(alphabet=st.characters()))
def test_any_text_becomes_a_json_string(text):
    assert json.loads(json_string(text)) == text.encode("utf-8", "replace").decode()
