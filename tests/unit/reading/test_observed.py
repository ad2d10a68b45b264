"""The observed schema says what there was in the payloads, no more and no less."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from perdure.reading.observed import MAX_FIELDS, MAX_ITEMS, observe, type_of

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), LEAVES | st.lists(LEAVES, max_size=3), max_size=4)


def told(*payloads: Any) -> dict[str, tuple[list[str], bool]]:
    return {field.path: (list(field.types), field.optional) for field in observe(payloads).fields}


@given(st.lists(st.dictionaries(st.sampled_from("xyz"), LEAVES | OBJECTS, max_size=3), max_size=8))
def test_every_field_and_type_of_the_payloads_and_no_other(payloads: list[dict[str, Any]]) -> None:
    found = observe(payloads)
    assert (found.payloads, found.more) == (len(payloads), False)
    top = {field.path: field for field in found.fields if "." not in field.path and "[]" not in field.path}
    assert set(top) == {name for payload in payloads for name in payload}
    for name, field in top.items():
        having = [payload[name] for payload in payloads if name in payload]
        assert set(field.types) == {type_of(value) for value in having}
        assert field.seen == len(having)
        assert field.optional is (len(having) < len(payloads))


def test_fields_within() -> None:
    assert told({"order": {"id": 1, "items": [{"sku": "a"}, {"sku": None, "n": 2}]}}, {"order": None}) == {
        "order": (["object", "null"], False),
        "order.id": (["number"], False),
        "order.items": (["array"], False),
        "order.items[]": (["object"], False),
        "order.items[].sku": (["string", "null"], False),
        "order.items[].n": (["number"], True),
    }


def test_names_with_dots_are_not_taken_for_paths() -> None:
    assert told({"a.b": 1, "a": {"b": True}}, {"a": {}}) == {
        "a.b": (["boolean"], True),
        "a": (["object"], False),
    }
    assert observe([{"a.b": 1}, {"a": {}}]).fields[0].optional is True


def test_late_fields_stand_beside_their_neighbours() -> None:
    assert list(told({"a": {"x": 1}, "b": 1}, {"a": {"y": 1}, "c": 2})) == ["a", "a.x", "a.y", "b", "c"]


def test_it_is_bounded_and_says_so() -> None:
    wide = observe([{f"key-{n}": n for n in range(MAX_FIELDS + 50)}])
    assert (len(wide.fields), wide.more) == (MAX_FIELDS, True)
    assert observe([{"list": list(range(MAX_ITEMS + 1))}]).more is True
    deep: Any = 1
    for _ in range(100):
        deep = {"in": deep}
    assert observe([deep]).more is True
    assert observe([]).fields == []


def test_what_is_no_object_has_no_fields() -> None:
    assert told(None, 5, "text") == {}
    assert told([1, "a"]) == {"[]": (["number", "string"], False)}
