"""Keys: buckets of events, and what nothing in an event can break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.flow.keys import EMPTY, SHOWN, Key, KeyExpression, digest, key_of
from tests.unit.core.unhurried import unhurried

EVENT: dict[str, object] = {
    "name": "a/b",
    "data": {
        "user": "ada",
        "n": 5,
        "f": 5.0,
        "half": 2.5,
        "yes": True,
        "no": False,
        "nil": None,
        "list": [1, "x"],
    },
    "ts": 1,
}


def bucket(text: str | None) -> Key:
    return KeyExpression(text).bucket(EVENT, 0)


def test_a_value_makes_a_bucket_and_can_be_read() -> None:
    assert bucket("event.data.user") == Key(digest("ada"), "ada")
    assert bucket("event.data.user + '-' + event.data.n").value == "ada-5"
    assert len(bucket("event.data.user").id) == 32


def test_the_id_is_the_same_for_ever() -> None:
    """Rows in databases are found by it."""
    assert digest("ada") == "c6ef43c47f8c23627ee5b9f8f5cb406c"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("event.data.n", "5"),
        ("event.data.f", "5"),
        ("event.data.half", "2.5"),
        ("event.data.yes", "true"),
        ("event.data.no", "false"),
        ("event.data.user == 'bob'", "false"),
        ("event.data.list", '[1,"x"]'),
        ("{'b': 1, 'a': 2}", '{"a":2,"b":1}'),
        ("'constant'", "constant"),
        ("''", ""),
    ],
)
def test_values_of_all_kinds(text: str, value: str) -> None:
    found = bucket(text)
    assert found.value == value
    assert found.id == digest(value)


@pytest.mark.parametrize("text", [None, "event.data.nil", "event.data.no_such", "event.x.y.z", "null"])
def test_nothing_is_the_empty_bucket(text: str | None) -> None:
    assert bucket(text) == EMPTY


@pytest.mark.parametrize("text", ["1 / (event.data.n - 5)", "int(event.data.user)", "event.data.n > 'x'"])
def test_what_cannot_be_computed_is_the_empty_bucket_and_says_why(text: str) -> None:
    found = bucket(text)
    assert (found.id, found.value) == ("", "")
    assert found.problem is not None
    assert text in found.problem


def test_a_text_that_does_not_compile_is_the_empty_bucket_and_says_why() -> None:
    found = bucket("event.data.")
    assert (found.id, found.value) == ("", "")
    assert "event.data." in (found.problem or "")
    again = KeyExpression("event.data.").bucket_if_any(EVENT, 0)
    assert again == found


def test_false_and_missing_are_two_buckets_although_the_dialect_gives_false_for_both() -> None:
    assert bucket("event.data.no").id == digest("false")
    assert bucket("event.data.gone").id == ""
    assert bucket("event.data.gone // a comment").id == ""


@pytest.mark.parametrize("text", ["event.data.no", "event.data.gone", "event.data.user == 'bob'", "false"])
def test_a_limit_that_may_be_left_out_is_for_false_and_missing(text: str) -> None:
    assert KeyExpression(text).bucket_if_any(EVENT, 0) is None


@pytest.mark.parametrize("text", ["event.data.nil", None])
def test_it_is_not_left_out_for_null_or_without_key(text: str | None) -> None:
    assert KeyExpression(text).bucket_if_any(EVENT, 0) == EMPTY


def test_a_failed_key_is_not_left_out() -> None:
    found = KeyExpression("1 / 0").bucket_if_any(EVENT, 0)
    assert found is not None
    assert found.id == ""
    assert found.problem is not None


def test_long_values_are_cut_for_people_but_not_in_the_id() -> None:
    one, two = key_of("x" * 500 + "1"), key_of("x" * 500 + "2")
    assert len(one.value) == SHOWN
    assert one.value == two.value
    assert one.id != two.id


def test_whether_events_share_the_key_is_read_from_the_text() -> None:
    assert KeyExpression(None).shared
    assert KeyExpression("'openai'").shared
    assert not KeyExpression("event.data.user").shared


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@unhurried
@given(json_values)
def test_any_value_makes_one_bucket(value: object) -> None:
    one, two = key_of(value), key_of(value)
    assert one == two
    assert len(one.id) == (0 if value is None else 32)
    assert one.problem is None
    assert Key.decode(one.encode()) == one


@unhurried
@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_order_of_a_map_does_not_matter(value: dict[str, int]) -> None:
    assert key_of(value) == key_of(dict(reversed(value.items())))


@unhurried
@given(json_values)
def test_no_event_makes_a_key_raise(value: object) -> None:
    for text in ("event.data", "event.data.a + 1", "event.data.size()", "event.data[0]", "int(event.data)"):
        assert isinstance(KeyExpression(text).bucket({"data": value}, 0), Key)
        KeyExpression(text).bucket_if_any({"data": value}, 0)
