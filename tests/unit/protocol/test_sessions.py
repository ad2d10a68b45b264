from __future__ import annotations

import json

import pytest

from perdure.protocol.sessions import MAX_META_BYTES, fold_sessions


def fold(meta: object) -> object:
    folded = fold_sessions(json.dumps(meta).encode())
    return None if folded is None else json.loads(folded)


def test_the_two_layers_become_one() -> None:
    # From a recorded exchange.
    meta = {
        "sessions": {"a": 1, "b": "x", "c": None},
        "propagated_sessions": {"a": "old", "c": "gone", "d": "kept"},
    }
    assert fold(meta) == {"sessions": {"a": "1", "b": "x", "d": "kept"}}


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"sessions": None},
        {"sessions": {}},
        {"sessions": {"a": None}},
        {"sessions": None, "propagated_sessions": {"a": "1"}},
        {"sessions": {"a": None}, "propagated_sessions": {"a": "1"}},
        {"propagated_sessions": None},
        {"propagated_sessions": {"a": None}},
        {"other": {"a": 1}},
    ],
)
def test_no_meta_is_left_without_sessions(meta: object) -> None:
    assert fold(meta) is None


def test_propagated_sessions_alone_are_kept() -> None:
    assert fold({"propagated_sessions": {"a": "1"}}) == {"sessions": {"a": "1"}}
    assert fold({"sessions": {}, "propagated_sessions": {"a": "1"}}) == {"sessions": {"a": "1"}}


def test_other_keys_of_meta_are_dropped() -> None:
    assert fold({"sessions": {"a": "1"}, "trace": {"x": 1}}) == {"sessions": {"a": "1"}}


def test_propagated_sessions_fill_up_to_five_in_the_order_of_their_keys() -> None:
    meta = {
        "sessions": {"z": "1", "y": "2", "b": None},
        "propagated_sessions": {key: key for key in "hgfedcba"},
    }
    assert fold(meta) == {"sessions": {"a": "a", "c": "c", "d": "d", "y": "2", "z": "1"}}


def test_the_result_is_in_canonical_form() -> None:
    meta = '{"sessions":{"\uffff":"1", "\U00010000" : "2","a":"\u20ac"}}'
    assert (
        fold_sessions(meta.encode()) == '{"sessions":{"a":"\u20ac","\U00010000":"2","\uffff":"1"}}'.encode()
    )


@pytest.mark.parametrize(
    ("number", "text"), [("1", "1"), ("1.50", "1.50"), ("-0", "-0"), ("1e3", "1e3"), ("9" * 30, "9" * 30)]
)
def test_numbers_become_their_decimal_text(number: str, text: str) -> None:
    assert (
        fold_sessions(b'{"sessions":{"a":%b}}' % number.encode())
        == json.dumps({"sessions": {"a": text}}, separators=(",", ":")).encode()
    )


def test_tombstones_do_not_count() -> None:
    sessions = {**dict.fromkeys("abcde", "x"), **dict.fromkeys("vwxyz")}
    assert fold({"sessions": sessions}) == {"sessions": dict.fromkeys("abcde", "x")}


LONGEST_KEY = "k" * 126 + "\u00e9"
LONGEST_ID = "i" * 510 + "\u00e9"


def test_the_longest_keys_and_ids() -> None:
    assert fold({"sessions": {LONGEST_KEY: LONGEST_ID}}) == {"sessions": {LONGEST_KEY: LONGEST_ID}}


@pytest.mark.parametrize("layer", ["sessions", "propagated_sessions"])
@pytest.mark.parametrize(
    ("sessions", "message"),
    [
        ({LONGEST_KEY + "k": "x"}, f'event session key "{LONGEST_KEY}k" exceeds 128 bytes'),
        ({"a": LONGEST_ID + "x"}, 'event session "a" exceeds 512 bytes'),
        ({"": "x"}, "event session keys cannot be empty"),
        ({"a": ""}, 'event session "a" cannot have an empty ID'),
        ({"a": True}, 'event session "a" must be a string or number'),
        ({"a": {}}, 'event session "a" must be a string or number'),
        ({"a": []}, 'event session "a" must be a string or number'),
    ],
)
def test_what_is_refused(layer: str, sessions: object, message: str) -> None:
    with pytest.raises(ValueError, match="event session") as raised:
        fold({layer: sessions})
    assert str(raised.value) == message


def test_six_sessions_are_too_many() -> None:
    with pytest.raises(ValueError, match="event sessions can include at most 5 entries"):
        fold({"sessions": {str(number): "x" for number in range(6)}})


@pytest.mark.parametrize("sessions", [[], "x", 5, True])
def test_a_layer_is_an_object_or_null(sessions: object) -> None:
    with pytest.raises(ValueError, match=r'"meta\.sessions" must be an object or null'):
        fold({"sessions": sessions})
    with pytest.raises(ValueError, match=r'"meta\.propagated_sessions" must be an object or null'):
        fold({"propagated_sessions": sessions})


def test_a_very_large_meta_is_not_read() -> None:
    with pytest.raises(ValueError, match="over the max size"):
        fold_sessions(b'{"x":"' + b"x" * MAX_META_BYTES + b'"}')
