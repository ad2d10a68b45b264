"""Errors of one kind have one fingerprint, whatever values they name; others have another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.protocol.ids import new_ulid
from perdure.reading.fingerprints import MAX_PATTERN, fingerprint, top_own_frame, without_values
from perdure.reading.outputs import ErrorText

ENTROPY = st.binary(min_size=10, max_size=10)
VALUES = st.one_of(
    st.integers(0, 10**30).map(str),
    st.floats(0, 1e9).map(lambda x: f"{x:.3f}"),
    st.uuids().map(str),
    st.builds(new_ulid, st.integers(0, 2**47), ENTROPY),
    st.ip_addresses(v=4).map(str),
    st.emails(domains=st.just("example.org")).filter(lambda text: set("'\"`#!&{}|/=?$%^*~").isdisjoint(text)),
    st.integers(2**32, 2**64 - 1).map(hex),
    st.datetimes().map(lambda at: at.replace(microsecond=0).isoformat()),
    st.binary(min_size=8, max_size=32).map(bytes.hex),
)
WORDS = st.lists(
    st.text("ghijklmnopqrstuvwxyz", min_size=1, max_size=12), min_size=1, max_size=8, unique=True
)


def told(words: list[str], values: list[str]) -> str:
    """A message that names values between its words."""
    return " ".join(f"{word} {value}" for word, value in zip(words, values, strict=True))


@given(WORDS, st.data())
def test_other_values_are_the_same_error(words: list[str], data: st.DataObject) -> None:
    size = st.lists(VALUES, min_size=len(words), max_size=len(words))
    one, two = data.draw(size), data.draw(size)
    errors = [ErrorText(told(words, values), "Declined") for values in (one, two)]
    assert fingerprint(errors[0]) == fingerprint(errors[1])


@given(WORDS, WORDS, VALUES)
def test_other_words_are_another_error(one: list[str], two: list[str], value: str) -> None:
    same = one == two
    errors = [ErrorText(f"{' '.join(words)} {value}", "Declined") for words in (one, two)]
    assert (fingerprint(errors[0]).id == fingerprint(errors[1]).id) is same


@given(st.text(max_size=5_000), st.text(max_size=40), st.none() | st.text(max_size=500))
def test_any_text_has_one(message: str, name: str, stack: str | None) -> None:
    error = ErrorText(message, name, stack)
    found = fingerprint(error)
    assert found == fingerprint(error)
    assert len(found.pattern) <= MAX_PATTERN
    assert without_values(found.pattern) == found.pattern or len(found.pattern) == MAX_PATTERN


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        ("the card of order 17 was declined", "the card of order # was declined"),
        ("no such customer: cus_9s6XKzk", "no such customer: cus_#"),
        ("no such customer: cus_9s6XKzkNRiz8i3Pq", "no such customer: #"),
        ("at 2026-11-24T18:30:05.007 and 10.0.0.1:5432", "at # and #"),
        ("550 mailbox\n  of  a.b@example.org\tis full", "# mailbox of # is full"),
        ("<Order object at 0x7f3a2c>", "<Order object at #>"),
        ("'utf-8' codec can't decode", "'utf-#' codec can't decode"),
        ("well-known words_stay", "well-known words_stay"),
        ("", ""),
    ],
)
def test_what_goes_and_what_stays(message: str, pattern: str) -> None:
    assert without_values(message) == pattern


def test_name_and_place_tell_errors_apart() -> None:
    stack = 'Traceback (most recent call last):\n  File "/app/shop.py", line {}, in {}\n    x\nValueError: no'
    base = fingerprint(ErrorText("no", "ValueError", stack.format(3, "charge")))
    assert fingerprint(ErrorText("no", "ValueError", stack.format(99, "charge"))) == base
    assert fingerprint(ErrorText("no", "ValueError", stack.format(3, "refund"))).id != base.id
    assert fingerprint(ErrorText("no", "KeyError", stack.format(3, "charge"))).id != base.id


PYTHON = """Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/perdure/sdk/running.py", line 80, in run
    return body()
  File "/app/shop/orders.py", line 31, in charge
    client.post(url)
  File "/venv/lib/python3.11/site-packages/httpx/_client.py", line 1157, in post
    raise ReadTimeout
httpx.ReadTimeout: timed out"""
JAVASCRIPT = """Error: timed out
    at TLSSocket.onend (node:internal/errors:10:5)
    at async fetch (/app/node_modules/undici/index.js:4:1)
    at charge (/app/src/orders.ts:31:9)
    at async V1Engine.run (/app/node_modules/inngest/engine.js:1:2)"""
GO = "goroutine 1 [running]:\nmain.charge(...)\n\t/app/orders.go:12 +0x1d"


@pytest.mark.parametrize(
    ("stack", "frame"),
    [
        (PYTHON, "shop/orders.py in charge"),
        (JAVASCRIPT, "src/orders.ts in charge"),
        (GO, "app/orders.go"),
        ("    at node:internal/timers:5:3", "node:internal/timers"),
        ("    at /app/src/orders.ts:31:9", "src/orders.ts"),
        ("no stack at all", ""),
        (None, ""),
    ],
)
def test_the_place_is_the_innermost_of_the_authors_own(stack: str | None, frame: str) -> None:
    assert top_own_frame(stack) == frame
