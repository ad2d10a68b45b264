"""Broken versions of good requests: somewhere between what clients send and noise."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

WEIRD_TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "", " ", "\x00", "\ud800", "\udfff\ud800", "\u2028", "\U0001f308" * 5, "a" * 300, "a" * 5000, "../..",
            "inngest/x", "INNGEST/function.finished", "*", "a/*", "%00", "'; DROP TABLE runs; --", "\n\r\n",
            "event.data.x ==", "event.data.x == async.data.y", "1" * 400, "-1", "1e999", "NaN", "null", "[", "{}",
            "9999-99-99T99:99:99Z", "2026-01-01T00:00:00Z", "10s", "-5s", "1w2d", "99999999999d", "* * * * *",
            "http://", "http://[", "http://localhost:99999/x", "file:///etc/passwd", "http://localhost:1/api/inngest",
        ]
    ),
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-5, 5),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([2**53, 2**60, 2**63, 2**64, 10**30, 1e21, 1e308, -0.0, 10**400]),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WEIRD_TEXT)
JUNK = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(WEIRD_TEXT.map(str), inner, max_size=4)
    ),
    max_leaves=8,
)


def nested(depth: int) -> Any:
    """A list in a list, so many levels deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each (container, key) of a JSON value."""
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        here = pending.pop()
        if isinstance(here, dict):
            items: list[tuple[Any, Any]] = list(here.items())
        elif isinstance(here, list):
            items = list(enumerate(here))
        else:
            continue
        for key, inner in items:
            found.append((here, key))
            pending.append(inner)
    return found


@st.composite
def mutated(draw: st.DrawFn, valid: Any, most: int = 3) -> Any:
    """The value with up to `most` parts replaced, removed, repeated or renamed."""
    value = copy.deepcopy(valid)
    for _ in range(draw(st.integers(0, most))):
        spots = places(value)
        if not spots:
            return draw(JUNK)
        container, key = spots[draw(st.integers(0, len(spots) - 1))]
        match draw(st.sampled_from(["replace", "replace", "remove", "repeat", "rename", "deep"])):
            case "replace":
                container[key] = draw(JUNK)
            case "remove":
                del container[key]
            case "repeat" if isinstance(container, list):
                container.extend([container[key]] * draw(st.integers(1, 30)))
            case "rename" if isinstance(container, dict):
                container[draw(WEIRD_TEXT)] = container.pop(key)
            case "deep":
                container[key] = nested(draw(st.sampled_from([50, 300, 600])))
    return draw(st.sampled_from([value, value, value, [value], {"data": value}])) if most else value


@st.composite
def noisy(draw: st.DrawFn, good: bytes) -> bytes:
    """The bytes, sometimes cut, spliced or followed by others."""
    match draw(st.sampled_from(["as it is"] * 5 + ["cut", "splice", "append", "noise", "deep"])):
        case "cut":
            return good[: draw(st.integers(0, max(len(good) - 1, 0)))]
        case "splice":
            at = draw(st.integers(0, len(good)))
            return good[:at] + draw(st.binary(min_size=1, max_size=6)) + good[at:]
        case "append":
            return good + draw(st.binary(min_size=1, max_size=6))
        case "noise":
            return draw(st.binary(max_size=200))
        case "deep":
            return draw(st.sampled_from([b"[", b'{"a":'])) * draw(st.sampled_from([100, 3000, 100_000]))
    return good


def encoded(value: Any, ascii_only: bool = True) -> bytes:
    """JSON, or nearly: NaN and infinity are written as Python does."""
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


def bodies(valid: Any, most: int = 3) -> st.SearchStrategy[bytes]:
    """Broken versions of a JSON body."""
    return (
        st.builds(encoded, mutated(valid, most), st.booleans())
        .flatmap(noisy)
    )  # fmt: skip
